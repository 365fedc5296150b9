using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>One record that the function can never process, in a batch of 1,000 records of ten items.</summary>
public sealed class PoisonRecordTests
{
    private const int Count = 1000;

    /// <summary>⌈log2(1000)⌉ + 1: the whole batch, and a half of what is left until the record is alone.</summary>
    private const int RoundsMax = 11;

    private static readonly MappingSettings Thousand = ScriptedShard.Defaults with { BatchSize = Count };

    [Theory]
    [InlineData(1)]
    [InlineData(500)]
    [InlineData(1000)]
    [Rule(Pages.Partial, "A poison record among 1,000, reported: exactly the records from it on are retried, until the attempts are used up.")]
    public void With_reported_failures_exactly_the_records_after_the_last_success_are_retried(int poison)
    {
        var run = Run(Thousand with { ReportBatchItemFailures = true, RetryAttemptsMax = 2 }, poison, isReporting: true);
        var rest = poison == Count ? $"{poison}" : $"{poison}-{Count}";
        Assert.Equal([$"invoke 1-{Count}", $"invoke {rest}", $"invoke {rest}", $"discard {rest} RetryAttemptsExhausted"], run.Log);
        Assert.Equal(Enumerable.Range(1, poison - 1), run.Processed);
        Assert.Equal(Enumerable.Range(poison, Count - poison + 1), run.Parked);
    }

    [Theory]
    [InlineData(1, 0)]
    [InlineData(500, 0)]
    [InlineData(1000, 0)]
    [InlineData(500, 3)]
    [Rule(Pages.Errors, "A poison record among 1,000, with bisection: it is alone after at most ⌈log2(1000)⌉ + 1 invocations, is retried alone, and is parked with its payload; every other record is processed once.")]
    public void With_bisection_the_record_is_isolated_and_parked_alone(int poison, int retries)
    {
        var run = Run(Thousand with { BisectOnError = true, RetryAttemptsMax = retries }, poison, isReporting: false);
        Assert.InRange(run.RoundsWithPoison, 1, RoundsMax + retries);
        Assert.Equal(1 + retries, run.Log.Count(step => step == $"invoke {poison}"));
        Assert.Equal(Enumerable.Range(1, Count).Except([poison]), run.Processed);
        Assert.Equal([poison], run.Parked);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(500)]
    [InlineData(1000)]
    [Rule(Pages.Partial, "A poison record among 1,000, reported and bisected: one round more at most, for the split at the reported record; every other record is processed once, in order.")]
    public void With_both_every_other_record_is_processed_once_in_order(int poison)
    {
        var run = Run(Thousand with { BisectOnError = true, ReportBatchItemFailures = true, RetryAttemptsMax = 0 }, poison, isReporting: true);
        Assert.InRange(run.RoundsWithPoison, 1, RoundsMax + 1);
        Assert.Equal(Enumerable.Range(1, Count).Except([poison]), run.Processed);
        Assert.Equal([poison], run.Parked);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(10)]
    [Rule(Pages.Using, "A poison record with a parallelization factor: the records of every item stay in order, and every other record is processed once.")]
    public void In_parallel_lanes_the_records_of_an_item_stay_in_order(int parallelizationFactor)
    {
        const int poison = 500;
        var run = Run(
            Thousand with { BisectOnError = true, ReportBatchItemFailures = true, RetryAttemptsMax = 0, ParallelizationFactor = parallelizationFactor },
            poison,
            isReporting: true);
        Assert.Equal(Enumerable.Range(1, Count).Except([poison]), run.Processed.Order());
        Assert.All(run.Processed.GroupBy(ItemOf), item => Assert.Equal(item.Order(), item));
        Assert.Equal([poison], run.Parked);
    }

    private sealed record Outcome(List<string> Log, List<int> Processed, List<int> Parked, int RoundsWithPoison);

    private static ulong ItemOf(int number) => (ulong)number % 10;

    /// <summary>
    /// Runs until nothing is left. A reporting function processes records up to the poisonous one and reports that; another
    /// one processes all of a batch or nothing.
    /// </summary>
    private static Outcome Run(MappingSettings settings, int poison, bool isReporting)
    {
        var shard = new ScriptedShard(settings).WriteOf([.. Enumerable.Range(1, Count).Select(ItemOf)]);
        var run = new Outcome([], [], [], 0);
        while (shard.Processor.Buffered > 0)
        {
            var step = shard.Next();
            if (step == "nothing")
            {
                shard.WaitForNext();
                continue;
            }

            run.Log.Add(step);
            var numbers = shard.LastAction.Batch.Records.Select(record => int.Parse(record.SequenceNumber, CultureInfo.InvariantCulture)).ToList();
            var holdsPoison = numbers.Contains(poison);
            switch (shard.LastAction)
            {
                case ShardAction.Discard discard:
                    run.Parked.AddRange(Payload(discard));
                    shard.IsDelivered();
                    break;
                case ShardAction.Invoke when !holdsPoison:
                    run.Processed.AddRange(numbers);
                    shard.Succeeds();
                    break;
                case ShardAction.Invoke when isReporting:
                    run.Processed.AddRange(numbers.TakeWhile(number => number != poison));
                    shard.Reports(poison);
                    break;
                default:
                    shard.Fails();
                    break;
            }

            run = run with { RoundsWithPoison = run.RoundsWithPoison + (holdsPoison && step.StartsWith("invoke", StringComparison.Ordinal) ? 1 : 0) };
        }

        return run;
    }

    /// <summary>The records that the document for a bucket holds.</summary>
    private static IEnumerable<int> Payload(ShardAction.Discard discard)
    {
        var document = FailureDocument.WriteWithRecords(discard, new BatchOrigin("f", "s", "shard"), Guid.Empty, DateTimeOffset.UnixEpoch);
        var payload = JsonNode.Parse(JsonNode.Parse(document)!["payload"]!.GetValue<string>())!;
        return payload["Records"]!.AsArray().Select(record => record!["n"]!.GetValue<int>());
    }
}
