using Pipeline.Core;

namespace Pipeline.Loader.Tests;

public class LoadPlanTests
{
    private static readonly DateTimeOffset Now = Harness.Start;

    [Fact]
    public void Nothing_pending_is_nothing_to_do() => Assert.Empty(Plan());

    [Fact]
    public void Fresh_files_come_before_the_backlog_and_else_by_key() =>
        Assert.Equal(["d e a b c"], Plan(File("c"), File("e", fresh: true), File("a"), File("d", fresh: true), File("b")));

    [Fact]
    public void A_transaction_ends_before_the_file_that_is_one_byte_too_many() =>
        Assert.Equal(["a b"], Plan(File("a", bytes: 60), File("b", bytes: 40), File("c", bytes: 1)));

    [Fact]
    public void A_file_beyond_the_limit_is_loaded_alone()
    {
        Assert.Equal(["a"], Plan(File("a", bytes: 1_000), File("b", bytes: 1)));
        Assert.Equal(["a"], Plan(File("a", bytes: 1), File("b", bytes: 1_000)));
    }

    [Fact]
    public void A_transaction_has_no_more_files_than_allowed() =>
        Assert.Equal(["a b c d e"], Plan([.. "abcdefgh".Select(c => File(c.ToString()))]));

    [Fact]
    public void A_file_that_failed_is_tried_when_it_is_due_alone_and_behind_the_good_ones() =>
        Assert.Equal(
            ["a b", "y"],
            Plan(File("x", attempts: 1, dueInSeconds: 1), File("z", attempts: 1, dueInSeconds: -1), File("y", attempts: 2, dueInSeconds: -2), File("a"), File("b")));

    [Fact]
    public void Rows_are_split_into_transactions_and_a_larger_file_has_its_own()
    {
        static ChangeObject Object(string key, int rows) =>
            new(new ObjectInfo(key, "e", 1), [.. Enumerable.Range(0, rows).Select(n => Changes.Change("o", n, n))]);

        var split = LoadPlan.SplitByRows([Object("a", 4), Object("b", 6), Object("c", 1), Object("d", 25), Object("e", 10)], new LoadLimits(RowsMax: 10));

        Assert.Equal(["a b", "c", "d", "e"], split.Select(t => string.Join(' ', t.Select(f => f.File.Key))));
        Assert.Empty(LoadPlan.SplitByRows([], new LoadLimits()));
    }

    [Fact]
    public void A_change_waits_behind_any_earlier_parked_one_of_its_order_and_behind_nothing_else()
    {
        var changes = new[]
        {
            Changes.Change("a", 1, 1), Changes.Change("a", 2, 2), Changes.Change("a", 3, 3), Changes.Change("b", 4, 1),
            Changes.Change("a", 5, 3, Operation.Remove), Changes.Change("a", 0, 3, Operation.Snapshot) with { SequenceNumber = SequenceNumber.Zero },
        };
        var parked = new[] { Parked("a", 5), Parked("a", 2), Parked("c", 0) };

        var (load, wait) = LoadPlan.Divide(changes, parked);

        // The parked change itself is let in: it may be there because it was redriven.
        Assert.Equal([changes[0], changes[1], changes[3], changes[5]], load);
        Assert.Equal([changes[2], changes[4]], wait);
        Assert.Same(changes, LoadPlan.Divide(changes, []).Load);

        static ParkedChange Parked(string order, int sequence) => new($"{order}-{sequence}", order, Changes.Sequence(sequence), 1);
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(2, 2)]
    [InlineData(4, 8)]
    [InlineData(9, 256)]
    [InlineData(10, 300)]
    [InlineData(100_000, 300)]
    public void The_pause_doubles_up_to_its_limit(int attempts, int seconds) =>
        Assert.Equal(TimeSpan.FromSeconds(seconds), LoadPlan.Backoff(attempts, TimeSpan.FromSeconds(1), TimeSpan.FromMinutes(5)));

    [Fact]
    public void A_wrong_setting_is_named_with_what_it_got_and_how_to_mend_it()
    {
        var result = new LoaderOptionsValidator().Validate(null, new LoaderOptions { PollInterval = TimeSpan.Zero, DownloadParallelism = 0 });

        Assert.Equal(
        [
            "Pipeline__BucketName is not set. Set it to the name of the pipeline's bucket, for example order-pipeline-000000000000-us-east-1.",
            "Pipeline:PollInterval is 00:00:00. Set it to a time above zero, for example 00:00:01.",
            "Pipeline:DownloadParallelism is 0. Set it to 1 or more.",
        ], result.Failures);
        Assert.True(new LoaderOptionsValidator().Validate(null, new LoaderOptions { BucketName = "b" }).Succeeded);
    }

    private static string[] Plan(params PendingFile[] pending) =>
        [.. LoadPlan.Next(pending, Now, new LoadLimits(BytesMax: 100, FilesMax: 5)).Select(t => string.Join(' ', t.Select(f => f.File.Key)))];

    private static PendingFile File(string key, long bytes = 1, bool fresh = false, int attempts = 0, int dueInSeconds = 0) =>
        new(new ObjectInfo(key, "e", bytes), fresh, attempts, Now.AddSeconds(dueInSeconds));
}
