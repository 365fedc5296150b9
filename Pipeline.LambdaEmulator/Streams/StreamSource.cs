using System.Text.Json;
using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Streams;

/// <summary>The calls of one stream.</summary>
public sealed class StreamSource(DynamoDbStreamsClient client, string streamArn, StreamRecordFormat format, TimeProvider time)
{
    /// <summary>Records of one GetRecords call, the most that the API gives (it also stops at 1 MB).</summary>
    private const int PageSize = 1000;

    private const string StreamArn = "StreamArn";

    /// <summary>All shards of the stream, in pages of at most 100.</summary>
    /// <exception cref="AmazonDynamoDBException">ResourceNotFoundException: the stream does not exist.</exception>
    public async Task<IReadOnlyList<Shard>> ListShardsAsync(CancellationToken cancellationToken)
    {
        var shards = new List<Shard>();
        string? last = null;
        do
        {
            var request = new JsonObject { [StreamArn] = streamArn, ["ExclusiveStartShardId"] = last };
            using var answer = JsonDocument.Parse(await client.CallAsync("DescribeStream", request, cancellationToken));
            var description = answer.RootElement.GetProperty("StreamDescription");
            if (description.TryGetProperty("Shards", out var page))
            {
                shards.AddRange(page.EnumerateArray().Select(shard => new Shard(
                    shard.GetProperty("ShardId").GetString()!,
                    shard.TryGetProperty("ParentShardId", out var parent) ? parent.GetString() : null,
                    shard.TryGetProperty("SequenceNumberRange", out var range)
                        && range.TryGetProperty("EndingSequenceNumber", out var end) && end.ValueKind == JsonValueKind.String)));
            }

            last = description.TryGetProperty("LastEvaluatedShardId", out var more) ? more.GetString() : null;
        }
        while (last is not null);
        return shards;
    }

    /// <summary>An iterator at a position of a shard.</summary>
    /// <exception cref="AmazonDynamoDBException">TrimmedDataAccessException: the stream does not hold that record any more.</exception>
    public async Task<string> GetIteratorAsync(string shardId, ShardPosition position, CancellationToken cancellationToken)
    {
        var request = new JsonObject { [StreamArn] = streamArn, ["ShardId"] = shardId, ["ShardIteratorType"] = "TRIM_HORIZON" };
        if (position is ShardPosition.After after)
        {
            request["ShardIteratorType"] = "AFTER_SEQUENCE_NUMBER";
            request["SequenceNumber"] = after.SequenceNumber;
        }

        using var answer = JsonDocument.Parse(await client.CallAsync("GetShardIterator", request, cancellationToken));
        return answer.RootElement.GetProperty("ShardIterator").GetString()!;
    }

    /// <summary>Records from an iterator on, and the iterator behind them; none after the end of a closed shard.</summary>
    /// <exception cref="AmazonDynamoDBException">ExpiredIteratorException or TrimmedDataAccessException.</exception>
    public async Task<(IReadOnlyList<StreamRecord> Records, string? NextIterator)> GetRecordsAsync(
        string iterator, CancellationToken cancellationToken)
    {
        var answer = await client.CallAsync(
            "GetRecords", new JsonObject { ["ShardIterator"] = iterator, ["Limit"] = PageSize }, cancellationToken);
        return format.Parse(answer, time.GetUtcNow());
    }
}
