using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>ReportBatchItemFailures.</summary>
public sealed class PartialResponseTests
{
    private static readonly MappingSettings Reporting = ScriptedShard.Defaults with { ReportBatchItemFailures = true };

    public static TheoryData<string> CompleteSuccesses =>
    [
        """{"batchItemFailures":[]}""",
        """{"batchItemFailures":null}""",
        "{}",
        "null",
        "",
        " \r\n",
        """{"somethingElse":1}""",
    ];

    [Theory]
    [MemberData(nameof(CompleteSuccesses))]
    [Rule(Pages.Partial, "Complete success: an empty or null batchItemFailures list, an empty or null response.")]
    public void These_answers_are_a_complete_success(string answer)
    {
        var shard = new ScriptedShard(Reporting).Write(3);
        shard.Next();
        Assert.Equal(3, shard.Answers(answer).Checkpoint);
        Assert.Equal("nothing", shard.Next());
    }

    public static TheoryData<string> CompleteFailures =>
    [
        """{"batchItemFailures":[{"itemIdentifier":""}]}""",
        """{"batchItemFailures":[{"itemIdentifier":null}]}""",
        """{"batchItemFailures":[{"itemIdentifer":"000000000000000000002"}]}""",
        """{"batchItemFailures":[{}]}""",
        """{"batchItemFailures":[null]}""",
    ];

    [Theory]
    [MemberData(nameof(CompleteFailures))]
    [Rule(Pages.Partial, "Complete failure: an itemIdentifier that is empty, null or under another key name.")]
    public void These_answers_are_a_complete_failure(string answer)
    {
        var shard = new ScriptedShard(Reporting).Write(3);
        shard.Next();
        Assert.Equal(0, shard.Answers(answer).Checkpoint);
        Assert.Equal("invoke 1-3", shard.WaitForNext().Next());
    }

    public static TheoryData<string> UndocumentedFailures =>
    [
        "not json",
        "[]",
        "\"ok\"",
        "true",
        """{"batchItemFailures":{}}""",
        """{"batchItemFailures":"000000000000000000002"}""",
        """{"batchItemFailures":[{"itemIdentifier":2}]}""",
        """{"batchItemFailures":["000000000000000000002"]}""",
        // Half of a surrogate pair: JSON.stringify of a text that was cut.
        """{"batchItemFailures":[{"itemIdentifier":"\ud800"}]}""",
    ];

    [Theory]
    [MemberData(nameof(UndocumentedFailures))]
    [Rule(Pages.PartialSqs, "An invalid JSON response is a complete failure.", Choice = "The DynamoDB page is silent on answers of another shape; the SQS page is followed, so that nothing is skipped by mistake.")]
    public void Answers_of_another_shape_are_a_complete_failure(string answer)
    {
        var shard = new ScriptedShard(Reporting).Write(3);
        shard.Next();
        Assert.Equal(0, shard.Answers(answer).Checkpoint);
        Assert.Equal("invoke 1-3", shard.WaitForNext().Next());
    }

    [Fact]
    [Rule(Pages.PartialSqs, "An answer that is not UTF-8 is no JSON: a complete failure.", Choice = "The DynamoDB page is silent; the SQS page is followed.")]
    public void An_answer_that_is_not_UTF8_is_a_complete_failure()
    {
        var shard = new ScriptedShard(Reporting).Write(3);
        shard.Next();
        shard.Ends(new InvocationOutcome.Answered((byte[])[.. """{"batchItemFailures":[{"itemIdentifier":" """u8, 0xff, .. "\"}]}"u8]));
        Assert.Equal(0, shard.Checkpoint);
        Assert.Equal("invoke 1-3", shard.WaitForNext().Next());
    }

    [Fact]
    [Rule(Pages.Partial, "The records before the reported one are done; it and all behind it are retried.")]
    public void Records_from_the_reported_one_on_are_retried()
    {
        var shard = new ScriptedShard(Reporting).Write(5);
        shard.Next();
        Assert.Equal(2, shard.Reports(3).Checkpoint);
        Assert.Equal("invoke 3-5", shard.WaitForNext().Next());
        Assert.Equal(5, shard.Succeeds().Checkpoint);
    }

    [Fact]
    [Rule(Pages.Partial, "With several identifiers the lowest sequence number is the checkpoint.")]
    public void The_lowest_of_several_identifiers_decides()
    {
        var shard = new ScriptedShard(Reporting).Write(5);
        shard.Next();
        Assert.Equal(1, shard.Reports(4, 2, 5).Checkpoint);
        Assert.Equal("invoke 2-5", shard.WaitForNext().Next());
    }

    [Fact]
    [Rule(Pages.Partial, "An identifier may be reported twice.", Choice = "Undocumented; it changes nothing.")]
    public void An_identifier_that_is_reported_twice_counts_once()
    {
        var shard = new ScriptedShard(Reporting).Write(5);
        shard.Next();
        Assert.Equal(2, shard.Reports(3, 3).Checkpoint);
    }

    [Fact]
    [Rule(Pages.PartialSqs, "An identifier that is not in the batch makes the whole batch a failure.", Choice = "The DynamoDB page is silent; the SQS page is followed.")]
    public void An_identifier_that_is_not_in_the_batch_fails_all_of_it()
    {
        var shard = new ScriptedShard(Reporting).Write(5);
        shard.Next();
        Assert.Equal(0, shard.Reports(3, 77).Checkpoint);
        Assert.Equal("invoke 1-5", shard.WaitForNext().Next());
    }

    [Fact]
    [Rule(Pages.Partial, "If the first record is reported, nothing succeeded.")]
    public void Reporting_the_first_record_retries_all()
    {
        var shard = new ScriptedShard(Reporting).Write(3);
        shard.Next();
        Assert.Equal(0, shard.Reports(1).Checkpoint);
        Assert.Equal("invoke 1-3", shard.WaitForNext().Next());
    }

    [Fact]
    [Rule(Pages.Partial, "Even when a function returns partial failures, they are not looked at unless ReportBatchItemFailures is turned on.")]
    public void Without_the_setting_an_answer_is_a_success_whatever_it_says()
    {
        var shard = new ScriptedShard().Write(3);
        shard.Next();
        Assert.Equal(3, shard.Reports(2).Checkpoint);
    }

    [Fact]
    [Rule(Pages.Partial, "Lambda retries reported failures based on the retry strategy: MaximumRetryAttempts bounds them.", Choice = "Whether progress renews the attempts is not documented: it does not, they belong to the batch.")]
    public void Reported_failures_use_up_the_retry_attempts()
    {
        var shard = new ScriptedShard(Reporting with { RetryAttemptsMax = 1 }).Write(5);
        shard.Next();
        Assert.Equal("invoke 3-5", shard.Reports(3).WaitForNext().Next());
        Assert.Equal("discard 4-5 RetryAttemptsExhausted", shard.Reports(4).Next());
        Assert.Equal(3, shard.Checkpoint);
        Assert.Equal(5, shard.IsDelivered().Checkpoint);
    }

    [Fact]
    [Rule(Pages.Partial, "With BisectBatchOnFunctionError too, the batch is bisected at the returned sequence number and only the remaining records are retried.")]
    public void With_bisection_the_batch_is_split_at_the_reported_record()
    {
        var shard = new ScriptedShard(Reporting with { BisectOnError = true, RetryAttemptsMax = 0 }).Write(8);
        shard.Next();
        Assert.Equal("invoke 4-8", shard.Reports(4).Next());
        Assert.Equal(3, shard.Checkpoint);
    }

    [Fact]
    [Rule(Pages.Partial, "With BisectBatchOnFunctionError too, an invocation that fails bisects the batch whatever ReportBatchItemFailures says.")]
    public void With_bisection_an_error_splits_in_halves()
    {
        var shard = new ScriptedShard(Reporting with { BisectOnError = true }).Write(8);
        shard.Next();
        Assert.Equal("invoke 1-4", shard.Fails().Next());
    }

    [Fact]
    [Rule(Pages.Partial, "With both settings, a batch whose first record is reported is split in halves.", Choice = "Nothing succeeded, so it is a complete failure; splitting at the first record would never isolate it.")]
    public void With_bisection_a_reported_first_record_is_isolated()
    {
        var shard = new ScriptedShard(Reporting with { BisectOnError = true, RetryAttemptsMax = 1 }).Write(8);
        shard.Next();
        Assert.Equal("invoke 3-8", shard.Reports(3).Next());
        Assert.Equal("invoke 3-5", shard.Reports(3).Next());
        Assert.Equal("invoke 3-4", shard.Reports(3).Next());
        Assert.Equal("invoke 3", shard.Reports(3).Next());
        Assert.Equal("invoke 3", shard.Reports(3).WaitForNext().Next());
        Assert.Equal("discard 3 RetryAttemptsExhausted", shard.Reports(3).Next());
        Assert.Equal("invoke 4", shard.IsDelivered().Next());
        Assert.Equal("invoke 5", shard.Succeeds().Next());
        Assert.Equal("invoke 6-8", shard.Succeeds().Next());
    }
}
