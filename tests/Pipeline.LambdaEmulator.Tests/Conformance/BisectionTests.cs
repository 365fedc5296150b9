using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>BisectBatchOnFunctionError.</summary>
public sealed class BisectionTests
{
    private static readonly MappingSettings Bisecting = ScriptedShard.Defaults with { BisectOnError = true, RetryAttemptsMax = 0 };

    [Fact]
    [Rule(Pages.Errors, "BisectBatchOnFunctionError splits a failed batch into two smaller batches.")]
    public void A_failed_batch_is_split_in_two_in_order()
    {
        var shard = new ScriptedShard(Bisecting).Write(5);
        Assert.Equal("invoke 1-5", shard.Next());
        Assert.Equal("invoke 1-3", shard.Fails().Next());
        Assert.Equal("invoke 4-5", shard.Succeeds().Next());
        Assert.Equal(5, shard.Succeeds().Checkpoint);
    }

    [Fact]
    [Rule(Pages.Errors, "Splitting isolates the bad record.")]
    public void A_poison_record_is_isolated_and_discarded_alone()
    {
        var shard = new ScriptedShard(Bisecting).Write(8);
        Assert.Equal(
            [
                "invoke 1-8", "invoke 1-4", "invoke 5-8", "invoke 5-6", "invoke 5", "invoke 6",
                "discard 6 RetryAttemptsExhausted", "invoke 7-8",
            ],
            shard.RunWithPoison(6));
    }

    [Fact]
    [Rule(Pages.Errors, "Splitting batches does not consume the retry quota.")]
    public void Splitting_does_not_use_up_the_retry_attempts()
    {
        var shard = new ScriptedShard(Bisecting with { RetryAttemptsMax = 1 }).Write(4);
        Assert.Equal(
            ["invoke 1-4", "invoke 1-2", "invoke 1", "invoke 1", "discard 1 RetryAttemptsExhausted", "invoke 2", "invoke 3-4"],
            shard.RunWithPoison(1));
    }

    [Fact]
    [Rule(Pages.Errors, "Records are not lost and stay in order while batches are split.")]
    public void With_several_poison_records_every_other_is_processed_once_in_order()
    {
        var shard = new ScriptedShard(Bisecting with { BatchSize = 100 }).Write(250);
        int[] poison = [1, 50, 51, 100, 101, 250];
        var processed = new List<int>();
        while (shard.Processor.Buffered > 0)
        {
            if (shard.Next() == "nothing")
            {
                shard.WaitForNext();
            }
            else if (shard.LastAction is ShardAction.Discard)
            {
                shard.IsDelivered();
            }
            else
            {
                var numbers = shard.LastAction.Batch.Records.Select(record => int.Parse(record.SequenceNumber, System.Globalization.CultureInfo.InvariantCulture)).ToList();
                if (numbers.Intersect(poison).Any())
                {
                    shard.Fails();
                }
                else
                {
                    processed.AddRange(numbers);
                    shard.Succeeds();
                }
            }
        }

        Assert.Equal(Enumerable.Range(1, 250).Except(poison), processed);
    }

    [Fact]
    [Rule(Pages.Errors, "A batch of one record cannot be split: it is retried.")]
    public void A_single_record_is_retried_with_backoff()
    {
        var shard = new ScriptedShard(Bisecting with { RetryAttemptsMax = null }).Write(1);
        shard.Next();
        Assert.Equal("nothing", shard.Fails().Next());
        Assert.Equal("invoke 1", shard.WaitForNext().Next());
    }
}
