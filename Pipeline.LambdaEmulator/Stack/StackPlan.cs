using Amazon.DynamoDBv2.Model;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Functions;

namespace Pipeline.LambdaEmulator.Stack;

/// <summary>What of a template is done locally, with every name resolved.</summary>
public sealed record StackPlan(
    IReadOnlyList<TablePlan> Tables,
    IReadOnlyList<BucketPlan> Buckets,
    IReadOnlyList<QueuePlan> Queues,
    IReadOnlyList<FunctionDefinition> Functions,
    IReadOnlyList<MappingPlan> Mappings,
    IReadOnlyList<QueueMappingPlan> QueueMappings,
    IReadOnlyList<IgnoredResource> Ignored);

/// <param name="Create">The table as CreateTable takes it.</param>
/// <param name="TimeToLiveAttribute">The attribute of its TTL; null: none.</param>
/// <param name="NotApplied">Properties of the resource that have no effect locally.</param>
public sealed record TablePlan(CreateTableRequest Create, string? TimeToLiveAttribute, IReadOnlyList<string> NotApplied);

/// <param name="Name">The bucket's name.</param>
/// <param name="NotApplied">Properties of the resource that have no effect locally.</param>
public sealed record BucketPlan(string Name, IReadOnlyList<string> NotApplied);

/// <param name="Name">The queue's name.</param>
/// <param name="Attributes">As CreateQueue takes them.</param>
/// <param name="NotApplied">Properties of the resource that have no effect locally.</param>
public sealed record QueuePlan(string Name, IReadOnlyDictionary<string, string> Attributes, IReadOnlyList<string> NotApplied);

/// <param name="Id">Stays the same as long as the resource keeps its stack and logical id: checkpoints are filed under it.</param>
/// <param name="Function">The function that gets the batches.</param>
/// <param name="Table">The table whose stream is read.</param>
/// <param name="StreamArn">The stream; null: the table's latest.</param>
/// <param name="Settings">How it is read.</param>
/// <param name="OnFailure">Where discarded batches are reported; null: nowhere.</param>
/// <param name="IsEnabled">False: nothing is read.</param>
public sealed record MappingPlan(
    Guid Id,
    FunctionDefinition Function,
    string Table,
    string? StreamArn,
    MappingSettings Settings,
    OnFailurePlan? OnFailure,
    bool IsEnabled);

/// <param name="Id">As that of a stream's mapping.</param>
/// <param name="Function">The function that gets the batches.</param>
/// <param name="Queue">The name of the queue that is read.</param>
/// <param name="QueueArn">What the events call it.</param>
/// <param name="Settings">How it is read.</param>
/// <param name="IsEnabled">False: nothing is read.</param>
public sealed record QueueMappingPlan(
    Guid Id,
    FunctionDefinition Function,
    string Queue,
    string QueueArn,
    QueueSettings Settings,
    bool IsEnabled);

/// <summary>An on-failure destination.</summary>
public abstract record OnFailurePlan
{
    private OnFailurePlan()
    {
    }

    public sealed record Sqs(string QueueName) : OnFailurePlan;

    public sealed record S3(string BucketName) : OnFailurePlan;
}

/// <summary>A resource with which nothing is done locally.</summary>
public sealed record IgnoredResource(string LogicalId, string Type);

/// <summary>The template cannot be emulated: the message names the resource and what to change.</summary>
public sealed class TemplateException(string message) : Exception(message);
