using Amazon.DynamoDBv2;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Streams;

/// <summary>What one read brought.</summary>
/// <param name="Records">In the shard's order.</param>
/// <param name="IsEnd">True when the shard is closed and this was its end.</param>
/// <param name="Trimmed">True when the stream does not hold the position any more: records behind it may have been lost.</param>
public sealed record StreamPage(IReadOnlyList<StreamRecord> Records, bool IsEnd, bool Trimmed = false);

/// <summary>A place in a shard. Iterators come and go with their 15 minutes of life; the position stays.</summary>
public sealed class ShardCursor(StreamSource stream, string shardId, ShardPosition from)
{
    private string? _iterator;

    /// <summary>Behind the last record that was read.</summary>
    public ShardPosition Position { get; private set; } = from;

    /// <summary>
    /// The end of an open shard as it is now: what StartingPosition LATEST means. It is resolved to a sequence number, by
    /// reading once through the shard, because an iterator could not be kept over a restart: what is written while the
    /// emulator is down must not be skipped.
    /// </summary>
    public static async Task<ShardPosition> LatestAsync(StreamSource stream, string shardId, CancellationToken cancellationToken)
    {
        var cursor = new ShardCursor(stream, shardId, new ShardPosition.TrimHorizon());
        while (true)
        {
            var page = await cursor.ReadAsync(cancellationToken);
            if (page.IsEnd || (page.Records.Count == 0 && !page.Trimmed))
            {
                return page.IsEnd ? new ShardPosition.Finished() : cursor.Position;
            }
        }
    }

    /// <summary>Reads on. If it throws, nothing has moved: call again.</summary>
    public async Task<StreamPage> ReadAsync(CancellationToken cancellationToken)
    {
        var iteratorIsNew = _iterator is null;
        try
        {
            _iterator ??= await stream.GetIteratorAsync(shardId, Position, cancellationToken);
            var (records, next) = await stream.GetRecordsAsync(_iterator, cancellationToken);
            if (records.Count > 0)
            {
                Position = new ShardPosition.After(records[^1].SequenceNumber);
            }

            _iterator = next;
            return new StreamPage(records, IsEnd: next is null);
        }
        catch (AmazonDynamoDBException e) when (e.ErrorCode == "ExpiredIteratorException" && !iteratorIsNew)
        {
            // DynamoDB Streams API reference, "GetShardIterator": an iterator expires 15 minutes after it was given out.
            _iterator = null;
            return await ReadAsync(cancellationToken);
        }
        catch (AmazonDynamoDBException e) when (e.ErrorCode == "TrimmedDataAccessException")
        {
            // Nothing was passed over when the oldest record that is left is what was asked for. (DynamoDB Local answers so to an
            // iterator from before the first record of a shard.)
            var wasAtBeginning = Position is ShardPosition.TrimHorizon;
            _iterator = null;
            Position = new ShardPosition.TrimHorizon();
            return new StreamPage([], IsEnd: false, Trimmed: !wasAtBeginning);
        }
    }
}
