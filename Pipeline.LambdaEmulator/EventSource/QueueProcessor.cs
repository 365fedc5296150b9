using Pipeline.LambdaEmulator.Functions;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>Messages on their way through the function.</summary>
public sealed class QueueBatch
{
    internal QueueBatch(IReadOnlyList<HeldMessage> held) => Held = held;

    public int Count => Held.Count;

    public IEnumerable<QueueMessage> Messages => Held.Select(held => held.Message);

    /// <summary>When the queue shows the first of them again: the latest time to send them.</summary>
    public DateTimeOffset VisibleAt => Held[0].VisibleAt;

    /// <summary>Throttled attempts in a row.</summary>
    public int Throttles { get; internal init; }

    internal DateTimeOffset NotBefore { get; init; }

    internal IReadOnlyList<HeldMessage> Held { get; }
}

/// <summary>A message in hand.</summary>
/// <param name="Message">The message.</param>
/// <param name="ReceivedAt">When it was received.</param>
/// <param name="VisibleAt">When the queue shows it to others again.</param>
internal sealed record HeldMessage(QueueMessage Message, DateTimeOffset ReceivedAt, DateTimeOffset VisibleAt);

/// <summary>What a queue's mapping wants done next.</summary>
public abstract record QueueAction
{
    private QueueAction()
    {
    }

    /// <summary>Invoke the function with the batch, then call <see cref="QueueProcessor.Complete"/>.</summary>
    public sealed record Invoke(QueueBatch Batch) : QueueAction;

    /// <summary>
    /// Delete the messages, then call <see cref="QueueProcessor.Deleted"/>. What cannot be deleted until
    /// <paramref name="VisibleAt"/> will be delivered again.
    /// </summary>
    public sealed record Delete(IReadOnlyList<QueueMessage> Messages, DateTimeOffset VisibleAt, bool WereFiltered) : QueueAction;

    /// <summary>Nothing to do but to take note: the messages were never sent, and the queue shows them again by itself.</summary>
    public sealed record LetGo(IReadOnlyList<QueueMessage> Messages) : QueueAction;
}

/// <summary>
/// The event source mapping's rules for a queue: which messages are sent together, what is deleted, what is left to become
/// visible again. As <see cref="ShardProcessor"/> it does no I/O, has no clock and starts nothing: the caller feeds it
/// what was received (<see cref="Received"/>), carries out what <see cref="Next"/> asks for and reports back
/// (<see cref="Complete"/>, <see cref="Deleted"/>). Not for use by several threads at once.
/// </summary>
/// <remarks>
/// Retries are the queue's: a message that failed stays hidden until its visibility timeout is over and then comes again,
/// until the queue's own redrive policy moves it away (Lambda developer guide, "Handling errors for an SQS event source").
/// </remarks>
public sealed class QueueProcessor(QueueSettings settings, TimeSpan visibilityTimeout)
{
    /// <summary>"Configuring scaling behavior for SQS event source mappings": Lambda starts with five batches at a time.</summary>
    public const int ConcurrencyDefault = 5;

    /// <summary>SQS API reference, "ReceiveMessage": messages of one call.</summary>
    public const int ReceiveMax = 10;

    /// <summary>Received, and in no batch yet; in the order in which they came.</summary>
    private readonly List<HeldMessage> _waiting = [];
    private readonly List<QueueBatch> _inFlight = [];

    /// <summary>Throttled, to be sent again.</summary>
    private readonly List<QueueBatch> _retries = [];
    private readonly Queue<QueueAction> _due = new();
    private long _waitingBytes;

    /// <summary>Deletions that are due or under way.</summary>
    private int _deletions;

    public int Waiting => _waiting.Count;

    public int BatchesInFlight => _inFlight.Count;

    /// <summary>
    /// How many messages to receive, 0 to 10. No more are held than one batch beside those in flight: what is held is
    /// hidden from every other consumer.
    /// </summary>
    public int Wanted => !HasRoom || _waitingBytes >= ShardProcessor.PayloadBytesMax - EventPayload.EnvelopeBytes || (settings.IsFifo && _waiting.Count > 0)
        ? 0
        : Math.Clamp(settings.BatchSize - _waiting.Count, 0, ReceiveMax);

    /// <summary>A batch has its place until its messages are deleted: a queue that takes no deletions is not read on.</summary>
    private bool HasRoom => _inFlight.Count + _retries.Count + _deletions < (settings.ConcurrencyMax ?? ConcurrencyDefault);

    /// <summary>Takes messages that were received, in the order in which they came.</summary>
    public void Received(IEnumerable<QueueMessage> messages, DateTimeOffset now)
    {
        var filtered = new List<QueueMessage>();
        foreach (var message in messages)
        {
            if (settings.Filter is null || settings.Filter.Matches(QueueMessageFormat.ForFilter(message)))
            {
                _waiting.Add(new HeldMessage(message, now, now + visibilityTimeout));
                _waitingBytes += message.Json.Length + 1;
            }
            else
            {
                filtered.Add(message);
            }
        }

        if (filtered.Count > 0)
        {
            // "Control which events Lambda sends to your function": Lambda deletes what does not fit from the queue.
            Delete(filtered, now + visibilityTimeout, wereFiltered: true);
        }
    }

    /// <summary>What to do now; null when there is nothing. Call again until null.</summary>
    public QueueAction? Next(DateTimeOffset now)
    {
        if (_due.TryDequeue(out var due))
        {
            return due;
        }

        if (_retries.Find(batch => batch.NotBefore <= now || batch.VisibleAt <= now) is { } retry)
        {
            _retries.Remove(retry);
            var tooLate = retry.Held.TakeWhile(held => held.VisibleAt <= now).ToList();
            if (tooLate.Count is 0)
            {
                return Invoke(retry);
            }

            if (tooLate.Count < retry.Count)
            {
                _retries.Add(new QueueBatch([.. retry.Held.Skip(tooLate.Count)]) { Throttles = retry.Throttles, NotBefore = retry.NotBefore });
            }

            return LetGo(tooLate);
        }

        if (LetGo(Remove([.. _waiting.TakeWhile(held => held.VisibleAt <= now)])) is { } letGo)
        {
            return letGo;
        }

        return HasRoom && IsReady(now) ? Invoke(TakeBatch()) : null;
    }

    /// <summary>When <see cref="Next"/> can have something although nothing else happened; null: not by itself.</summary>
    public DateTimeOffset? NextAt(DateTimeOffset now)
    {
        if (_due.Count > 0)
        {
            return now;
        }

        var times = _retries.Select(batch => Earlier(batch.NotBefore, batch.VisibleAt));
        if (_waiting is [var oldest, ..])
        {
            times = times.Append(!HasRoom || !Sendable().Any() ? oldest.VisibleAt : IsReady(now) ? now : oldest.ReceivedAt + settings.BatchingWindow);
        }

        return times.Select(time => (DateTimeOffset?)time).Min();
    }

    /// <summary>The outcome of an invocation that <see cref="Next"/> asked for.</summary>
    /// <returns>How many messages of the batch succeeded; the others come again when the queue shows them.</returns>
    public int Complete(QueueBatch batch, InvocationOutcome outcome, DateTimeOffset now)
    {
        if (!_inFlight.Remove(batch))
        {
            throw new InvalidOperationException("The batch is not in flight.");
        }

        switch (outcome)
        {
            case InvocationOutcome.Throttled:
                // "Lambda continues to retry the message until the message's timestamp exceeds your queue's visibility
                // timeout, at which point Lambda drops the message."
                var throttles = batch.Throttles + 1;
                _retries.Add(new QueueBatch(batch.Held) { Throttles = throttles, NotBefore = now + Backoff.OfBatch(throttles) });
                return 0;

            case InvocationOutcome.Failed:
                Fail(batch.Messages);
                return 0;

            case InvocationOutcome.Answered answered:
                var failed = settings.ReportBatchItemFailures ? BatchResponse.FailedMessages(answered.Response, batch) : new HashSet<string>();
                var succeeded = batch.Messages.Where(message => !failed.Contains(message.Id)).ToList();
                if (succeeded.Count > 0)
                {
                    Delete(succeeded, batch.VisibleAt, wereFiltered: false);
                }

                Fail(batch.Messages.Where(message => failed.Contains(message.Id)));
                return succeeded.Count;

            default:
                throw new ArgumentOutOfRangeException(nameof(outcome), outcome, null);
        }
    }

    /// <summary>A deletion that <see cref="Next"/> asked for has ended, whatever could be deleted.</summary>
    public void Deleted() => _deletions--;

    private void Delete(IReadOnlyList<QueueMessage> messages, DateTimeOffset visibleAt, bool wereFiltered)
    {
        _deletions++;
        _due.Enqueue(new QueueAction.Delete(messages, visibleAt, wereFiltered));
    }

    private QueueAction.Invoke Invoke(QueueBatch batch)
    {
        _inFlight.Add(batch);
        return new QueueAction.Invoke(batch);
    }

    /// <summary>
    /// They stay hidden until their visibility timeout is over. "Configuring scaling behavior for SQS event source
    /// mappings": of their groups nothing else is sent before them, so what is in hand of those is given back too.
    /// </summary>
    private void Fail(IEnumerable<QueueMessage> messages)
    {
        var groups = messages.Select(message => message.GroupId).OfType<string>().ToHashSet();
        if (groups.Count == 0)
        {
            return;
        }

        if (LetGo(Remove([.. _waiting.Where(held => groups.Contains(held.Message.GroupId!))])) is { } letGo)
        {
            _due.Enqueue(letGo);
        }
    }

    private static QueueAction.LetGo? LetGo(IEnumerable<HeldMessage> held) =>
        held.Select(message => message.Message).ToList() is { Count: > 0 } messages ? new QueueAction.LetGo(messages) : null;

    /// <summary>As many messages as fit: at least one, at most the batch size.</summary>
    private QueueBatch TakeBatch()
    {
        var bytes = (long)EventPayload.EnvelopeBytes;
        List<HeldMessage> messages = [.. Sendable().Take(settings.BatchSize).TakeWhile((held, index) =>
            (bytes += held.Message.Json.Length + 1) <= ShardProcessor.PayloadBytesMax || index == 0)];
        return new QueueBatch(Remove(messages));
    }

    private List<HeldMessage> Remove(List<HeldMessage> messages)
    {
        var removed = messages.ToHashSet(ReferenceEqualityComparer.Instance);
        _waiting.RemoveAll(removed.Contains);
        _waitingBytes -= messages.Sum(held => held.Message.Json.Length + 1L);
        return messages;
    }

    /// <summary>
    /// "Using Lambda with Amazon SQS": a batch is sent when the window is over, or it has the batch size or the payload limit.
    /// </summary>
    private bool IsReady(DateTimeOffset now) =>
        Sendable().FirstOrDefault() is { } oldest
        && (_waiting.Count >= settings.BatchSize
            || _waitingBytes >= ShardProcessor.PayloadBytesMax - EventPayload.EnvelopeBytes
            || now >= oldest.ReceivedAt + settings.BatchingWindow);

    /// <summary>
    /// Those that a batch may take. A group has one batch in flight: what the payload limit left over of a receive waits for
    /// it, and other groups pass.
    /// </summary>
    private IEnumerable<HeldMessage> Sendable()
    {
        if (!settings.IsFifo)
        {
            return _waiting;
        }

        var groups = _inFlight.Concat(_retries).SelectMany(batch => batch.Messages).Select(message => message.GroupId).ToHashSet();
        return _waiting.Where(held => !groups.Contains(held.Message.GroupId));
    }

    private static DateTimeOffset Earlier(DateTimeOffset a, DateTimeOffset b) => a < b ? a : b;
}
