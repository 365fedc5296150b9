using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>ParallelizationFactor.</summary>
public sealed class ParallelizationTests
{
    private static readonly MappingSettings Parallel = ScriptedShard.Defaults with { ParallelizationFactor = 2, BatchSize = 2 };

    [Fact]
    [Rule(Pages.Create, "ParallelizationFactor is the number of batches of a shard that are processed at once; 1 by default.")]
    public void As_many_batches_as_the_factor_are_in_flight()
    {
        // Items of even and odd numbers fall into two lanes.
        var shard = new ScriptedShard(Parallel).WriteOf(0, 1, 2, 3, 4, 5);
        Assert.Equal("invoke 1,3", shard.Next());
        Assert.Equal("invoke 2,4", shard.Next());
        Assert.Equal("nothing", shard.Next());
    }

    [Fact]
    [Rule(Pages.Using, "With a parallelization factor, records of an item (partition and sort key) are still processed in order.")]
    public void Changes_of_one_item_are_never_in_two_batches_at_once()
    {
        var shard = new ScriptedShard(Parallel with { BatchSize = 1 }).WriteOf(7, 7, 7, 8);
        Assert.Equal("invoke 4", shard.Next());
        Assert.Equal("invoke 1", shard.Next());
        Assert.Equal("nothing", shard.Next());
        shard.Succeeds();
        Assert.Equal("nothing", shard.Next());
        Assert.Equal("invoke 2", shard.Succeeds().Next());
    }

    [Fact]
    [Rule(Pages.Using, "A failing batch blocks its own items, not the others of the shard.")]
    public void A_failing_lane_does_not_block_the_other()
    {
        var shard = new ScriptedShard(Parallel).WriteOf(0, 1, 0, 1, 0, 1);
        Assert.Equal("invoke 1,3", shard.Next());
        shard.Fails();
        Assert.Equal("invoke 2,4", shard.Next());
        Assert.Equal("invoke 6", shard.Succeeds().Next());
        Assert.Equal("nothing", shard.Succeeds().Next());
        Assert.Equal("invoke 1,3", shard.WaitForNext().Next());
    }

    [Fact]
    [Rule(Pages.Using, "Each record is processed at least once.", Choice = "With several batches in flight the checkpoint is the last record before which all are done; after a restart those behind it come again.")]
    public void The_checkpoint_does_not_pass_an_unfinished_lane()
    {
        var shard = new ScriptedShard(Parallel).WriteOf(0, 1, 0, 1);
        shard.Next();
        shard.Next();
        var first = shard.Processor.Checkpoint;
        shard.Fails();
        shard.Succeeds();
        Assert.Null(first);
        Assert.Null(shard.Processor.Checkpoint);
        Assert.Equal("invoke 1,3", shard.WaitForNext().Next());
        Assert.Equal(4, shard.Succeeds().Checkpoint);
    }

    [Fact]
    [Rule(Pages.Using, "A failing batch blocks its own items for as long as it fails.", Choice = "Undocumented: the others go on for as long as 100,000 records of them wait for the checkpoint; then reading stops, so that memory is bounded.")]
    public void A_lane_that_fails_for_long_does_not_stop_the_reading()
    {
        var shard = new ScriptedShard(Parallel).WriteOf(0);
        Assert.Equal("invoke 1", shard.Next());
        shard.Fails();
        for (var done = 0; done < ShardProcessor.DoneMax; done++)
        {
            shard.WriteOf(1);
            Assert.StartsWith("invoke", shard.Next(), StringComparison.Ordinal);
            shard.Succeeds();
        }

        Assert.Equal((0, 1), (shard.Checkpoint, shard.Processor.Buffered));
        Assert.False(shard.Processor.WantsMore);
        shard.WaitForNext();
        Assert.Equal("invoke 1", shard.Next());
        Assert.Equal(ShardProcessor.DoneMax + 1, shard.Succeeds().Checkpoint);
        Assert.True(shard.Processor.WantsMore);
    }

    [Fact]
    [Rule(Pages.Using, "A shard is done when all its lanes are.")]
    public void A_closed_shard_is_finished_when_every_lane_is()
    {
        var shard = new ScriptedShard(Parallel).WriteOf(0, 1).End();
        shard.Next();
        shard.Next();
        shard.Succeeds();
        Assert.False(shard.Processor.IsFinished);
        shard.Succeeds();
        Assert.True(shard.Processor.IsFinished);
    }
}
