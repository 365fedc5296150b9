using System.Diagnostics;
using System.Globalization;
using Amazon.SQS;
using Amazon.SQS.Model;
using Pipeline.LambdaEmulator.Functions;
using Pipeline.LambdaEmulator.Stack;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>What can be seen of a queue's mapping from outside.</summary>
public sealed record QueueStatus(int MessagesWaiting, int BatchesInFlight, string? LastError);

/// <summary>
/// The event source mapping of an SQS queue: receives, carries out what <see cref="QueueProcessor"/> decides, and deletes
/// what succeeded. It keeps no state: what is neither deleted nor moved away by the queue's redrive policy comes again.
/// </summary>
public sealed partial class QueueMapping(
    QueueMappingPlan plan,
    string region,
    LambdaFunction function,
    IAmazonSQS sqs,
    Telemetry telemetry,
    TimeProvider time,
    ILogger<QueueMapping> logger) : IEventSourceMapping
{
    /// <summary>SQS API reference, "ReceiveMessage": the longest poll. An idle queue costs three calls a minute.</summary>
    private const int PollSeconds = 20;

    /// <summary>After a poll that brought nothing: not every local server waits as long as it is asked to.</summary>
    private static readonly TimeSpan PauseAfterNothing = TimeSpan.FromMilliseconds(50);

    private readonly QueueMessageFormat _format = new(region, plan.QueueArn);
    private readonly List<Task<Action>> _busy = [];
    private QueueProcessor? _processor;
    private string _queueUrl = "";
    private volatile int _waiting;
    private volatile int _batchesInFlight;
    private volatile string? _lastError;

    public QueueMappingPlan Plan => plan;

    public Guid Id => plan.Id;

    public string FunctionName => plan.Function.Name;

    public string Source => plan.Queue;

    public MappingState State { get; private set; } = plan.IsEnabled ? MappingState.Creating : MappingState.Disabled;

    public string? Problem { get; private set; }

    /// <summary>Counts as the loop last saw them, and the last error, also of a deletion that is under way.</summary>
    public QueueStatus Status => new(_waiting, _batchesInFlight, _lastError);

    /// <exception cref="TemplateException">Lambda would refuse the mapping: the queue does not fit the function.</exception>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        if (!plan.IsEnabled)
        {
            return;
        }

        var visibilityTimeout = await OpenAsync(cancellationToken);
        if (plan.Settings.Misfit(visibilityTimeout, plan.Function.Timeout) is { } misfit)
        {
            throw new TemplateException($"The mapping of {plan.Queue} to {plan.Function.Name} is refused: {misfit}");
        }

        _processor = new QueueProcessor(plan.Settings, visibilityTimeout);
        LogStarted(plan.Queue);
        Task<List<Message>>? receiving = null;
        var receiveAt = time.GetUtcNow();
        var failures = 0;
        while (true)
        {
            var now = time.GetUtcNow();
            while (_processor.Next(now) is { } action)
            {
                _busy.Add(CarryOutAsync(action, cancellationToken));
            }

            if (receiving is null && _processor.Wanted > 0 && now >= receiveAt)
            {
                receiving = ReceiveAsync(_processor.Wanted, cancellationToken);
            }

            (_waiting, _batchesInFlight) = (_processor.Waiting, _processor.BatchesInFlight);
            await AnythingAsync(receiving, receiving is null && _processor.Wanted > 0 ? receiveAt : null, now, cancellationToken);
            cancellationToken.ThrowIfCancellationRequested();

            for (var i = _busy.Count - 1; i >= 0; i--)
            {
                if (_busy[i].IsCompleted)
                {
                    (await _busy[i])();
                    _busy.RemoveAt(i);
                }
            }

            if (receiving is { IsCompleted: true })
            {
                try
                {
                    var messages = await receiving;
                    var receivedAt = time.GetUtcNow();
                    _processor.Received(messages.Select(_format.Read), receivedAt);
                    receiveAt = messages.Count > 0 ? receivedAt : receivedAt + PauseAfterNothing;
                    failures = 0;
                    State = MappingState.Enabled;
                    Problem = null;
                }
                catch (Exception e) when (ServerFailure.MayPass(e, cancellationToken))
                {
                    // Also a server that is being restarted, or a queue that was deleted and is created again.
                    failures++;
                    IsAProblem(e, failures);
                    receiveAt = time.GetUtcNow() + Backoff.OfServer(failures);
                }

                receiving = null;
            }
        }
    }

    /// <summary>Finds the queue, however long that takes; how long it hides what was received.</summary>
    private async Task<TimeSpan> OpenAsync(CancellationToken cancellationToken)
    {
        for (var failures = 1; ; failures++)
        {
            try
            {
                _queueUrl = (await sqs.GetQueueUrlAsync(plan.Queue, cancellationToken)).QueueUrl;
                var attributes = await sqs.GetQueueAttributesAsync(_queueUrl, ["VisibilityTimeout"], cancellationToken);
                State = MappingState.Enabled;
                Problem = null;
                return TimeSpan.FromSeconds(int.Parse(attributes.Attributes["VisibilityTimeout"], CultureInfo.InvariantCulture));
            }
            catch (Exception e) when (ServerFailure.MayPass(e, cancellationToken))
            {
                IsAProblem(e, failures);
                await Task.Delay(Backoff.OfServer(failures), time, cancellationToken);
            }
        }
    }

    /// <summary>
    /// Receives as soon as somebody could take the messages. In Lambda somebody always can; here nobody may have started the
    /// function, and a message that is received in vain comes one receive nearer to the dead-letter queue.
    /// </summary>
    private async Task<List<Message>> ReceiveAsync(int count, CancellationToken cancellationToken)
    {
        await function.WhenFreeAsync(cancellationToken);
        var answer = await sqs.ReceiveMessageAsync(
            new ReceiveMessageRequest(_queueUrl)
            {
                MaxNumberOfMessages = count,
                WaitTimeSeconds = PollSeconds,
                MessageSystemAttributeNames = ["All"],
                MessageAttributeNames = ["All"],
            },
            cancellationToken);
        return answer.Messages ?? [];
    }

    /// <summary>Does what the processor asked for; the result is how to tell it.</summary>
    private async Task<Action> CarryOutAsync(QueueAction action, CancellationToken cancellationToken)
    {
        switch (action)
        {
            case QueueAction.Invoke { Batch: var batch }:
                var started = time.GetTimestamp();
                using (var activity = telemetry.StartBatch(function.Definition.Name, plan.Queue, batch))
                {
                    // An environment that comes when the queue shows the messages again would not be the only one to have them.
                    var outcome = await function.InvokeAsync(EventPayload.Of(batch.Messages.Select(message => message.Json)), cancellationToken, batch.VisibleAt - time.GetUtcNow());
                    activity?.SetStatus(outcome is InvocationOutcome.Answered ? ActivityStatusCode.Ok : ActivityStatusCode.Error);
                    telemetry.Invoked(function.Definition.Name, batch.Count, batch.Throttles > 0, outcome, time.GetElapsedTime(started));
                    return () => Complete(batch, outcome);
                }

            case QueueAction.Delete delete:
                if (delete.WereFiltered)
                {
                    LogFiltered(plan.Queue, delete.Messages.Count);
                }

                await DeleteAsync(delete.Messages, delete.VisibleAt, cancellationToken);
                return _processor!.Deleted;

            case QueueAction.LetGo letGo:
                LogLetGo(plan.Queue, letGo.Messages.Count, letGo.Messages[0].Id);
                return () => { };

            default:
                throw new UnreachableException();
        }
    }

    /// <summary>Deletes what can be deleted, and tries the rest again until it works or the queue shows it again.</summary>
    private async Task DeleteAsync(IReadOnlyList<QueueMessage> messages, DateTimeOffset visibleAt, CancellationToken cancellationToken)
    {
        for (var failures = 1; ; failures++)
        {
            // All of them once before any of them again: one that cannot be deleted must not hold the others until they come again.
            var left = new List<QueueMessage>();
            var reason = "";
            foreach (var part in messages.Chunk(QueueProcessor.ReceiveMax))
            {
                if (reason.Length > 0 && time.GetUtcNow() >= visibleAt)
                {
                    left.AddRange(part);
                    continue;
                }

                try
                {
                    foreach (var failure in await DeleteAsync(part, cancellationToken))
                    {
                        var message = part[int.Parse(failure.Id, CultureInfo.InvariantCulture)];
                        reason = $"{failure.Code}: {failure.Message}";
                        if (failure.SenderFault == true)
                        {
                            // The same request is refused the same way: a receipt that has expired, for example.
                            LogNotDeleted(plan.Queue, 1, message.Id, reason);
                        }
                        else
                        {
                            left.Add(message);
                        }
                    }
                }
                catch (Exception e) when (ServerFailure.MayPass(e, cancellationToken))
                {
                    reason = e.Message;
                    left.AddRange(part);
                }
            }

            if (reason.Length > 0)
            {
                _lastError = $"Messages could not be deleted: {reason}";
            }

            if (left.Count == 0)
            {
                return;
            }

            if (time.GetUtcNow() + Backoff.OfServer(failures) >= visibleAt)
            {
                LogNotDeleted(plan.Queue, left.Count, left[0].Id, reason);
                return;
            }

            messages = left;
            await Task.Delay(Backoff.OfServer(failures), time, cancellationToken);
        }
    }

    /// <summary>Up to ten messages in one call.</summary>
    /// <returns>What could not be deleted, each with the index of its message as id.</returns>
    private async Task<List<BatchResultErrorEntry>> DeleteAsync(QueueMessage[] messages, CancellationToken cancellationToken)
    {
        var answer = await sqs.DeleteMessageBatchAsync(
            new DeleteMessageBatchRequest(
                _queueUrl,
                [.. messages.Select((message, index) => new DeleteMessageBatchRequestEntry(index.ToString(CultureInfo.InvariantCulture), message.ReceiptHandle))]),
            cancellationToken);
        return answer.Failed ?? [];
    }

    private void Complete(QueueBatch batch, InvocationOutcome outcome)
    {
        var succeeded = _processor!.Complete(batch, outcome, time.GetUtcNow());
        var first = batch.Messages.First().Id;
        switch (outcome)
        {
            case InvocationOutcome.Failed failed:
                _lastError = $"{failed.ErrorType}: {failed.ErrorMessage}";
                LogFailed(plan.Queue, batch.Count, first, failed.ErrorType, batch.VisibleAt);
                break;
            case InvocationOutcome.Throttled:
                _lastError = "Throttled";
                LogThrottled(plan.Queue, batch.Count, first);
                break;
            case InvocationOutcome.Answered when succeeded < batch.Count:
                _lastError = "The function reported messages as failed.";
                LogReported(plan.Queue, batch.Count, first, batch.Count - succeeded, batch.VisibleAt);
                break;
            default:
                _lastError = null;
                break;
        }
    }

    private void IsAProblem(Exception e, int failures)
    {
        State = MappingState.Problem;
        Problem = e.Message;
        if (failures is 1 or 10)
        {
            LogProblem(plan.Queue, failures, e.Message);
        }
    }

    /// <summary>Waits until a task is done or it is time to receive or to send something.</summary>
    private async Task AnythingAsync(Task? receiving, DateTimeOffset? receiveAt, DateTimeOffset now, CancellationToken cancellationToken)
    {
        var wakeAt = _processor!.NextAt(now);
        if (receiveAt is { } at && (wakeAt is null || at < wakeAt))
        {
            wakeAt = at;
        }

        if (wakeAt <= now)
        {
            return;
        }

        await Wait.ForAnyAsync([.. _busy, .. receiving is null ? Array.Empty<Task>() : [receiving]], wakeAt - now, time, cancellationToken);
    }

    [LoggerMessage(LogLevel.Information, "{Queue} is read as soon as its function has an environment")]
    private partial void LogStarted(string queue);

    [LoggerMessage(LogLevel.Information, "{Queue}: {Count} messages do not fit the filter and are deleted")]
    private partial void LogFiltered(string queue, int count);

    [LoggerMessage(LogLevel.Warning, "{Queue}: {Count} messages from {First} failed ({ErrorType}); the queue shows them again at {VisibleAt:O}")]
    private partial void LogFailed(string queue, int count, string first, string errorType, DateTimeOffset visibleAt);

    [LoggerMessage(LogLevel.Warning, "{Queue}: of {Count} messages from {First}, {Failed} were reported as failed; the queue shows them again at {VisibleAt:O}")]
    private partial void LogReported(string queue, int count, string first, int failed, DateTimeOffset visibleAt);

    [LoggerMessage(LogLevel.Warning, "{Queue}: the invocation with {Count} messages from {First} was throttled and is tried again")]
    private partial void LogThrottled(string queue, int count, string first);

    [LoggerMessage(LogLevel.Warning, "{Queue}: {Count} messages from {First} could not be sent before the queue shows them again")]
    private partial void LogLetGo(string queue, int count, string first);

    [LoggerMessage(LogLevel.Error, "{Queue}: {Count} messages from {First} are processed but could not be deleted, so they will come again: {Reason}")]
    private partial void LogNotDeleted(string queue, int count, string first, string reason);

    [LoggerMessage(LogLevel.Warning, "Queue {Queue} cannot be used ({Failures} times in a row), trying again: {Message}")]
    private partial void LogProblem(string queue, int failures, string message);
}
