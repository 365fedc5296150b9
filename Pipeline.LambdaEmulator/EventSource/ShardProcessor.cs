using Pipeline.LambdaEmulator.Functions;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>
/// The event source mapping's rules for one shard: which batch is invoked next, what becomes of it, and how far
/// the shard is done. It does no I/O, has no clock and starts nothing: the caller feeds it what was read
/// (<see cref="Read"/>, <see cref="EndOfShard"/>), carries out what <see cref="Next"/> asks for and reports back
/// (<see cref="Complete"/>, <see cref="Discarded"/>). The same calls give the same answers.
/// Not for use by several threads at once.
/// </summary>
/// <remarks>
/// A shard has as many lanes as the mapping's parallelization factor; all changes of an item share a lane, and a
/// lane has one batch in flight, so an item's changes stay in order (Lambda developer guide, "Using AWS Lambda
/// with Amazon DynamoDB": in-order processing at the item level). The checkpoint is the last record before which
/// every record is processed.
/// </remarks>
public sealed class ShardProcessor
{
    /// <summary>
    /// The payload of a synchronous invocation, in bytes (Lambda developer guide, "Lambda quotas": 6 MB; this is the
    /// number that Lambda's own error names). A batch closes before it gets larger.
    /// </summary>
    public const int PayloadBytesMax = 6_291_556;

    /// <summary>
    /// Records that are processed but wait for one before them: a sequence number each, about 250 bytes, so 25 MB a shard at most.
    /// </summary>
    public const int DoneMax = 100_000;

    /// <summary>DynamoDB developer guide, "Change data capture for DynamoDB Streams": records are kept for 24 hours.</summary>
    public static readonly TimeSpan Retention = TimeSpan.FromHours(24);

    private readonly MappingSettings _settings;
    private readonly Lane[] _lanes;

    /// <summary>In stream order, whatever the lanes do: the checkpoint moves over those at the front that are done.</summary>
    private readonly Queue<BufferedRecord> _aheadOfCheckpoint = new();

    private bool _ended;

    public ShardProcessor(MappingSettings settings)
    {
        _settings = settings;
        _lanes = [.. Enumerable.Range(0, settings.ParallelizationFactor).Select(index => new Lane(index))];
    }

    /// <summary>The sequence number up to which all is processed; null before the first.</summary>
    public string? Checkpoint { get; private set; }

    /// <summary>True once the shard has ended and every record of it is processed.</summary>
    public bool IsFinished => _ended && _aheadOfCheckpoint.Count == 0;

    /// <summary>Records read and not processed.</summary>
    public int Buffered { get; private set; }

    /// <summary>How often a failed batch was split, at a reported record or in halves.</summary>
    public int Bisections { get; private set; }

    /// <summary>Invocations so far of the batch that was tried most, of those that are not processed; 0 when none has failed.</summary>
    public int Attempts => _lanes.Max(lane => (lane.InFlight ?? (lane.Retries.TryPeek(out var retry) ? retry : null))?.Invocations ?? 0);

    /// <summary>Bytes of the records that are not processed yet.</summary>
    public long BufferedBytes { get; private set; }

    /// <summary>When the oldest unprocessed record was written; null when there is none.</summary>
    public DateTimeOffset? OldestUnprocessed => _aheadOfCheckpoint.TryPeek(out var oldest) ? oldest.Record.CreatedAt : null;

    /// <summary>
    /// Whether more should be read: enough for every lane's batch in flight and its next one, no more, so that memory
    /// is bounded whatever the backlog is. What is processed or filtered out is none of that: it may wait in large numbers
    /// for a batch that gathers or is retried.
    /// </summary>
    public bool WantsMore => !_ended
        && Buffered < 2 * _settings.BatchSize * _lanes.Length
        && BufferedBytes < 2L * PayloadBytesMax * _lanes.Length
        && _aheadOfCheckpoint.Count - Buffered < DoneMax;

    /// <summary>Takes a record that was read, in the shard's order.</summary>
    public void Read(StreamRecord record, DateTimeOffset now)
    {
        var buffered = new BufferedRecord(record, now);
        _aheadOfCheckpoint.Enqueue(buffered);
        Buffered++;
        BufferedBytes += record.Json.Length;
        if (_settings.Filter is null || _settings.Filter.Matches(record.Json))
        {
            _lanes[record.ItemHash % (ulong)_lanes.Length].Waiting.Enqueue(buffered);
        }
        else
        {
            // Lambda developer guide, "Control which events Lambda sends to your function": once the filter has
            // seen a record, the iterator advances past it.
            Finish([buffered]);
        }
    }

    /// <summary>The shard is closed and all of it has been read.</summary>
    public void EndOfShard() => _ended = true;

    /// <summary>What to do now; null when there is nothing. Call again until null: lanes are independent.</summary>
    public ShardAction? Next(DateTimeOffset now)
    {
        foreach (var lane in _lanes)
        {
            if (lane.InFlight is null && NextOf(lane, now) is { } action)
            {
                lane.InFlight = action.Batch;
                return action;
            }
        }

        return null;
    }

    /// <summary>When <see cref="Next"/> can have something although nothing else happened; null: not by itself.</summary>
    public DateTimeOffset? NextAt(DateTimeOffset now)
    {
        DateTimeOffset? earliest = null;
        foreach (var lane in _lanes.Where(lane => lane.InFlight is null))
        {
            var at = lane.Retries.TryPeek(out var retry) ? (IsExhausted(retry) ? now : Earlier(retry.NotBefore, ExpiresAt(retry.Buffered[0])))
                : lane.Waiting.TryPeek(out var oldest) ? (IsReady(lane, now) ? now : oldest.ReadAt + _settings.BatchingWindow)
                : (DateTimeOffset?)null;
            earliest = earliest is { } e && at is { } a ? Earlier(e, a) : earliest ?? at;
        }

        return earliest;
    }

    /// <summary>The outcome of an invocation that <see cref="Next"/> asked for.</summary>
    /// <returns>How many records of the batch, from its first on, are processed; the others are tried again.</returns>
    public int Complete(Batch batch, InvocationOutcome outcome, DateTimeOffset now)
    {
        var lane = Land(batch);
        switch (outcome)
        {
            case InvocationOutcome.Throttled:
                // "Retain discarded records for a DynamoDB event source": before invocation, Lambda retries until the
                // records expire or exceed the maximum age. The retry attempts are not touched.
                var throttles = batch.Throttles + 1;
                lane.Retries.Push(batch.Slice(0, batch.Count, batch.FailedAttempts, now + Backoff.OfBatch(throttles), throttles));
                return 0;

            case InvocationOutcome.Failed:
                batch.Invocations++;
                batch.LastOutcome = outcome;
                Fail(lane, batch, now);
                return 0;

            case InvocationOutcome.Answered answered:
                batch.Invocations++;
                batch.LastOutcome = outcome;
                var succeeded = _settings.ReportBatchItemFailures ? BatchResponse.FirstFailed(answered.Response, batch) : batch.Count;
                Finish(batch.Buffered[..succeeded]);
                if (succeeded == 0)
                {
                    Fail(lane, batch, now);
                }
                else if (succeeded < batch.Count)
                {
                    RetryRest(lane, batch, succeeded, now);
                }

                return succeeded;

            default:
                throw new ArgumentOutOfRangeException(nameof(outcome), outcome, null);
        }
    }

    /// <summary>The batch of a discard is with its destination, or there is none.</summary>
    public void Discarded(Batch batch)
    {
        Land(batch);
        Finish(batch.Buffered);
    }

    private ShardAction? NextOf(Lane lane, DateTimeOffset now)
    {
        if (!lane.Retries.TryPop(out var batch))
        {
            if (!IsReady(lane, now))
            {
                return null;
            }

            batch = lane.TakeBatch(_settings.BatchSize);
        }

        if (IsExhausted(batch))
        {
            return new ShardAction.Discard(batch, DiscardCondition.RetryAttemptsExhausted);
        }

        var tooOld = batch.Buffered.TakeWhile(buffered => ExpiresAt(buffered) <= now).Count();
        if (tooOld > 0)
        {
            if (tooOld < batch.Count)
            {
                lane.Retries.Push(batch.Slice(tooOld, batch.Count - tooOld, batch.FailedAttempts, batch.NotBefore, batch.Throttles));
            }

            return new ShardAction.Discard(
                batch.Slice(0, tooOld, batch.FailedAttempts, batch.NotBefore), DiscardCondition.RecordAgeExceeded);
        }

        if (batch.NotBefore > now)
        {
            lane.Retries.Push(batch);
            return null;
        }

        return new ShardAction.Invoke(batch);
    }

    /// <summary>
    /// Nothing of the batch succeeded. "Retain discarded records for a DynamoDB event source": with
    /// BisectBatchOnFunctionError the batch is split in two, which does not consume the retry quota; otherwise it is
    /// retried until the attempts, the age or the retention ends that.
    /// </summary>
    private void Fail(Lane lane, Batch batch, DateTimeOffset now)
    {
        if (_settings.BisectOnError && batch.Count > 1)
        {
            Bisections++;
            var half = (batch.Count + 1) / 2;
            lane.Retries.Push(batch.Slice(half, batch.Count - half, batch.FailedAttempts, now));
            lane.Retries.Push(batch.Slice(0, half, batch.FailedAttempts, now));
            return;
        }

        Retry(lane, batch, 0, now);
    }

    /// <summary>
    /// A first part succeeded. "Configuring partial batch response with DynamoDB and Lambda": Lambda retries all records
    /// from the lowest reported one on; with BisectBatchOnFunctionError that is a bisection at that record, so it does
    /// not consume the retry quota.
    /// </summary>
    private void RetryRest(Lane lane, Batch batch, int from, DateTimeOffset now)
    {
        if (_settings.BisectOnError)
        {
            Bisections++;
            lane.Retries.Push(batch.Slice(from, batch.Count - from, batch.FailedAttempts, now));
            return;
        }

        Retry(lane, batch, from, now);
    }

    private static void Retry(Lane lane, Batch batch, int from, DateTimeOffset now)
    {
        var failedAttempts = batch.FailedAttempts + 1;
        lane.Retries.Push(batch.Slice(from, batch.Count - from, failedAttempts, now + Backoff.OfBatch(failedAttempts)));
    }

    /// <summary>Null attempts mean without end; the comparison is then false.</summary>
    private bool IsExhausted(Batch batch) => batch.FailedAttempts > _settings.RetryAttemptsMax;

    private Lane Land(Batch batch)
    {
        var lane = _lanes[batch.Lane];
        if (!ReferenceEquals(lane.InFlight, batch))
        {
            throw new InvalidOperationException($"The batch from {batch.First.SequenceNumber} is not in flight.");
        }

        lane.InFlight = null;
        return lane;
    }

    private void Finish(IEnumerable<BufferedRecord> records)
    {
        foreach (var record in records)
        {
            Buffered--;
            BufferedBytes -= record.Record.Json.Length;
            record.Finish();
        }

        while (_aheadOfCheckpoint.TryPeek(out var first) && first.Done)
        {
            Checkpoint = _aheadOfCheckpoint.Dequeue().Record.SequenceNumber;
        }
    }

    /// <summary>
    /// Lambda developer guide, "Batching behavior": a batch is sent when it has the batch size or the payload limit, or
    /// when the batching window is over. After the end of a shard there is nothing left to wait for.
    /// </summary>
    private bool IsReady(Lane lane, DateTimeOffset now) =>
        lane.Waiting.TryPeek(out var oldest)
        && (_ended
            || lane.Waiting.Count >= _settings.BatchSize
            || lane.Waiting.Bytes >= PayloadBytesMax - EventPayload.EnvelopeBytes
            || now >= oldest.ReadAt + _settings.BatchingWindow);

    private DateTimeOffset ExpiresAt(BufferedRecord buffered)
    {
        if (_settings.RecordAgeMax is { } ageMax && ageMax < Retention)
        {
            return buffered.Record.CreatedAt + ageMax;
        }

        // A local server that was switched off keeps records for longer than AWS does. What the stream still gave
        // out has not expired there: it gets the whole time from then on.
        var trimmedAt = buffered.Record.CreatedAt + Retention;
        return trimmedAt > buffered.ReadAt ? trimmedAt : buffered.ReadAt + Retention;
    }

    private static DateTimeOffset Earlier(DateTimeOffset a, DateTimeOffset b) => a < b ? a : b;

    private sealed class Lane(int index)
    {
        public WaitingRecords Waiting { get; } = new();

        /// <summary>Batches to try again, the earliest records on top: nothing new is taken before they are through.</summary>
        public Stack<Batch> Retries { get; } = new();

        public Batch? InFlight { get; set; }

        /// <summary>As many records as fit: at least one, at most <paramref name="countMax"/>.</summary>
        public Batch TakeBatch(int countMax)
        {
            var records = new List<BufferedRecord>(Math.Min(countMax, Waiting.Count));
            var bytes = (long)EventPayload.EnvelopeBytes;
            while (records.Count < countMax && Waiting.TryPeek(out var next)
                && (records.Count == 0 || bytes + next.Record.Json.Length + 1 <= PayloadBytesMax))
            {
                bytes += next.Record.Json.Length + 1;
                records.Add(Waiting.Dequeue());
            }

            return new Batch(index, records.ToArray());
        }
    }

    /// <summary>Records of a lane that no batch has taken yet.</summary>
    private sealed class WaitingRecords
    {
        private readonly Queue<BufferedRecord> _records = new();

        public int Count => _records.Count;

        /// <summary>Their share of a payload.</summary>
        public long Bytes { get; private set; }

        public void Enqueue(BufferedRecord record)
        {
            _records.Enqueue(record);
            Bytes += record.Record.Json.Length + 1;
        }

        public BufferedRecord Dequeue()
        {
            var record = _records.Dequeue();
            Bytes -= record.Record.Json.Length + 1;
            return record;
        }

        public bool TryPeek([System.Diagnostics.CodeAnalysis.MaybeNullWhen(false)] out BufferedRecord record) => _records.TryPeek(out record);
    }
}
