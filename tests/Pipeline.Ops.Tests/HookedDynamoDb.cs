using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;

namespace Pipeline.Ops.Tests;

/// <summary>DynamoDB, with something happening before or behind the reading of some orders by their keys, which only a reconciliation does.</summary>
internal sealed class HookedDynamoDb(string accessKey, AmazonDynamoDBConfig config) : AmazonDynamoDBClient(accessKey, accessKey, config)
{
    private int _batches;

    /// <summary>Gets which reading it is, from 1.</summary>
    public Func<int, Task> BeforeBatch { get; set; } = _ => Task.CompletedTask;

    /// <summary>Gets which reading it was, from 1.</summary>
    public Func<int, Task> AfterBatch { get; set; } = _ => Task.CompletedTask;

    public override async Task<BatchGetItemResponse> BatchGetItemAsync(BatchGetItemRequest request, CancellationToken cancellationToken = default)
    {
        var batch = Interlocked.Increment(ref _batches);
        await BeforeBatch(batch);
        var answer = await base.BatchGetItemAsync(request, cancellationToken);
        await AfterBatch(batch);
        return answer;
    }
}
