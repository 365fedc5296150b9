namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>Records of one lane, in order, on their way through the function.</summary>
public sealed class Batch
{
    internal Batch(int lane, ArraySegment<BufferedRecord> records)
    {
        Lane = lane;
        Buffered = records;
    }

    public int Lane { get; }

    public int Count => Buffered.Count;

    public IEnumerable<StreamRecord> Records => Buffered.Select(buffered => buffered.Record);

    public StreamRecord First => Buffered[0].Record;

    public StreamRecord Last => Buffered[^1].Record;

    /// <summary>Failed invocations that count against the mapping's retry attempts.</summary>
    public int FailedAttempts { get; internal init; }

    /// <summary>Invocations of these records so far, those as part of a larger batch included.</summary>
    public int Invocations { get; internal set; }

    /// <summary>How the last of them ended; null when there was none.</summary>
    public InvocationOutcome? LastOutcome { get; internal set; }

    /// <summary>Throttled attempts in a row.</summary>
    internal int Throttles { get; init; }

    internal DateTimeOffset NotBefore { get; init; }

    internal ArraySegment<BufferedRecord> Buffered { get; }

    /// <summary>A part of it, or all of it, to be sent again.</summary>
    internal Batch Slice(int from, int count, int failedAttempts, DateTimeOffset notBefore, int throttles = 0) =>
        new(Lane, Buffered.Slice(from, count))
        {
            FailedAttempts = failedAttempts,
            Invocations = Invocations,
            LastOutcome = LastOutcome,
            Throttles = throttles,
            NotBefore = notBefore,
        };
}

/// <summary>A record that was read and is not yet behind the checkpoint.</summary>
internal sealed class BufferedRecord(StreamRecord record, DateTimeOffset readAt)
{
    public StreamRecord Record { get; private set; } = record;

    public DateTimeOffset ReadAt { get; } = readAt;

    public bool Done { get; private set; }

    /// <summary>Marks it as processed and lets go of its content: it may have to wait for others before it.</summary>
    public void Finish()
    {
        Done = true;
        Record = Record with { Json = default };
    }
}

/// <summary>Why records were given up; the names are those of the on-failure document.</summary>
public enum DiscardCondition
{
    RetryAttemptsExhausted,
    RecordAgeExceeded,
}

/// <summary>What a shard wants done next.</summary>
public abstract record ShardAction(Batch Batch)
{
    /// <summary>Invoke the function with the batch, then call <see cref="ShardProcessor.Complete"/>.</summary>
    public sealed record Invoke(Batch Batch) : ShardAction(Batch);

    /// <summary>Hand the batch to the on-failure destination, if there is one, then call <see cref="ShardProcessor.Discarded"/>.</summary>
    public sealed record Discard(Batch Batch, DiscardCondition Condition) : ShardAction(Batch);
}
