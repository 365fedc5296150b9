using System.Text;
using Amazon.SQS.Model;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>The event source mapping of an SQS queue.</summary>
public sealed class QueueTests
{
    private static readonly QueueSettings Gathering = new() { BatchSize = 100, BatchingWindow = TimeSpan.FromSeconds(5) };
    private static readonly QueueSettings Reporting = new() { ReportBatchItemFailures = true };
    private static readonly QueueSettings Fifo = new() { IsFifo = true };

    [Fact]
    [Rule(Pages.Sqs, "By default Lambda polls up to 10 messages at once and sends that batch to the function.")]
    public void What_one_receive_brought_is_sent_at_once()
    {
        var queue = new QueueScript();
        Assert.Equal(10, queue.Processor.Wanted);
        Assert.Equal("invoke a b c", queue.Receives("a", "b", "c").Next());
    }

    [Fact]
    [Rule(Pages.SqsParameters, "BatchSize: the maximum number of messages in a batch.")]
    public void A_batch_closes_at_the_batch_size()
    {
        var queue = new QueueScript(new QueueSettings { BatchSize = 2 });
        Assert.Equal(2, queue.Processor.Wanted);
        Assert.Equal("invoke a b", queue.Receives("a", "b").Next());
    }

    [Fact]
    [Rule(Pages.Sqs, "With a batching window messages are gathered until it is over.", Choice = "Lambda may wait up to 20 seconds whatever the window is; here the window is kept.")]
    public void A_window_gathers_messages_until_it_is_over()
    {
        var queue = new QueueScript(Gathering);
        Assert.Equal("nothing", queue.Receives("a").Next());
        Assert.Equal("nothing", queue.Wait(4.9).Receives("b").Next());
        Assert.Equal("invoke a b", queue.WaitForNext().Next());
        Assert.Equal(new DateTimeOffset(2026, 1, 1, 12, 0, 5, TimeSpan.Zero), queue.Now);
    }

    [Fact]
    [Rule(Pages.Sqs, "The window ends early when the batch size is reached.")]
    public void A_full_batch_does_not_wait_for_the_window()
    {
        var queue = new QueueScript(Gathering with { BatchSize = 3 });
        Assert.Equal("nothing", queue.Receives("a", "b").Next());
        Assert.Equal(1, queue.Processor.Wanted);
        Assert.Equal("invoke a b c", queue.Receives("c").Next());
    }

    [Fact]
    [Rule(Pages.Sqs, "The window ends early when the payload quota is reached; a batch closes before it would be larger.")]
    public void A_batch_closes_before_the_payload_limit()
    {
        var queue = new QueueScript(Gathering);
        Assert.Equal("nothing", queue.ReceivesOf(3_000_000, "a", "b").Next());
        Assert.Equal("invoke a b", queue.ReceivesOf(3_000_000, "c").Next());
        Assert.Equal("nothing", queue.Next());
        Assert.Equal("invoke c", queue.WaitForNext().Next());
    }

    [Fact]
    [Rule(Pages.SqsScaling, "Lambda starts with five batches at a time.", Choice = "It goes up to 1,000 from there; on one machine five is where it stays.")]
    public void Five_batches_are_in_flight_at_most()
    {
        var queue = new QueueScript();
        for (var batch = 0; batch < 5; batch++)
        {
            Assert.StartsWith("invoke", queue.Receives($"{batch}").Next(), StringComparison.Ordinal);
        }

        Assert.Equal(0, queue.Processor.Wanted);
        Assert.Equal("delete 0", queue.Succeeds().Next());
        Assert.Equal(10, queue.Processor.Wanted);
    }

    [Fact]
    [Rule(Pages.SqsScaling, "The concurrency bounds the batches that Lambda has in hand.", Choice = "A batch is in hand until its messages are deleted, filtered ones too: a queue that takes no deletions is not read on, as all that was processed would come again.")]
    public void A_batch_keeps_its_place_until_its_messages_are_deleted()
    {
        var queue = new QueueScript(new QueueSettings { ConcurrencyMax = 2, Filter = FilterCriteria.Parse(["""{"body":["text"]}"""]) }) { DeletesAtOnce = false };
        Assert.Equal("invoke a", queue.Receives("a").Next());
        Assert.Equal("delete a", queue.Succeeds().Next());
        Assert.Equal(10, queue.Processor.Wanted);
        Assert.Equal("delete b", queue.ReceivesBody("b", "other").Next());
        Assert.Equal(0, queue.Processor.Wanted);
        Assert.Equal("nothing", queue.Receives("c").Next());
        queue.Processor.Deleted();
        Assert.Equal("invoke c", queue.Next());
        Assert.Equal(0, queue.Processor.Wanted);
        queue.Processor.Deleted();
        Assert.Equal(10, queue.Processor.Wanted);
    }

    [Fact]
    [Rule(Pages.SqsScaling, "ScalingConfig.MaximumConcurrency limits the concurrent invocations of the mapping.")]
    public void Maximum_concurrency_bounds_the_batches_in_flight()
    {
        var queue = new QueueScript(new QueueSettings { ConcurrencyMax = 2 });
        Assert.Equal("invoke a", queue.Receives("a").Next());
        Assert.Equal("invoke b", queue.Receives("b").Next());
        Assert.Equal(0, queue.Processor.Wanted);
        // A poll that was already under way may still bring something.
        Assert.Equal("nothing", queue.Receives("c").Next());
        Assert.Equal("delete a", queue.Succeeds().Next());
        Assert.Equal("invoke c", queue.Next());
    }

    [Fact]
    [Rule(Pages.Sqs, "When the function successfully processes a batch, Lambda deletes its messages from the queue.")]
    public void A_batch_that_succeeded_is_deleted()
    {
        var queue = new QueueScript().Receives("a", "b");
        queue.Next();
        Assert.Equal("delete a b", queue.Succeeds().Next());
        Assert.Equal("nothing", queue.Next());
    }

    [Fact]
    [Rule(Pages.Sqs, "If the function fails, all messages of the batch become visible again after the visibility timeout.")]
    public void A_batch_that_failed_is_left_to_the_queue()
    {
        var queue = new QueueScript().Receives("a", "b");
        queue.Next();
        Assert.Equal("nothing", queue.Fails().Next());
        Assert.Null(queue.Processor.NextAt(queue.Now));
        Assert.Equal(10, queue.Processor.Wanted);
    }

    [Fact]
    [Rule(Pages.PartialSqs, "Without ReportBatchItemFailures what the function answers is not looked at.")]
    public void Without_the_setting_every_answer_is_a_success()
    {
        var queue = new QueueScript().Receives("a", "b");
        queue.Next();
        Assert.Equal("delete a b", queue.Reports("a").Next());
    }

    [Fact]
    [Rule(Pages.PartialSqs, "With ReportBatchItemFailures only the reported messages become visible again; the others are deleted.")]
    public void Only_reported_messages_come_again()
    {
        var queue = new QueueScript(Reporting).Receives("a", "b", "c", "d");
        queue.Next();
        Assert.Equal("delete a c", queue.Reports("b", "d").Next());
        Assert.Equal("nothing", queue.Next());
    }

    public static TheoryData<string> CompleteSuccesses => PartialResponseTests.CompleteSuccesses;

    [Theory]
    [MemberData(nameof(CompleteSuccesses))]
    [Rule(Pages.PartialSqs, "Complete success: an empty or null batchItemFailures list, an empty or null response.")]
    public void These_answers_are_a_complete_success(string answer)
    {
        var queue = new QueueScript(Reporting).Receives("a", "b");
        queue.Next();
        Assert.Equal("delete a b", queue.Answers(answer).Next());
    }

    public static TheoryData<string> CompleteFailures =>
    [
        "not json",
        """{"batchItemFailures":[{"itemIdentifier":""}]}""",
        """{"batchItemFailures":[{"itemIdentifier":null}]}""",
        """{"batchItemFailures":[{"itemIdentifer":"a"}]}""",
        """{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"of another batch"}]}""",
        """{"batchItemFailures":[{"itemIdentifier":"\ud800"}]}""",
    ];

    [Theory]
    [MemberData(nameof(CompleteFailures))]
    [Rule(Pages.PartialSqs, "Complete failure: invalid JSON; an itemIdentifier that is empty, null, under another key name, or no message of the batch.")]
    public void These_answers_are_a_complete_failure(string answer)
    {
        var queue = new QueueScript(Reporting).Receives("a", "b");
        queue.Next();
        Assert.Equal("nothing", queue.Answers(answer).Next());
    }

    [Fact]
    [Rule(Pages.PartialSqs, "A throttled invocation is retried with backoff until the visibility timeout is over; then Lambda drops the message.")]
    public void A_throttled_batch_is_retried_until_the_queue_shows_it_again()
    {
        var queue = new QueueScript().Receives("a");
        Assert.Equal("invoke a", queue.Next());
        var attempts = 1;
        string step;
        while ((step = queue.IsThrottled().WaitForNext().Next()) == "invoke a")
        {
            attempts++;
        }

        Assert.Equal("let go a", step);
        Assert.Equal(new DateTimeOffset(2026, 1, 1, 12, 0, 30, TimeSpan.Zero), queue.Now);
        // 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, then 10 seconds between them.
        Assert.Equal(8, attempts);
        Assert.Equal("nothing", queue.Next());
        Assert.Null(queue.Processor.NextAt(queue.Now));
    }

    [Fact]
    [Rule(Pages.PartialSqs, "Of a batch, each message is dropped at the end of its own visibility timeout.")]
    public void A_throttled_batch_loses_only_the_messages_that_are_visible_again()
    {
        var queue = new QueueScript(Gathering).Receives("a").Wait(4).Receives("b").Wait(1);
        Assert.Equal("invoke a b", queue.Next());
        Assert.Equal("let go a", queue.Wait(25).IsThrottled().Next());
        Assert.Equal("invoke b", queue.WaitForNext().Next());
    }

    [Fact]
    [Rule(Pages.Sqs, "Messages stay hidden for the visibility timeout only: what could not be sent until then is not sent.")]
    public void A_message_that_waited_too_long_is_not_sent()
    {
        var queue = new QueueScript(new QueueSettings { ConcurrencyMax = 2 }).Receives("a");
        queue.Next();
        queue.Receives("b").Next();
        Assert.Equal("nothing", queue.Receives("c").Next());
        Assert.Equal("let go c", queue.WaitForNext().Next());
        Assert.Equal(new DateTimeOffset(2026, 1, 1, 12, 0, 30, TimeSpan.Zero), queue.Now);
    }

    [Fact]
    [Rule(Pages.SqsScaling, "FIFO: messages are sent in the order in which they were received, several groups in one batch.")]
    public void A_batch_of_a_FIFO_queue_keeps_the_order_over_groups()
    {
        var queue = new QueueScript(Fifo);
        Assert.Equal("invoke a1 b1 a2", queue.Receives("a1", "b1", "a2").Next());
    }

    [Fact]
    [Rule(Pages.SqsScaling, "FIFO: concurrent invocations are of different groups.")]
    public void Batches_of_different_groups_are_in_flight_together()
    {
        var queue = new QueueScript(Fifo);
        Assert.Equal("invoke a1", queue.Receives("a1").Next());
        Assert.Equal("invoke b1", queue.Receives("b1").Next());
    }

    [Fact]
    [Rule(Pages.SqsScaling, "FIFO: a group's messages are delivered in order: those that the payload limit left over wait for the batch before.")]
    public void What_is_left_of_a_group_waits_for_the_batch_before_it()
    {
        var queue = new QueueScript(Fifo).ReceivesOf(3_000_000, "a1", "a2", "a3");
        Assert.Equal("invoke a1 a2", queue.Next());
        Assert.Equal("nothing", queue.Next());
        Assert.Equal(0, queue.Processor.Wanted);
        Assert.Equal("delete a1 a2", queue.Succeeds().Next());
        Assert.Equal("invoke a3", queue.Next());
    }

    [Fact]
    [Rule(Pages.SqsScaling, "FIFO: a group waits for its own batch only; other groups go on.")]
    public void A_group_in_flight_does_not_hold_the_other_groups()
    {
        var queue = new QueueScript(Fifo).ReceivesOf(3_000_000, "a1", "a2", "a3", "b1", "b2");
        Assert.Equal("invoke a1 a2", queue.Next());
        Assert.Equal("invoke b1 b2", queue.Next());
        Assert.Equal("nothing", queue.Next());
        Assert.Equal("delete a1 a2", queue.Succeeds().Next());
        Assert.Equal("invoke a3", queue.Next());
    }

    [Fact]
    [Rule(Pages.SqsScaling, "FIFO: if the function fails, all retries of the affected messages come before further messages of the same group.")]
    public void After_a_failure_nothing_more_of_its_group_is_sent()
    {
        var queue = new QueueScript(Fifo).ReceivesOf(3_000_000, "a1", "a2", "a3", "b1");
        Assert.Equal("invoke a1 a2", queue.Next());
        Assert.Equal("let go a3", queue.Fails().Next());
        Assert.Equal("invoke b1", queue.Next());
        Assert.Equal("nothing", queue.Next());
    }

    [Fact]
    [Rule(Pages.PartialSqs, "FIFO: a function that reports a failure has to report all behind it as well; what it does not report is deleted.")]
    public void Of_a_FIFO_queue_too_what_is_not_reported_is_deleted()
    {
        var queue = new QueueScript(Fifo with { ReportBatchItemFailures = true }).Receives("a1", "a2", "a3");
        queue.Next();
        Assert.Equal("delete a1 a3", queue.Reports("a2").Next());
    }

    [Fact]
    [Rule(Pages.Filtering, "A message that does not fit the filter is deleted from the queue.")]
    public void A_message_that_does_not_fit_the_filter_is_deleted()
    {
        var queue = new QueueScript(new QueueSettings { Filter = FilterCriteria.Parse(["""{"body":{"kind":["order"]}}"""]) });
        Assert.Equal("delete b", queue.ReceivesBody("a", """{"kind":"order"}""").ReceivesBody("b", """{"kind":"other"}""").Next());
        Assert.Equal("invoke a", queue.Next());
    }

    public static TheoryData<string, string, bool> Filters => new()
    {
        { """{"body":["ping"]}""", "ping", true },
        { """{"body":["ping"]}""", "pong", false },
        // The other kind: Lambda drops the message.
        { """{"body":["ping"]}""", """{"kind":"ping"}""", false },
        { """{"body":{"kind":["ping"]}}""", "ping", false },
        { """{"body":{"kind":["ping"]}}""", """{"kind":"ping"}""", true },
        { """{"body":{"count":[{"numeric":[">",3]}]}}""", """{"count":4}""", true },
        // JSON by its grammar, but with half of a surrogate pair: a plain text.
        { """{"body":{"kind":["ping"]}}""", """{"kind":"ping","name":"\ud83d"}""", false },
        { """{"body":{"kind":["ping"]}}""", """{"kind":"ping","\ud83d":1}""", false },
        { """{"body":[{"prefix":"{"}]}""", """{"kind":"ping","name":"\ud83d"}""", true },
    };

    [Theory]
    [MemberData(nameof(Filters))]
    [Rule(Pages.SqsFiltering, "body: a JSON object is matched by its members, a plain string as a whole; message and pattern of different kinds: the message is dropped.", Choice = "A body that is a JSON value but not an object counts as a plain string: no pattern of the other kind could name anything in it.")]
    public void The_body_is_matched_as_what_it_is(string pattern, string body, bool fits)
    {
        var queue = new QueueScript(new QueueSettings { Filter = FilterCriteria.Parse([pattern]) });
        Assert.Equal(fits ? "invoke a" : "delete a", queue.ReceivesBody("a", body).Next());
    }

    public static TheoryData<int, int, int?, bool, string> BadSettings => new()
    {
        { 0, 0, null, false, "BatchSize is 0, but Lambda takes 1 to 10000 for a standard queue." },
        { 10_001, 1, null, false, "BatchSize is 10001, but Lambda takes 1 to 10000 for a standard queue." },
        { 11, 0, null, true, "BatchSize is 11, but Lambda takes 1 to 10 for a FIFO queue." },
        { 11, 0, null, false, "BatchSize is 11, but above 10 Lambda wants MaximumBatchingWindowInSeconds of at least 1." },
        { 10, 301, null, false, "MaximumBatchingWindowInSeconds is 301, but Lambda takes 0 to 300." },
        { 10, 1, null, true, "MaximumBatchingWindowInSeconds is 1, but Lambda takes no batching window for a FIFO queue. Leave it out." },
        { 10, 0, 1, false, "ScalingConfig.MaximumConcurrency is 1, but Lambda takes 2 to 1000." },
        { 10, 0, 1001, false, "ScalingConfig.MaximumConcurrency is 1001, but Lambda takes 2 to 1000." },
    };

    [Theory]
    [MemberData(nameof(BadSettings))]
    [Rule(Pages.SqsParameters, "The ranges of BatchSize, MaximumBatchingWindowInSeconds and ScalingConfig; no window for FIFO queues; above 10 messages a window of at least 1 s.")]
    public void Settings_out_of_range_are_refused(int batchSize, int window, int? concurrency, bool isFifo, string message)
    {
        var settings = new QueueSettings { BatchSize = batchSize, BatchingWindow = TimeSpan.FromSeconds(window), ConcurrencyMax = concurrency, IsFifo = isFifo };
        Assert.Equal(message, Assert.Throws<ArgumentException>(settings.Validated).Message);
    }

    [Fact]
    [Rule(Pages.SqsConfigure, "The function's timeout must be at most the queue's visibility timeout; otherwise the mapping is refused.", Choice = "A batching window of at least the visibility timeout is refused too: its messages would come again before they are sent.")]
    public void A_queue_that_hides_messages_for_less_than_the_functions_timeout_does_not_fit()
    {
        var second = TimeSpan.FromSeconds(1);
        Assert.Null(new QueueSettings().Misfit(60 * second, 60 * second));
        Assert.Equal("Queue visibility timeout: 30 seconds is less than Function timeout: 60 seconds.", new QueueSettings().Misfit(30 * second, 60 * second));
        Assert.Null(Gathering.Misfit(6 * second, 3 * second));
        Assert.Equal(
            "Queue visibility timeout: 5 seconds is not more than MaximumBatchingWindowInSeconds, 5: messages would be visible again before they are sent.",
            Gathering.Misfit(5 * second, 3 * second));
    }

    [Fact]
    [Rule(Pages.Sqs, "The example events of a standard and of a FIFO queue: members, names and forms of a message.")]
    public void A_message_has_the_form_of_the_example_event()
    {
        var message = new QueueMessageFormat("us-east-2", "arn:aws:sqs:us-east-2:123456789012:fifo.fifo").Read(new Message
        {
            MessageId = "11d6ee51-4cc7-4302-9e22-7cd8afdaadf5",
            ReceiptHandle = "AQEBBX8nesZEXmkhsmZeyIE8iQAMig7qw...",
            Body = "Test \"message\" + Ação",
            MD5OfBody = "e4e68fb7bd0e697a0ae8f1bb342846b3",
            Attributes = new() { ["ApproximateReceiveCount"] = "1", ["SentTimestamp"] = "1573251510774", ["SequenceNumber"] = "18849496460467696128", ["MessageGroupId"] = "1" },
            MessageAttributes = new() { ["kind"] = new() { DataType = "String", StringValue = "order" }, ["raw"] = new() { DataType = "Binary", BinaryValue = new MemoryStream([1, 2, 3]) } },
        });
        Assert.Equal("1", message.GroupId);
        Assert.Equal(
            """
            {"messageId":"11d6ee51-4cc7-4302-9e22-7cd8afdaadf5","receiptHandle":"AQEBBX8nesZEXmkhsmZeyIE8iQAMig7qw...",
            "body":"Test \"message\" + Ação","attributes":{"ApproximateReceiveCount":"1","SentTimestamp":"1573251510774",
            "SequenceNumber":"18849496460467696128","MessageGroupId":"1"},"messageAttributes":{"kind":{"stringValue":"order",
            "stringListValues":[],"binaryListValues":[],"dataType":"String"},"raw":{"binaryValue":"AQID","stringListValues":[],
            "binaryListValues":[],"dataType":"Binary"}},"md5OfBody":"e4e68fb7bd0e697a0ae8f1bb342846b3","eventSource":"aws:sqs",
            "eventSourceARN":"arn:aws:sqs:us-east-2:123456789012:fifo.fifo","awsRegion":"us-east-2"}
            """.ReplaceLineEndings(""),
            Encoding.UTF8.GetString(message.Json.Span));
    }
}
