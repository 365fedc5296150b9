using System.Diagnostics;
using Amazon.DynamoDBv2;
using Pipeline.LambdaEmulator.Functions;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>What a shard is doing.</summary>
public enum ShardState
{
    /// <summary>All that was read is processed.</summary>
    Idle,

    /// <summary>Records gather, or are with the function.</summary>
    Processing,

    /// <summary>A batch that failed before waits for its next attempt, or is in it.</summary>
    Retrying,

    /// <summary>Its stream does not give out its records at the moment.</summary>
    Unreadable,
}

/// <summary>What can be seen of a shard from outside.</summary>
/// <param name="ShardId">The shard.</param>
/// <param name="State">What it is doing.</param>
/// <param name="Checkpoint">The sequence number up to which all is processed; null: nothing yet.</param>
/// <param name="RecordsBuffered">Records that are read and not processed.</param>
/// <param name="OldestUnprocessed">When the first of them was written.</param>
/// <param name="BatchesInFlight">Batches that are with the function or on their way to the on-failure destination.</param>
/// <param name="Attempts">Invocations so far of the batch that was tried most; 0 when nothing was sent in vain.</param>
/// <param name="ReadProblem">Why it cannot be read; null if it can.</param>
/// <param name="LastError">Of a read or of the function; null after a success.</param>
public sealed record ShardStatus(
    string ShardId,
    ShardState State,
    string? Checkpoint,
    int RecordsBuffered,
    DateTimeOffset? OldestUnprocessed,
    int BatchesInFlight,
    int Attempts,
    string? ReadProblem,
    string? LastError)
{
    /// <summary>The age of the oldest record that is read and not processed; zero when there is none.</summary>
    public TimeSpan IteratorAge(DateTimeOffset now) =>
        OldestUnprocessed is { } oldest && oldest < now ? now - oldest : TimeSpan.Zero;
}

/// <summary>
/// Runs one shard: reads it, carries out what its <see cref="ShardProcessor"/> decides, and moves its checkpoint.
/// </summary>
public sealed partial class ShardWorker(
    MappingSettings settings,
    BatchOrigin origin,
    ShardCursor cursor,
    LambdaFunction function,
    OnFailureDestination? onFailure,
    Checkpoints checkpoints,
    Telemetry telemetry,
    TimeProvider time,
    ILogger<ShardWorker> logger)
{
    /// <summary>
    /// Between two reads of a shard that had nothing new. Lambda polls 4 times a second; here a write should be seen
    /// sooner, and 20 calls a second to a server on the same machine cost about 1 % of a core.
    /// </summary>
    private static readonly TimeSpan PollEvery = TimeSpan.FromMilliseconds(50);

    private readonly ShardProcessor _processor = new(settings);
    private readonly List<Task<Action>> _inFlight = [];
    private string? _lastError;
    private string? _readProblem;

    /// <summary>Where the worker began, then what it has told <see cref="Checkpoints"/>.</summary>
    private string? _checkpoint = (cursor.Position as ShardPosition.After)?.SequenceNumber;
    private volatile bool _isListed = true;

    public ShardStatus Status { get; private set; } =
        new(origin.ShardId, ShardState.Idle, (cursor.Position as ShardPosition.After)?.SequenceNumber, 0, null, 0, 0, null, null);

    /// <summary>
    /// False when the stream did not list the shard the last time it was asked. If it cannot be found either when it is read,
    /// it has been trimmed away, and what could not be read of it by now is lost.
    /// </summary>
    public bool IsListed
    {
        set => _isListed = value;
    }

    /// <summary>Until the shard has ended and is processed, or it is cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        Task<StreamPage>? reading = null;
        var readFailures = 0;
        var readAt = time.GetUtcNow();
        while (!_processor.IsFinished)
        {
            var now = time.GetUtcNow();
            while (_processor.Next(now) is { } action)
            {
                _inFlight.Add(CarryOutAsync(action, cancellationToken));
            }

            if (reading is null && _processor.WantsMore && now >= readAt)
            {
                reading = cursor.ReadAsync(cancellationToken);
            }

            Publish();
            await AnythingAsync(reading, _processor.WantsMore && reading is null ? readAt : null, now, cancellationToken);
            cancellationToken.ThrowIfCancellationRequested();

            for (var i = _inFlight.Count - 1; i >= 0; i--)
            {
                if (_inFlight[i].IsCompleted)
                {
                    (await _inFlight[i])();
                    _inFlight.RemoveAt(i);
                }
            }

            if (reading is { IsCompleted: true })
            {
                try
                {
                    var page = await reading;
                    readFailures = 0;
                    _readProblem = null;
                    Take(page);
                    readAt = page.Records.Count > 0 ? now : now + PollEvery;
                }
                catch (AmazonDynamoDBException e) when (e.ErrorCode == "ResourceNotFoundException" && !_isListed)
                {
                    LogGone(origin.ShardId, e.Message);
                    _processor.EndOfShard();
                }
                catch (Exception e) when (!cancellationToken.IsCancellationRequested)
                {
                    // Also a server that is being restarted. The position has not moved.
                    readFailures++;
                    _readProblem = e.Message;
                    _lastError = $"The stream cannot be read: {e.Message}";
                    readAt = now + Backoff.OfServer(readFailures);
                    if (readFailures is 1 or 10)
                    {
                        LogNotRead(origin.ShardId, e.Message, readFailures);
                    }
                }

                reading = null;
            }

            MoveCheckpoint();
        }

        checkpoints.Set(origin.ShardId, new ShardPosition.Finished());
        Publish();
        LogFinished(origin.ShardId);
    }

    private void Take(StreamPage page)
    {
        var now = time.GetUtcNow();
        if (page.Trimmed)
        {
            _lastError = "The stream does not hold the position any more; reading went on with the oldest record that is left.";
            LogTrimmed(origin.ShardId);
        }

        foreach (var record in page.Records)
        {
            _processor.Read(record, now);
        }

        if (page.IsEnd)
        {
            _processor.EndOfShard();
        }
    }

    /// <summary>Does what the processor asked for; the result is how to tell it.</summary>
    private async Task<Action> CarryOutAsync(ShardAction action, CancellationToken cancellationToken)
    {
        var batch = action.Batch;
        switch (action)
        {
            case ShardAction.Invoke:
                var started = time.GetTimestamp();
                using (var activity = telemetry.StartBatch(function.Definition.Name, origin, batch))
                {
                    var outcome = await function.InvokeAsync(EventPayload.Of(batch), cancellationToken);
                    activity?.SetStatus(outcome is InvocationOutcome.Answered ? ActivityStatusCode.Ok : ActivityStatusCode.Error);
                    telemetry.Invoked(function.Definition.Name, batch.Count, batch.Invocations > 0, outcome, time.GetElapsedTime(started));
                    return () => Complete(batch, outcome);
                }

            case ShardAction.Discard discard:
                if (onFailure is not null)
                {
                    await onFailure.SendAsync(discard, origin, cancellationToken);
                }

                telemetry.Discarded(function.Definition.Name, batch.Count, discard.Condition, onFailure?.Kind ?? "none");
                LogDiscarded(origin.ShardId, batch.First.SequenceNumber, batch.Last.SequenceNumber, batch.Count, discard.Condition, batch.Invocations);
                return () => _processor.Discarded(batch);

            default:
                throw new UnreachableException();
        }
    }

    private void Complete(Batch batch, InvocationOutcome outcome)
    {
        var first = batch.First.SequenceNumber;
        var last = batch.Last.SequenceNumber;
        var bisections = _processor.Bisections;
        var succeeded = _processor.Complete(batch, outcome, time.GetUtcNow());
        if (_processor.Bisections > bisections)
        {
            telemetry.Bisected(function.Definition.Name, _processor.Bisections - bisections);
        }

        switch (outcome)
        {
            case InvocationOutcome.Failed failed:
                _lastError = $"{failed.ErrorType}: {failed.ErrorMessage}";
                LogFailed(origin.ShardId, first, last, batch.Count, batch.Invocations, failed.ErrorType);
                break;
            case InvocationOutcome.Throttled:
                _lastError = "Throttled";
                LogThrottled(origin.ShardId, first, batch.Count);
                break;
            case InvocationOutcome.Answered when succeeded < batch.Count:
                _lastError = "The function reported records as failed.";
                LogReported(origin.ShardId, first, last, batch.Count, succeeded, batch.Invocations);
                break;
            default:
                _lastError = null;
                break;
        }
    }

    private void MoveCheckpoint()
    {
        if (_processor.Checkpoint is { } checkpoint && checkpoint != _checkpoint)
        {
            _checkpoint = checkpoint;
            checkpoints.Set(origin.ShardId, new ShardPosition.After(checkpoint));
        }
    }

    private void Publish()
    {
        var attempts = _processor.Attempts;
        var state = _readProblem is not null ? ShardState.Unreadable
            : attempts > 0 ? ShardState.Retrying
            : _processor.Buffered > 0 ? ShardState.Processing
            : ShardState.Idle;
        Status = new ShardStatus(
            origin.ShardId, state, _checkpoint, _processor.Buffered, _processor.OldestUnprocessed, _inFlight.Count, attempts, _readProblem, _lastError);
    }

    /// <summary>Waits until a task is done or it is time to read or to send something.</summary>
    private async Task AnythingAsync(Task? reading, DateTimeOffset? readAt, DateTimeOffset now, CancellationToken cancellationToken)
    {
        var wakeAt = _processor.NextAt(now);
        if (readAt is { } at && (wakeAt is null || at < wakeAt))
        {
            wakeAt = at;
        }

        if (wakeAt <= now)
        {
            return;
        }

        await Wait.ForAnyAsync([.. _inFlight, .. reading is null ? Array.Empty<Task>() : [reading]], wakeAt - now, time, cancellationToken);
    }

    [LoggerMessage(LogLevel.Warning, "{ShardId}: {Count} records from {First} to {Last} failed ({ErrorType}, invocation {Invocations}) and are tried again")]
    private partial void LogFailed(string shardId, string first, string last, int count, int invocations, string errorType);

    [LoggerMessage(LogLevel.Warning, "{ShardId}: of {Count} records from {First} to {Last} the first {Succeeded} are processed (invocation {Invocations}), the others were reported as failed and are tried again")]
    private partial void LogReported(string shardId, string first, string last, int count, int succeeded, int invocations);

    [LoggerMessage(LogLevel.Warning, "{ShardId}: the invocation with {Count} records from {First} was throttled and is tried again")]
    private partial void LogThrottled(string shardId, string first, int count);

    [LoggerMessage(LogLevel.Error, "{ShardId}: {Count} records from {First} to {Last} are discarded after {Invocations} invocations: {Condition}")]
    private partial void LogDiscarded(string shardId, string first, string last, int count, DiscardCondition condition, int invocations);

    [LoggerMessage(LogLevel.Warning, "{ShardId}: the stream could not be read ({Failures} times in a row), trying again: {Message}")]
    private partial void LogNotRead(string shardId, string message, int failures);

    [LoggerMessage(LogLevel.Error, "{ShardId} was trimmed from the stream: what was written to it and not read by now is lost to this mapping: {Message}")]
    private partial void LogGone(string shardId, string message);

    [LoggerMessage(LogLevel.Error, "{ShardId}: the stream does not hold the position any more. Reading goes on with the oldest record that is left; what was written between the two is lost to this mapping")]
    private partial void LogTrimmed(string shardId);

    [LoggerMessage(LogLevel.Information, "{ShardId} has ended and is processed")]
    private partial void LogFinished(string shardId);
}
