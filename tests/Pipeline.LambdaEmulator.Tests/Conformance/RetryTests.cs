using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>What becomes of a batch that failed.</summary>
public sealed class RetryTests
{
    private static readonly MappingSettings Defaults = ScriptedShard.Defaults;

    [Fact]
    [Rule(Pages.Partial, "Only a complete success moves the checkpoint, to the highest sequence number of the batch.")]
    public void A_success_moves_the_checkpoint_to_the_end_of_the_batch()
    {
        var shard = new ScriptedShard().Write(3);
        shard.Next();
        Assert.Equal(0, shard.Checkpoint);
        Assert.Equal(3, shard.Succeeds().Checkpoint);
    }

    [Fact]
    [Rule(Pages.Errors, "A function that returns an error is retried with the same batch; later records wait.")]
    public void A_failed_batch_is_retried_as_it_was_before_anything_new()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 2 }).Write(4);
        Assert.Equal("invoke 1-2", shard.Next());
        Assert.Equal("invoke 1-2", shard.Fails().WaitForNext().Next());
        Assert.Equal(0, shard.Checkpoint);
        Assert.Equal("invoke 3-4", shard.Succeeds().Next());
    }

    [Fact]
    [Rule(Pages.Errors, "Retries back off.", Choice = "AWS gives no numbers: 200 ms, doubled each time, at most 10 s, without jitter.")]
    public void Retries_back_off_exponentially_up_to_a_bound()
    {
        var shard = new ScriptedShard().Write(1);
        var delays = new List<double>();
        for (var i = 0; i < 9; i++)
        {
            var failedAt = shard.Now;
            shard.Next();
            shard.Fails().WaitForNext();
            delays.Add((shard.Now - failedAt).TotalSeconds);
        }

        Assert.Equal([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10], delays);
    }

    [Fact]
    [Rule(Pages.Parameters, "MaximumRetryAttempts -1 (the default): failed records are retried until they expire.")]
    public void Without_a_limit_a_batch_is_retried_until_the_records_expire()
    {
        var shard = new ScriptedShard().Write(1);
        var log = shard.RunWithPoison(1);
        Assert.Equal("discard 1 RecordAgeExceeded", log[^1]);
        Assert.True(log.Count > 1000);
        Assert.All(log.SkipLast(1), step => Assert.Equal("invoke 1", step));
        Assert.Equal(new DateTimeOffset(2026, 1, 2, 12, 0, 0, TimeSpan.Zero), shard.Now);
    }

    [Fact]
    [Rule(Pages.Parameters, "MaximumRetryAttempts is the number of retries: the first invocation is none.")]
    public void Two_retries_are_three_invocations()
    {
        var shard = new ScriptedShard(Defaults with { RetryAttemptsMax = 2 }).Write(2);
        Assert.Equal(
            ["invoke 1-2", "invoke 1-2", "invoke 1-2", "discard 1-2 RetryAttemptsExhausted"], shard.RunWithPoison(2));
        Assert.Equal(2, shard.Checkpoint);
    }

    [Fact]
    [Rule(Pages.Parameters, "MaximumRetryAttempts 0: a failed batch is not retried.")]
    public void Zero_retries_are_one_invocation()
    {
        var shard = new ScriptedShard(Defaults with { RetryAttemptsMax = 0 }).Write(1);
        Assert.Equal(["invoke 1", "discard 1 RetryAttemptsExhausted"], shard.RunWithPoison(1));
    }

    [Fact]
    [Rule(Pages.Errors, "If the error handling measures fail, Lambda discards the records and continues with the stream.")]
    public void After_a_discard_the_shard_goes_on()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 1, RetryAttemptsMax = 0 }).Write(3);
        Assert.Equal(["invoke 1", "invoke 2", "discard 2 RetryAttemptsExhausted", "invoke 3"], shard.RunWithPoison(2));
    }

    [Fact]
    [Rule(Pages.Errors, "Discarded records go to the destination.", Choice = "The checkpoint moves only once they are there, so that a kill in between loses nothing.")]
    public void The_checkpoint_waits_for_the_destination()
    {
        var shard = new ScriptedShard(Defaults with { RetryAttemptsMax = 0 }).Write(2);
        shard.Next();
        Assert.Equal("discard 1-2 RetryAttemptsExhausted", shard.Fails().Next());
        Assert.Equal(0, shard.Checkpoint);
        Assert.Equal(2, shard.IsDelivered().Checkpoint);
    }

    [Fact]
    [Rule(Pages.Errors, "The retry quota belongs to the batch: a success ends it.")]
    public void The_next_batch_has_its_own_attempts()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 1, RetryAttemptsMax = 1 }).Write(2);
        shard.Next();
        shard.Fails().WaitForNext().Next();
        Assert.Equal("invoke 2", shard.Succeeds().Next());
        Assert.Equal("invoke 2", shard.Fails().WaitForNext().Next());
    }

    [Fact]
    [Rule(Pages.Create, "MaximumRecordAgeInSeconds: records older than this are discarded.")]
    public void A_batch_is_discarded_when_its_records_are_too_old()
    {
        var shard = new ScriptedShard(Defaults with { RecordAgeMax = TimeSpan.FromSeconds(60) }).Write(1);
        var log = shard.RunWithPoison(1);
        Assert.Equal("discard 1 RecordAgeExceeded", log[^1]);
        Assert.Equal(new DateTimeOffset(2026, 1, 1, 12, 1, 0, TimeSpan.Zero), shard.Now);
    }

    [Fact]
    [Rule(Pages.Create, "MaximumRecordAgeInSeconds is the maximum age of a record that Lambda sends to a function: an older one is not sent even once.")]
    public void A_record_that_is_too_old_when_it_is_read_is_never_sent()
    {
        var shard = new ScriptedShard(Defaults with { RecordAgeMax = TimeSpan.FromSeconds(60) }).WriteOld(TimeSpan.FromSeconds(61)).Write(1);
        Assert.Equal("discard 1 RecordAgeExceeded", shard.Next());
        Assert.Equal(0, shard.LastAction.Batch.Invocations);
        Assert.Equal("invoke 2", shard.IsDelivered().Next());
    }

    [Fact]
    [Rule(Pages.Create, "Only the records that are too old are discarded; the others of the batch are retried.", Choice = "The page speaks of records, not of batches.")]
    public void Of_a_failed_batch_only_the_old_records_are_discarded()
    {
        var shard = new ScriptedShard(Defaults with { RecordAgeMax = TimeSpan.FromSeconds(60), BatchingWindow = TimeSpan.FromSeconds(50) }).Write(1);
        shard.Wait(TimeSpan.FromSeconds(50)).Write(1);
        Assert.Equal("invoke 1-2", shard.Next());
        shard.Fails().Wait(TimeSpan.FromSeconds(10));
        Assert.Equal("discard 1 RecordAgeExceeded", shard.Next());
        Assert.Equal("invoke 2", shard.IsDelivered().Next());
    }

    [Fact]
    [Rule(Pages.Streams, "Records are kept for 24 hours: a longer maximum age does not keep them longer.")]
    public void The_retention_of_the_stream_bounds_the_maximum_age()
    {
        var shard = new ScriptedShard(Defaults with { RecordAgeMax = TimeSpan.FromDays(7) }).Write(1);
        shard.RunWithPoison(1);
        Assert.Equal(new DateTimeOffset(2026, 1, 2, 12, 0, 0, TimeSpan.Zero), shard.Now);
    }

    [Fact]
    [Rule(Pages.Errors, "With a maximum record age of -1 a record is tried until it expires in the stream: one that the stream still gives out has not expired.")]
    public void A_record_that_is_read_late_is_tried_however_old_it_is()
    {
        var shard = new ScriptedShard(Defaults).WriteOld(TimeSpan.FromDays(3));
        Assert.Equal("invoke 1", shard.Next());
        Assert.Equal("invoke 1", shard.Fails().Wait(TimeSpan.FromHours(1)).Next());
    }

    [Fact]
    [Rule(Pages.Errors, "A throttled invocation (before the function is invoked) does not count as a retry attempt.")]
    public void Throttling_does_not_use_up_the_retry_attempts()
    {
        var shard = new ScriptedShard(Defaults with { RetryAttemptsMax = 0 }).Write(1);
        for (var i = 0; i < 20; i++)
        {
            Assert.Equal("invoke 1", shard.Next());
            shard.IsThrottled().WaitForNext();
        }

        Assert.Equal("invoke 1", shard.Next());
        Assert.Equal("discard 1 RetryAttemptsExhausted", shard.Fails().Next());
    }

    [Fact]
    [Rule(Pages.Errors, "A throttled invocation is retried until the records expire or exceed the maximum age.")]
    public void Throttling_is_retried_until_the_records_are_too_old()
    {
        var shard = new ScriptedShard(Defaults with { RecordAgeMax = TimeSpan.FromSeconds(60) }).Write(1);
        var step = shard.Next();
        while (step == "invoke 1")
        {
            step = shard.IsThrottled().WaitForNext().Next();
        }

        Assert.Equal("discard 1 RecordAgeExceeded", step);
        Assert.Equal(0, shard.LastAction.Batch.Invocations);
    }

    [Fact]
    [Rule(Pages.Errors, "A throttled batch is not bisected: bisection is for function errors.")]
    public void Throttling_does_not_bisect()
    {
        var shard = new ScriptedShard(Defaults with { BisectOnError = true }).Write(4);
        shard.Next();
        Assert.Equal("invoke 1-4", shard.IsThrottled().WaitForNext().Next());
    }

    [Fact]
    [Rule(Pages.Errors, "While a batch waits for its retry nothing else of the shard is sent.")]
    public void Nothing_overtakes_a_batch_that_waits()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 1 }).Write(2);
        shard.Next();
        Assert.Equal("nothing", shard.Fails().Next());
        Assert.Equal("nothing", shard.Wait(TimeSpan.FromMilliseconds(199)).Next());
        Assert.Equal("invoke 1", shard.Wait(TimeSpan.FromMilliseconds(1)).Next());
    }
}
