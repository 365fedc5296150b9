using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Amazon.S3;
using Amazon.S3.Model;
using Amazon.SQS;
using Amazon.SQS.Model;
using ResourceNotFoundException = Amazon.DynamoDBv2.Model.ResourceNotFoundException;

namespace Pipeline.LambdaEmulator.Stack;

/// <summary>
/// Creates the tables, buckets and queues of a plan where they are missing, and refuses what is there with another
/// shape: data is never changed or deleted to fit a template.
/// </summary>
public sealed partial class Provisioner(IAmazonDynamoDB dynamoDb, IAmazonS3 s3, IAmazonSQS sqs, ILogger<Provisioner> logger)
{
    private static readonly string[] QueueAttributes = ["VisibilityTimeout", "RedrivePolicy"];

    /// <summary>What it is at, for the message when that does not come to an end.</summary>
    public string Step { get; private set; } = "";

    /// <exception cref="TemplateException">A table or queue exists with another shape.</exception>
    public async Task ProvisionAsync(StackPlan plan, CancellationToken cancellationToken)
    {
        foreach (var table in plan.Tables)
        {
            await TableAsync(table, cancellationToken);
        }

        foreach (var bucket in plan.Buckets)
        {
            await BucketAsync(bucket, cancellationToken);
        }

        // SQS refuses a redrive policy whose dead-letter queue is not there yet.
        foreach (var queue in plan.Queues.OrderBy(queue => queue.Attributes.ContainsKey("RedrivePolicy")))
        {
            await QueueAsync(queue, cancellationToken);
        }

        foreach (var ignored in plan.Ignored)
        {
            LogIgnored(ignored.LogicalId, ignored.Type);
        }
    }

    /// <summary>In what an existing table differs from the wanted one; null if it can be used as it is.</summary>
    public static string? Difference(CreateTableRequest wanted, TableDescription actual)
    {
        if (Keys(wanted.KeySchema) is var keys && Keys(actual.KeySchema) is var actualKeys && keys != actualKeys)
        {
            return $"its key is {actualKeys}, the template's is {keys}";
        }

        if (wanted.StreamSpecification is { } stream)
        {
            var view = actual.StreamSpecification is { StreamEnabled: true } specification ? specification.StreamViewType : null;
            if (view != stream.StreamViewType)
            {
                return view is null ? "it has no stream, the template's has" : $"its stream is {view}, the template's is {stream.StreamViewType}";
            }
        }

        foreach (var index in wanted.GlobalSecondaryIndexes ?? [])
        {
            var found = (actual.GlobalSecondaryIndexes ?? []).Find(candidate => candidate.IndexName == index.IndexName);
            if (found is null || Keys(found.KeySchema) != Keys(index.KeySchema))
            {
                return $"its index {index.IndexName} is {(found is null ? "missing" : Keys(found.KeySchema))}, the template's is {Keys(index.KeySchema)}";
            }
        }

        return null;
    }

    /// <summary>As above, of the time to live: switched on, it deletes what is there.</summary>
    private static string? Difference(string? wantedAttribute, TimeToLiveDescription? actual)
    {
        var isOn = actual?.TimeToLiveStatus == TimeToLiveStatus.ENABLED || actual?.TimeToLiveStatus == TimeToLiveStatus.ENABLING;
        var attribute = isOn ? actual!.AttributeName : null;
        return attribute == wantedAttribute ? null
            : $"its time to live is {attribute ?? "off"}, the template's is {wantedAttribute ?? "off"}";
    }

    /// <summary>
    /// In what an existing queue differs from the wanted one, of what decides how often and when its messages are delivered.
    /// </summary>
    public static string? Difference(IReadOnlyDictionary<string, string> wanted, IReadOnlyDictionary<string, string> actual)
    {
        foreach (var name in QueueAttributes.Where(wanted.ContainsKey))
        {
            var found = actual.GetValueOrDefault(name);
            if (Canonical(found) != Canonical(wanted[name]))
            {
                return $"its {name} is {found ?? "not set"}, the template's is {wanted[name]}";
            }
        }

        return null;
    }

    /// <summary>A redrive policy is JSON, whose numbers may be written as texts and whose members have no order.</summary>
    private static string? Canonical(string? attribute) => attribute is ['{', ..] && JsonNode.Parse(attribute) is JsonObject json
        ? string.Join(',', json.OrderBy(member => member.Key, StringComparer.Ordinal).Select(member => $"{member.Key}={member.Value}"))
        : attribute;

    private static string Keys(IEnumerable<KeySchemaElement> keys) =>
        string.Join(", ", keys.Select(key => $"{key.AttributeName} ({key.KeyType})"));

    private async Task TableAsync(TablePlan plan, CancellationToken cancellationToken)
    {
        var name = plan.Create.TableName;
        Step = $"table {name} in DynamoDB";
        LogNotApplied("table", name, plan.NotApplied);
        if (await FindTableAsync(name, cancellationToken) is { } existing)
        {
            var ttl = await dynamoDb.DescribeTimeToLiveAsync(new DescribeTimeToLiveRequest { TableName = name }, cancellationToken);
            if ((Difference(plan.Create, existing) ?? Difference(plan.TimeToLiveAttribute, ttl.TimeToLiveDescription)) is { } difference)
            {
                throw new TemplateException(
                    $"Table {name} exists, but {difference}. The emulator changes no existing table: delete it, or start with new data.");
            }

            LogFound("table", name);
            return;
        }

        await dynamoDb.CreateTableAsync(plan.Create, cancellationToken);
        if (plan.TimeToLiveAttribute is { } attribute)
        {
            await dynamoDb.UpdateTimeToLiveAsync(
                new UpdateTimeToLiveRequest
                {
                    TableName = name,
                    TimeToLiveSpecification = new TimeToLiveSpecification { Enabled = true, AttributeName = attribute },
                },
                cancellationToken);
        }

        LogCreated("table", name);
    }

    private async Task<TableDescription?> FindTableAsync(string name, CancellationToken cancellationToken)
    {
        try
        {
            return (await dynamoDb.DescribeTableAsync(name, cancellationToken)).Table;
        }
        catch (ResourceNotFoundException)
        {
            return null;
        }
    }

    private async Task BucketAsync(BucketPlan plan, CancellationToken cancellationToken)
    {
        Step = $"bucket {plan.Name} in S3";
        LogNotApplied("bucket", plan.Name, plan.NotApplied);
        var existing = await s3.ListBucketsAsync(cancellationToken);
        if ((existing.Buckets ?? []).Exists(bucket => bucket.BucketName == plan.Name))
        {
            LogFound("bucket", plan.Name);
            return;
        }

        await s3.PutBucketAsync(new PutBucketRequest { BucketName = plan.Name }, cancellationToken);
        LogCreated("bucket", plan.Name);
    }

    private async Task QueueAsync(QueuePlan plan, CancellationToken cancellationToken)
    {
        Step = $"queue {plan.Name} in SQS";
        LogNotApplied("queue", plan.Name, plan.NotApplied);
        if (await FindQueueAsync(plan.Name, cancellationToken) is not { } url)
        {
            await sqs.CreateQueueAsync(
                new CreateQueueRequest { QueueName = plan.Name, Attributes = new Dictionary<string, string>(plan.Attributes) }, cancellationToken);
            LogCreated("queue", plan.Name);
            return;
        }

        var existing = await sqs.GetQueueAttributesAsync(url, ["All"], cancellationToken);
        if (Difference(plan.Attributes, existing.Attributes ?? []) is { } difference)
        {
            throw new TemplateException(
                $"Queue {plan.Name} exists, but {difference}. The emulator changes no existing queue: delete it, its messages with it, or start with new data.");
        }

        LogFound("queue", plan.Name);
    }

    private async Task<string?> FindQueueAsync(string name, CancellationToken cancellationToken)
    {
        try
        {
            return (await sqs.GetQueueUrlAsync(name, cancellationToken)).QueueUrl;
        }
        catch (QueueDoesNotExistException)
        {
            return null;
        }
    }

    private void LogNotApplied(string kind, string name, IReadOnlyList<string> properties)
    {
        if (properties.Count > 0)
        {
            LogNotApplied(kind, name, string.Join(", ", properties));
        }
    }

    [LoggerMessage(LogLevel.Information, "Created {Kind} {Name}")]
    private partial void LogCreated(string kind, string name);

    [LoggerMessage(LogLevel.Information, "Found {Kind} {Name}")]
    private partial void LogFound(string kind, string name);

    [LoggerMessage(LogLevel.Information, "Of {Kind} {Name}, without effect locally: {Properties}")]
    private partial void LogNotApplied(string kind, string name, string properties);

    [LoggerMessage(LogLevel.Information, "Nothing is done locally with {LogicalId} ({Type})")]
    private partial void LogIgnored(string logicalId, string type);
}
