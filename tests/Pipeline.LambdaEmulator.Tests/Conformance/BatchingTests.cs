using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>When records become a batch.</summary>
public sealed class BatchingTests
{
    private static readonly MappingSettings Defaults = ScriptedShard.Defaults;

    [Fact]
    [Rule(Pages.Using, "By default the function is invoked as soon as records are available; one record is sent alone.")]
    public void Without_a_window_one_record_is_sent_at_once()
    {
        var shard = new ScriptedShard().Write(1);
        Assert.Equal("invoke 1", shard.Next());
    }

    [Fact]
    [Rule(Pages.Create, "BatchSize is 100 for DynamoDB streams if nothing is set.")]
    public void The_batch_size_is_100_by_default()
    {
        var shard = new ScriptedShard().Write(101);
        Assert.Equal("invoke 1-100", shard.Next());
    }

    [Fact]
    [Rule(Pages.Create, "BatchSize is the maximum number of records that an invocation gets.")]
    public void A_batch_closes_at_the_batch_size()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 3 }).Write(5);
        Assert.Equal("invoke 1-3", shard.Next());
        Assert.Equal("invoke 4-5", shard.Succeeds().Next());
    }

    [Fact]
    [Rule(Pages.Using, "Lambda invokes the function and waits for the result before it sends the next batch of a shard.")]
    public void One_batch_of_a_shard_is_in_flight()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 1 }).Write(2);
        Assert.Equal("invoke 1", shard.Next());
        Assert.Equal("nothing", shard.Next());
        Assert.Equal("invoke 2", shard.Succeeds().Next());
    }

    [Fact]
    [Rule(Pages.Batching, "With a batching window records are gathered until the window is over.")]
    public void A_window_gathers_records_until_it_is_over()
    {
        var shard = new ScriptedShard(Defaults with { BatchingWindow = TimeSpan.FromSeconds(5) }).Write(1);
        Assert.Equal("nothing", shard.Next());
        shard.Wait(TimeSpan.FromSeconds(4)).Write(1);
        Assert.Equal("nothing", shard.Next());
        Assert.Equal("invoke 1-2", shard.Wait(TimeSpan.FromSeconds(1)).Next());
    }

    [Fact]
    [Rule(Pages.Batching, "A full batch is sent although the window is not over.")]
    public void A_full_batch_does_not_wait_for_the_window()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 2, BatchingWindow = TimeSpan.FromSeconds(300) }).Write(3);
        Assert.Equal("invoke 1-2", shard.Next());
        Assert.Equal("nothing", shard.Succeeds().Next());
    }

    [Fact]
    [Rule(Pages.Batching, "The window begins with the first record of the batch.")]
    public void The_window_of_the_next_batch_begins_with_its_own_first_record()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 2, BatchingWindow = TimeSpan.FromSeconds(10) }).Write(2);
        Assert.Equal("invoke 1-2", shard.Next());
        shard.Wait(TimeSpan.FromSeconds(8)).Write(1).Succeeds();
        Assert.Equal("nothing", shard.Wait(TimeSpan.FromSeconds(9)).Next());
        Assert.Equal("invoke 3", shard.Wait(TimeSpan.FromSeconds(1)).Next());
    }

    [Fact]
    [Rule(Pages.Quotas, "The payload of a synchronous invocation is at most 6 MB: a batch closes before it would be larger.")]
    public void A_batch_closes_before_the_payload_limit()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 10_000 }).Write(7, bytes: 1_000_000);
        Assert.Equal("invoke 1-6", shard.Next());
        Assert.Equal("invoke 7", shard.Succeeds().Next());
    }

    [Fact]
    [Rule(Pages.Quotas, "The payload limit counts the whole event, not only the records.")]
    public void The_payload_limit_counts_what_is_around_the_records()
    {
        // {"Records":[ , ]} takes 14 bytes and a comma for each record.
        const int Around = 14 + 2;
        const int First = ShardProcessor.PayloadBytesMax / 2;
        const int Second = ShardProcessor.PayloadBytesMax - First - Around;
        Assert.Equal("invoke 1-2", new ScriptedShard().Write(1, bytes: First).Write(1, bytes: Second).Next());
        Assert.Equal("invoke 1", new ScriptedShard().Write(1, bytes: First).Write(1, bytes: Second + 1).Next());
    }

    [Fact]
    [Rule(Pages.Batching, "A batch that reached the payload limit is sent although the window is not over.")]
    public void A_batch_at_the_payload_limit_does_not_wait_for_the_window()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 10_000, BatchingWindow = TimeSpan.FromSeconds(300) }).Write(7, bytes: 1_000_000);
        Assert.Equal("invoke 1-6", shard.Next());
        Assert.Equal("nothing", shard.Succeeds().Next());
    }

    [Fact]
    [Rule(Pages.Quotas, "A record is sent however large it is.", Choice = "Undocumented: no record of a real table reaches 6 MB; refusing one would stop the shard for a day.")]
    public void A_record_above_the_payload_limit_is_sent_alone()
    {
        var shard = new ScriptedShard().Write(1).Write(1, bytes: ShardProcessor.PayloadBytesMax + 1).Write(1);
        Assert.Equal("invoke 1", shard.Next());
        Assert.Equal("invoke 2", shard.Succeeds().Next());
        Assert.Equal("invoke 3", shard.Succeeds().Next());
    }

    [Fact]
    [Rule(Pages.Batching, "At the end of a shard the window is not waited for.", Choice = "Undocumented: nothing can be added to the batch any more.")]
    public void The_last_batch_of_a_closed_shard_is_sent_at_once()
    {
        var shard = new ScriptedShard(Defaults with { BatchingWindow = TimeSpan.FromSeconds(300) }).Write(1).End();
        Assert.Equal("invoke 1", shard.Next());
        Assert.False(shard.Processor.IsFinished);
        shard.Succeeds();
        Assert.True(shard.Processor.IsFinished);
    }

    [Fact]
    [Rule(Pages.Streams, "A closed shard may hold no records.")]
    public void An_empty_closed_shard_is_finished_at_once()
    {
        var shard = new ScriptedShard().End();
        Assert.Equal("nothing", shard.Next());
        Assert.True(shard.Processor.IsFinished);
    }

    [Fact]
    [Rule(Pages.Using, "The mapping reads on only as far as it needs for its batches.", Choice = "Undocumented amounts: one batch in flight and the next one, so that memory is bounded.")]
    public void Reading_ahead_is_bounded_in_records_and_in_bytes()
    {
        var many = new ScriptedShard(Defaults with { BatchSize = 10 });
        Assert.True(many.Write(19).Processor.WantsMore);
        Assert.False(many.Write(1).Processor.WantsMore);

        var large = new ScriptedShard(Defaults with { BatchSize = 10_000 });
        Assert.True(large.Write(12, bytes: 1_000_000).Processor.WantsMore);
        Assert.False(large.Write(1, bytes: 1_000_000).Processor.WantsMore);
        large.Next();
        large.Succeeds();
        Assert.True(large.Processor.WantsMore);
    }

    [Fact]
    [Rule(Pages.Filtering, "The iterator advances past a record that the filter leaves out.")]
    public void A_filtered_record_counts_as_processed()
    {
        var shard = new ScriptedShard(Defaults with { Filter = ScriptedShard.Matching }).Write(1, matches: false).Write(1).Write(1, matches: false);
        Assert.Equal(1, shard.Checkpoint);
        Assert.Equal("invoke 2", shard.Next());
        Assert.Equal(1, shard.Checkpoint);
        Assert.Equal(3, shard.Succeeds().Checkpoint);
        Assert.Equal(0, shard.Processor.Buffered);
    }

    [Fact]
    [Rule(Pages.Filtering, "The iterator advances past what the filter leaves out also while a batch gathers.")]
    public void Filtered_records_do_not_stop_the_reading_while_a_batch_gathers()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 2, BatchingWindow = TimeSpan.FromSeconds(60), Filter = ScriptedShard.Matching }).Write(1);
        for (var page = 0; page < 10; page++)
        {
            Assert.Equal("nothing", shard.Write(1000, matches: false).Next());
        }

        Assert.Equal((1, 100), (shard.Processor.Buffered, shard.Processor.BufferedBytes));
        Assert.Equal("invoke 1,10002", shard.Write(1).Next());
        Assert.Equal(10_002, shard.Succeeds().Checkpoint);
    }

    [Fact]
    [Rule(Pages.Filtering, "A batch holds matching records only; its size counts those.")]
    public void Filtered_records_do_not_fill_a_batch()
    {
        var shard = new ScriptedShard(Defaults with { BatchSize = 2, BatchingWindow = TimeSpan.FromSeconds(10), Filter = ScriptedShard.Matching }).Write(1).Write(5, matches: false);
        Assert.Equal("nothing", shard.Next());
        Assert.Equal("invoke 1,7", shard.Write(1).Next());
    }
}
