namespace Pipeline.LambdaEmulator.Streams;

/// <summary>A shard as DescribeStream lists it.</summary>
/// <param name="Id">Its id.</param>
/// <param name="ParentId">The shard that it continues; null for the first.</param>
/// <param name="IsClosed">True when nothing will be written to it any more.</param>
public sealed record Shard(string Id, string? ParentId, bool IsClosed);

/// <summary>How far a shard is processed.</summary>
public abstract record ShardPosition
{
    private ShardPosition()
    {
    }

    /// <summary>From the oldest record that is left.</summary>
    public sealed record TrimHorizon : ShardPosition
    {
        public override string ToString() => "TRIM_HORIZON";
    }

    /// <summary>From the record behind this one.</summary>
    public sealed record After(string SequenceNumber) : ShardPosition
    {
        public override string ToString() => $"after {SequenceNumber}";
    }

    /// <summary>To its end.</summary>
    public sealed record Finished : ShardPosition
    {
        public override string ToString() => "SHARD_END";
    }
}

/// <summary>
/// Which shards may be read. DynamoDB developer guide, "Change data capture for DynamoDB Streams": an application
/// must process a parent shard before its children to keep an item's changes in order.
/// </summary>
public static class ShardOrder
{
    /// <summary>The shards that can be started: not finished, not running, and their parent is finished or trimmed away.</summary>
    public static IReadOnlyList<Shard> Startable(
        IReadOnlyCollection<Shard> listed, IReadOnlyDictionary<string, ShardPosition> positions, IReadOnlySet<string> running)
    {
        var unfinished = listed.Select(shard => shard.Id).Where(id => positions.GetValueOrDefault(id) is not ShardPosition.Finished).ToHashSet();
        return [.. listed.Where(shard =>
            unfinished.Contains(shard.Id)
            && !running.Contains(shard.Id)
            && (shard.ParentId is null || !unfinished.Contains(shard.ParentId)))];
    }

    /// <summary>The positions of shards that the stream does not list any more and that can be forgotten, and those that were lost.</summary>
    public static (IReadOnlyList<string> Forgotten, IReadOnlyList<string> Lost) Unlisted(
        IReadOnlyCollection<Shard> listed, IReadOnlyDictionary<string, ShardPosition> positions)
    {
        var gone = positions.Keys.Except(listed.Select(shard => shard.Id)).ToList();
        return (
            [.. gone.Where(id => positions[id] is ShardPosition.Finished)],
            [.. gone.Where(id => positions[id] is not ShardPosition.Finished)]);
    }
}
