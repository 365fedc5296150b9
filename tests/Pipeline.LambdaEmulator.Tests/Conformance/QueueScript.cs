using System.Text;
using System.Text.Json;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>
/// Drives a <see cref="QueueProcessor"/> in virtual time. Messages are called by letters; a FIFO queue's belong to the group
/// before the letter's digit. What the mapping does is text: <c>invoke a b</c>, <c>delete a</c>, <c>let go b</c>,
/// <c>nothing</c>.
/// </summary>
internal sealed class QueueScript(QueueSettings settings, TimeSpan? visibilityTimeout = null)
{
    private readonly QueueProcessor _processor = new(settings.Validated(), visibilityTimeout ?? TimeSpan.FromSeconds(30));
    private readonly List<QueueBatch> _open = [];

    public QueueScript()
        : this(new QueueSettings())
    {
    }

    /// <summary>A deletion that is asked for is done at once; otherwise the case says when.</summary>
    public bool DeletesAtOnce { get; init; } = true;

    public DateTimeOffset Now { get; private set; } = new(2026, 1, 1, 12, 0, 0, TimeSpan.Zero);

    public QueueProcessor Processor => _processor;

    /// <summary>These messages were received just now, in one call.</summary>
    public QueueScript Receives(params string[] messages) => ReceivesOf(0, messages);

    /// <summary>Messages of at least this size.</summary>
    public QueueScript ReceivesOf(int bytes, params string[] messages)
    {
        _processor.Received(messages.Select(id => Message(id, bytes)), Now);
        return this;
    }

    /// <summary>A message with this body was received.</summary>
    public QueueScript ReceivesBody(string id, string body)
    {
        _processor.Received([Message(id, 0, body)], Now);
        return this;
    }

    public QueueScript Wait(double seconds)
    {
        Now += TimeSpan.FromSeconds(seconds);
        return this;
    }

    /// <summary>Waits until the mapping has something to do by itself.</summary>
    public QueueScript WaitForNext()
    {
        var next = _processor.NextAt(Now);
        Assert.NotNull(next);
        Now = next.Value > Now ? next.Value : Now;
        return this;
    }

    public string Next()
    {
        switch (_processor.Next(Now))
        {
            case null:
                return "nothing";
            case QueueAction.Invoke invoke:
                _open.Add(invoke.Batch);
                return $"invoke {Ids(invoke.Batch.Messages)}";
            case QueueAction.Delete delete:
                if (DeletesAtOnce)
                {
                    _processor.Deleted();
                }

                return $"delete {Ids(delete.Messages)}";
            case QueueAction.LetGo letGo:
                return $"let go {Ids(letGo.Messages)}";
            case var other:
                throw new NotSupportedException(other.ToString());
        }
    }

    public QueueScript Succeeds() => Answers("");

    public QueueScript Answers(string json) => Ends(new InvocationOutcome.Answered(Encoding.UTF8.GetBytes(json)));

    public QueueScript Reports(params string[] failed) => Answers(
        $$"""{"batchItemFailures":[{{string.Join(',', failed.Select(id => $$"""{"itemIdentifier":"{{id}}"}"""))}}]}""");

    public QueueScript Fails() => Ends(new InvocationOutcome.Failed("Error", "on purpose"));

    public QueueScript IsThrottled() => Ends(new InvocationOutcome.Throttled());

    /// <summary>The oldest open invocation ends.</summary>
    public QueueScript Ends(InvocationOutcome outcome)
    {
        var batch = _open[0];
        _open.RemoveAt(0);
        _processor.Complete(batch, outcome, Now);
        return this;
    }

    private QueueMessage Message(string id, int bytes, string body = "text")
    {
        var json = $$"""{"messageId":"{{id}}","body":{{JsonSerializer.Serialize(body)}}}""".PadRight(bytes);
        return new QueueMessage(id, $"receipt of {id}", settings.IsFifo ? id[..1] : null, Encoding.UTF8.GetBytes(json));
    }

    private static string Ids(IEnumerable<QueueMessage> messages) => string.Join(' ', messages.Select(message => message.Id));
}
