using System.Collections.Concurrent;
using System.Text;
using System.Text.Json.Nodes;
using Amazon.SQS;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Functions;
using Pipeline.LambdaEmulator.Stack;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>A whole mapping between a queue in memory and a function behind the Runtime API; the queue's time is virtual.</summary>
public sealed class QueueMappingTests : IAsyncLifetime
{
    private static readonly TimeSpan VisibilityTimeout = TimeSpan.FromSeconds(60);

    private readonly FakeTimeProvider _time = new();
    private readonly Telemetry _telemetry = new("trace_parent", "us-east-1");
    private readonly CancellationTokenSource _ends = new();

    /// <summary>What the function got: an id and which receive of it that was.</summary>
    private readonly ConcurrentQueue<string> _received = new();
    private Func<IReadOnlyList<string>, string> _answer = _ => "{}";
    private MemoryQueue _queue = null!;
    private FunctionHost _function = null!;
    private Task? _running;

    public async ValueTask InitializeAsync()
    {
        _queue = new MemoryQueue(_time, VisibilityTimeout, receivesMax: 3);
        _function = await FunctionHost.StartAsync(time: _time);
    }

    public async ValueTask DisposeAsync()
    {
        await _ends.CancelAsync();
        if (_running is not null)
        {
            // Its end is the business of the test that looks at it.
            await _running.ContinueWith(_ => { }, TaskScheduler.Default);
        }

        await _function.DisposeAsync();
        _queue.Dispose();
        _telemetry.Dispose();
        _ends.Dispose();
    }

    [Fact]
    [Rule(Pages.Sqs, "Messages that were processed are deleted and do not come again.")]
    public async Task What_succeeded_is_deleted_from_the_queue()
    {
        _queue.Send("a", "b");
        Start();
        await Poll.UntilAsync(() => _queue.Left.Count == 0);
        Assert.Equal(["a 1", "b 1"], _received);
    }

    [Fact]
    [Rule(Pages.PartialSqs, "A function error is not retried by Lambda: the message comes again when the visibility timeout is over.")]
    public async Task What_failed_comes_again_when_the_queue_shows_it()
    {
        _answer = _ => _received.Count == 1 ? throw new InvalidDataException("on purpose") : "{}";
        _queue.Send("a");
        var mapping = Start();
        await Poll.UntilAsync(() => mapping.Status.LastError is not null);
        Advance(VisibilityTimeout - TimeSpan.FromMilliseconds(1));
        // Another message shows that the mapping goes on meanwhile, and that the first one is not there yet.
        _queue.Send("b");
        await Poll.UntilAsync(() => _received.Count == 2);
        Advance(TimeSpan.FromMilliseconds(1));
        await Poll.UntilAsync(() => _queue.Left.Count == 0);
        Assert.Equal(["a 1", "b 1", "a 2"], _received);
    }

    [Fact]
    [Rule(Pages.Redrive, "What was received maxReceiveCount times without being deleted is moved to the dead-letter queue, by the queue's own redrive policy.")]
    public async Task A_poison_message_goes_the_way_of_the_queues_redrive_policy()
    {
        _answer = ids => ids.Contains("poison") ? """{"batchItemFailures":[{"itemIdentifier":"poison"}]}""" : "{}";
        _queue.Send("a", "poison", "b");
        Start(new QueueSettings { ReportBatchItemFailures = true });
        for (var receive = 1; receive <= 3; receive++)
        {
            await ReceivedAndAnsweredAsync($"poison {receive}");
            await Poll.UntilAsync(() => _queue.Left.Count == 1);
            Advance(VisibilityTimeout);
        }

        await Poll.UntilAsync(() => _queue.Left.Count == 0);
        Assert.Equal(["poison"], _queue.Dead);
        Assert.Equal(["a 1", "poison 1", "b 1", "poison 2", "poison 3"], _received);
    }

    [Fact]
    [Rule(Pages.Sqs, "Lambda polls the queue and invokes the function.", Choice = "In Lambda there always is an environment. Here nothing is received before a process of the function waits: each receive in vain would bring a message nearer to the dead-letter queue.")]
    public async Task Nothing_is_received_before_the_function_has_an_environment()
    {
        var idle = new ConcurrentQueue<int>();
        _queue.OnCall = call =>
        {
            if (call == "ReceiveMessage")
            {
                idle.Enqueue(_function.Function.IdleEnvironments);
            }
        };
        _queue.Send("a");
        var mapping = Start(withEnvironment: false);
        await Poll.UntilAsync(() => mapping.State == MappingState.Enabled);
        Environment();
        await Poll.UntilAsync(() => _queue.Left.Count == 0);
        Assert.Equal(["a 1"], _received);
        Assert.DoesNotContain(0, idle.Take(1));
    }

    [Fact]
    [Rule(Pages.Sqs, "A deletion may fail: messages are processed at least once, and duplicates can occur.")]
    public async Task A_deletion_that_fails_is_tried_again()
    {
        var failures = 3;
        _queue.OnCall = call =>
        {
            if (call == "DeleteMessageBatch" && failures-- > 0)
            {
                throw new AmazonSQSException("on purpose");
            }
        };
        _queue.Send("a");
        var mapping = Start();
        await ReceivedAndAnsweredAsync("a 1");
        await AdvanceUntilAsync(() => _queue.Left.Count == 0);
        Assert.Equal(["a 1"], _received);
        Assert.Equal(-1, failures);
        Assert.Equal("Messages could not be deleted: on purpose", mapping.Status.LastError);
    }

    [Fact]
    [Rule(Pages.Sqs, "When the function successfully processes a batch, its messages are deleted.", Choice = "One that cannot be deleted does not keep the others of its batch in the queue until they come again.")]
    public async Task A_message_that_cannot_be_deleted_does_not_hold_the_others()
    {
        var batch = Enumerable.Range(0, 25).Select(number => $"m{number:D2}").ToArray();
        _queue.OnDelete = id => id == "m00" ? new() { Code = "InternalError", Message = "on purpose", SenderFault = false } : null;
        _queue.Send(batch);
        var mapping = Start(new QueueSettings { BatchSize = 25, BatchingWindow = TimeSpan.FromSeconds(1) });
        // No time passes: nothing but the first try can have deleted them.
        await Poll.UntilAsync(() => _queue.Left.Count == 1);
        Assert.Equal(["m00"], _queue.Left);
        await Poll.UntilAsync(() => mapping.Status.LastError is not null);
        Assert.Equal("Messages could not be deleted: InternalError: on purpose", mapping.Status.LastError);
        _queue.OnDelete = _ => null;
        await AdvanceUntilAsync(() => _queue.Left.Count == 0);
        Assert.Equal(batch.Select(id => $"{id} 1"), _received);
    }

    [Fact]
    [Rule(Pages.Sqs, "A deletion that the queue refuses for the sender's fault is not repeated.", Choice = "The same request would be refused again; the message comes again, and its new receipt works.")]
    public async Task A_deletion_that_is_refused_for_our_fault_is_not_repeated()
    {
        var tries = 0;
        _queue.OnDelete = id => id == "a" && tries++ == 0 ? new() { Code = "ReceiptHandleIsInvalid", Message = "on purpose", SenderFault = true } : null;
        _queue.Send("a", "b");
        Start();
        await Poll.UntilAsync(() => _queue.Left is ["a"]);
        await AdvanceUntilAsync(() => _received.Contains("a 2") && _queue.Left.Count == 0);
        Assert.Equal(["a 1", "b 1", "a 2"], _received);
        Assert.Equal(2, tries);
    }

    [Fact]
    [Rule(Pages.Sqs, "Failing polls are repeated.")]
    public async Task A_queue_that_is_not_there_yet_is_a_problem_that_passes()
    {
        var failing = true;
        _queue.OnCall = _ =>
        {
            if (Volatile.Read(ref failing))
            {
                throw new AmazonSQSException("no such queue");
            }
        };
        _queue.Send("a");
        var mapping = Start();
        await Poll.UntilAsync(() => mapping.State == MappingState.Problem);
        Assert.Equal("no such queue", mapping.Problem);
        Volatile.Write(ref failing, false);
        await AdvanceUntilAsync(() => mapping.State == MappingState.Enabled);
        await Poll.UntilAsync(() => _queue.Left.Count == 0);
        Assert.Null(mapping.Problem);
    }

    [Fact]
    [Rule(Pages.SqsConfigure, "Lambda returns an error if the function's timeout exceeds the queue's visibility timeout.")]
    public async Task A_queue_that_does_not_fit_ends_the_emulator_with_the_reason()
    {
        using var queue = new MemoryQueue(_time, TimeSpan.FromSeconds(29));
        var error = await Assert.ThrowsAsync<TemplateException>(() => Mapping(queue, new QueueSettings()).RunAsync(TestContext.Current.CancellationToken));
        Assert.Equal(
            "The mapping of queue to orders is refused: Queue visibility timeout: 29 seconds is less than Function timeout: 30 seconds.", error.Message);
    }

    [Fact]
    [Rule(Pages.Create, "Enabled false, for a queue too: nothing is received.")]
    public async Task A_disabled_mapping_receives_nothing()
    {
        _queue.OnCall = call => throw new InvalidOperationException(call);
        var mapping = Mapping(_queue, new QueueSettings(), isEnabled: false);
        await mapping.RunAsync(TestContext.Current.CancellationToken);
        Assert.Equal(MappingState.Disabled, mapping.State);
    }

    [Fact]
    [Rule(Pages.PartialSqs, "A message that cannot be sent before its visibility timeout is over is dropped: the queue shows it again.", Choice = "Waiting for an environment counts as being throttled.")]
    public async Task An_environment_that_comes_too_late_does_not_get_the_event()
    {
        var late = InvokeAsync("late", TimeSpan.FromSeconds(5));
        _time.Advance(TimeSpan.FromSeconds(5));
        Assert.IsType<InvocationOutcome.Throttled>(await late);
        Environment();
        Assert.IsType<InvocationOutcome.Answered>(await InvokeAsync("next", TimeSpan.FromSeconds(5)));
        Assert.Equal(["next 1"], _received);

        Task<InvocationOutcome> InvokeAsync(string id, TimeSpan startWithin) => _function.Function.InvokeAsync(
            EventPayload.Of(Encoding.UTF8.GetBytes($$$"""{"Records":[{"messageId":"{{{id}}}","attributes":{"ApproximateReceiveCount":"1"}}]}""")),
            TestContext.Current.CancellationToken,
            startWithin);
    }

    private QueueMapping Start(QueueSettings? settings = null, bool withEnvironment = true)
    {
        if (withEnvironment)
        {
            Environment();
        }

        var mapping = Mapping(_queue, settings ?? new QueueSettings());
        _running = mapping.RunAsync(_ends.Token);
        return mapping;
    }

    private QueueMapping Mapping(MemoryQueue queue, QueueSettings settings, bool isEnabled = true) => new(
        new QueueMappingPlan(Guid.NewGuid(), _function.Function.Definition, "queue", "arn:aws:sqs:us-east-1:0:queue", settings.Validated(), isEnabled),
        "us-east-1", _function.Function, queue, _telemetry, _time, NullLogger<QueueMapping>.Instance);

    private void Environment() => _ = _function.StartEnvironment(json =>
    {
        var messages = JsonNode.Parse(json)!["Records"]!.AsArray();
        foreach (var message in messages)
        {
            _received.Enqueue($"{message!["messageId"]} {message["attributes"]!["ApproximateReceiveCount"]}");
        }

        return _answer([.. messages.Select(message => message!["messageId"]!.ToString())]);
    });

    private void Advance(TimeSpan by)
    {
        _time.Advance(by);
        _queue.Changed();
    }

    /// <summary>
    /// The function got it and waits for its next event. Time must not be moved on before: an open invocation would run into
    /// its deadline, and an environment whose answer is refused ends.
    /// </summary>
    private Task ReceivedAndAnsweredAsync(string message) =>
        Poll.UntilAsync(() => _received.Contains(message) && _function.Function.IdleEnvironments == 1);

    /// <summary>Lets waits of less than a second pass, however many there are.</summary>
    private Task AdvanceUntilAsync(Func<bool> condition) => Poll.UntilAsync(() =>
    {
        Advance(TimeSpan.FromMilliseconds(20));
        return condition();
    });
}
