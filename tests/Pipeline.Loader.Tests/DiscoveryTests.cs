using Microsoft.Extensions.Diagnostics.HealthChecks;
using Pipeline.Core;

namespace Pipeline.Loader.Tests;

/// <summary>Which files are found, when, and with how many listings.</summary>
public class DiscoveryTests
{
    private readonly MemoryWarehouse _warehouse = new();
    private int _changes;

    [Fact]
    public async Task A_new_file_is_found_at_the_next_poll_with_one_listing_a_partition()
    {
        using var harness = await IdleAsync();
        var key = await harness.Objects.PutAsync([Change()], Key(Harness.Start, 1));

        Assert.True(await TurnAsync(harness));

        Assert.Equal([key], Assert.Single(_warehouse.Loads));
        Assert.Equal(
            [$"{Names.ChangesPrefix}dt=2026-11-24/hour=07/", $"{Names.ChangesPrefix}dt=2026-11-24/hour=08/", Names.QuarantinePrefix, Names.DiscardedPrefix],
            harness.Objects.Listings.Select(l => l.Prefix));
    }

    [Fact]
    public async Task Nothing_new_is_nothing_to_do()
    {
        using var harness = await IdleAsync();

        Assert.False(await TurnAsync(harness));
        Assert.Empty(_warehouse.Loads);
    }

    [Fact]
    public async Task In_a_partition_of_thousands_of_files_the_poll_lists_only_the_last_ones_and_finds_one_that_comes_somewhat_late()
    {
        using var harness = await IdleAsync();
        var file = await FileAsync();
        foreach (var n in Enumerable.Range(1, 2_300).Where(n => n != 2_250))
        {
            harness.Objects.Put(Key(Harness.Start, n), file);
        }

        await harness.DrainAsync();
        Assert.Equal(2_299, _warehouse.Ledger.Count);

        // Another shard's file, a little below the greatest key there is.
        harness.Objects.Put(Key(Harness.Start, 2_250), file);
        harness.Objects.Listings.Clear();
        await TurnAsync(harness);

        Assert.Equal(2_300, _warehouse.Ledger.Count);
        Assert.Equal(Key(Harness.Start, 2_099), harness.Objects.Listings.Single(l => l.Prefix.EndsWith("hour=08/", StringComparison.Ordinal)).StartAfter);
    }

    [Fact]
    public async Task While_a_backlog_of_an_old_hour_is_worked_off_its_files_and_the_next_hours_are_polled()
    {
        using var harness = await IdleAsync();
        var old = Harness.Start.AddHours(-10);
        await harness.Objects.PutAsync([Change()], Key(old, 1));
        harness.Time.Advance(TimeSpan.FromSeconds(61));
        await harness.DrainAsync();
        Assert.Empty(_warehouse.Loads.Skip(1));

        // The first one was found by a sweep; from there the poll goes on.
        await harness.Objects.PutAsync([Change()], Key(old, 2));
        await harness.Objects.PutAsync([Change()], Key(old.AddHours(1), 3));
        await TurnAsync(harness);
        Assert.Equal(3, _warehouse.Ledger.Count);
    }

    [Theory]
    [InlineData(-25, 61)]
    [InlineData(-24 * 400, 6 * 3600 + 1)]
    public async Task A_file_in_an_old_partition_is_found_by_a_sweep(int hours, int withinSeconds)
    {
        using var harness = await IdleAsync();
        await harness.Objects.PutAsync([Change()], Key(Harness.Start.AddHours(hours), 1));

        await harness.DrainAsync();
        Assert.Empty(_warehouse.Ledger);
        harness.Time.Advance(TimeSpan.FromSeconds(withinSeconds));
        await harness.DrainAsync();
        Assert.Single(_warehouse.Ledger);
    }

    [Fact]
    public async Task A_loader_that_starts_finds_all_there_is_page_by_page_and_skips_what_the_ledger_has()
    {
        var objects = new MemoryObjects();
        var file = await FileAsync();
        for (var n = 0; n < 2_500; n++)
        {
            objects.Put(Key(Harness.Start.AddHours(-n), 1), file);
        }

        using (var first = new Harness(_warehouse, objects))
        {
            await first.DrainAsync();
        }

        Assert.Equal(2_500, _warehouse.Loads.Sum(l => l.Length));
        Assert.Equal(2_500, _warehouse.Ledger.Count);

        using var second = new Harness(_warehouse, objects);
        await second.DrainAsync();
        Assert.Equal(2_500, _warehouse.Loads.Sum(l => l.Length));
    }

    [Fact]
    public async Task With_too_many_files_pending_looking_for_more_waits()
    {
        var objects = new MemoryObjects();
        var file = await FileAsync();
        for (var n = 0; n < 3_000; n++)
        {
            objects.Put(Key(Harness.Start.AddDays(-1), n), file);
        }

        using var harness = new Harness(_warehouse, objects, o =>
        {
            o.PendingMax = 500;
            o.Limits = new LoadLimits(FilesMax: 100);
        });
        do
        {
            Assert.True(harness.Status.PendingFiles < 500 + 1_000);
        }
        while (await TurnAsync(harness));

        Assert.Equal(3_000, _warehouse.Ledger.Count);
    }

    [Fact]
    public async Task An_overwritten_file_is_loaded_again()
    {
        using var harness = await IdleAsync();
        var key = await harness.Objects.PutAsync([Change()], Key(Harness.Start, 1));
        await harness.DrainAsync();
        await harness.Objects.PutAsync([Change()], key);
        await harness.DrainAsync();

        Assert.Equal([[key], [key]], _warehouse.Loads);
    }

    [Fact]
    public async Task What_is_no_change_file_by_its_name_is_left_alone()
    {
        using var harness = await IdleAsync();
        harness.Objects.Put($"{Names.ChangesPrefix}dt=2026-11-24/hour=08/_SUCCESS", []);
        await harness.DrainAsync();

        Assert.Empty(_warehouse.Ledger);
        Assert.Empty(_warehouse.Failing);
    }

    [Fact]
    public async Task A_store_that_is_away_is_an_error_and_never_no_work()
    {
        using var harness = await IdleAsync();
        var key = await harness.Objects.PutAsync([Change()], Key(Harness.Start, 1));

        harness.Objects.IsAway = true;
        await Assert.ThrowsAsync<ObjectStoreException>(() => TurnAsync(harness));
        harness.Objects.IsAway = false;
        await harness.DrainAsync();

        Assert.Equal([key], Assert.Single(_warehouse.Loads));
    }

    [Fact]
    public async Task A_warehouse_that_is_away_between_finding_and_loading_loses_no_file()
    {
        using var harness = await IdleAsync();
        var key = await harness.Objects.PutAsync([Change()], Key(Harness.Start, 1));
        _warehouse.IsAway = true;
        await Assert.ThrowsAsync<WarehouseException>(() => TurnAsync(harness));
        _warehouse.IsAway = false;
        await harness.DrainAsync();

        Assert.Equal([key], Assert.Single(_warehouse.Loads));
    }

    [Fact]
    public async Task A_file_that_keeps_failing_is_tried_less_and_less_and_the_others_go_on()
    {
        using var harness = await IdleAsync();
        harness.Objects.Put(Key(Harness.Start, 1), [0]);
        var tries = 0;
        var file = await FileAsync();
        for (var second = 0; second < 1_800; second++)
        {
            if (second % 10 == 0)
            {
                harness.Objects.Put(Key(Harness.Start, 10 + second), file);
            }

            await harness.DrainAsync();
            harness.Time.Advance(TimeSpan.FromSeconds(1));
            tries = (await _warehouse.FailuresAsync(max: 1, Cancelled))[0].Attempts;
        }

        // 1, 2, 4 … 256 s between the first ten, then 300 s.
        Assert.InRange(tries, 13, 15);
        Assert.Equal(180, _warehouse.Ledger.Count);
        harness.Status.Started();
        var health = await harness.Status.CheckHealthAsync(new HealthCheckContext(), Cancelled);
        Assert.Equal(HealthStatus.Degraded, health.Status);
        Assert.Contains(Key(Harness.Start, 1), health.Description, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_object_that_cannot_be_had_is_recorded_and_stops_no_other()
    {
        using var harness = await IdleAsync();
        var forbidden = await harness.Objects.PutAsync([Change()], Key(Harness.Start, 1));
        var other = await harness.Objects.PutAsync([Change()], Key(Harness.Start, 2));
        harness.Objects.Forbidden.Add(forbidden);

        await harness.DrainAsync();
        Assert.Equal([other], Assert.Single(_warehouse.Loads));
        Assert.Equal([forbidden], _warehouse.Failing);

        harness.Objects.Forbidden.Clear();
        harness.Time.Advance(TimeSpan.FromSeconds(1));
        await harness.DrainAsync();
        Assert.Equal([[other], [forbidden]], _warehouse.Loads);
        Assert.Empty(_warehouse.Failing);
    }

    [Fact]
    public async Task Files_that_fail_for_good_never_stop_the_discovery_and_only_so_many_are_kept()
    {
        static void Few(LoaderOptions options) => options.PendingMax = 2;
        using var harness = new Harness(_warehouse, configure: Few);
        for (var n = 1; n <= 5; n++)
        {
            harness.Objects.Put(Key(Harness.Start, n), [0]);
        }

        await harness.DrainAsync();
        await harness.Objects.PutAsync([Change()], Key(Harness.Start, 6));
        await harness.DrainAsync();
        Assert.Equal([Key(Harness.Start, 6)], Assert.Single(_warehouse.Loads));
        Assert.Equal(5, _warehouse.Failing.Count());
        Assert.Equal(2, harness.Status.FailingFiles);

        using var restarted = new Harness(_warehouse, harness.Objects, Few);
        await restarted.Loader.RestoreAsync(Cancelled);
        Assert.Equal(2, restarted.Status.FailingFiles);
        await restarted.Objects.PutAsync([Change()], Key(Harness.Start, 7));
        await restarted.DrainAsync();
        Assert.Equal([[Key(Harness.Start, 6)], [Key(Harness.Start, 7)]], _warehouse.Loads);

        // Those that are not kept are not forgotten.
        var file = await FileAsync();
        for (var n = 1; n <= 5; n++)
        {
            restarted.Objects.Put(Key(Harness.Start, n), file);
        }

        restarted.Time.Advance(TimeSpan.FromSeconds(61));
        await restarted.DrainAsync();
        Assert.Equal(7, _warehouse.Ledger.Count);
        Assert.Empty(_warehouse.Failing);
    }

    [Fact]
    public async Task What_was_found_before_a_listing_failed_is_loaded_in_the_next_turn()
    {
        using var harness = await IdleAsync();
        var key = await harness.Objects.PutAsync([Change()], Key(Harness.Start.AddHours(-1), 1));

        harness.Objects.LostPrefix = ObjectKeys.ChangePartition(Harness.Start);
        await Assert.ThrowsAsync<ObjectStoreException>(() => TurnAsync(harness));
        harness.Objects.LostPrefix = null;
        await TurnAsync(harness);

        Assert.Equal([key], Assert.Single(_warehouse.Loads));
    }

    [Fact]
    public async Task A_loader_that_starts_late_in_a_busy_hour_gets_to_its_end_in_one_poll_and_stays_there()
    {
        var objects = new MemoryObjects();
        var file = await FileAsync();
        for (var n = 1; n <= 5_000; n++)
        {
            objects.Put(Key(Harness.Start, n), file);
        }

        using (var first = new Harness(_warehouse, objects))
        {
            await first.DrainAsync();
        }

        using var second = new Harness(_warehouse, objects);
        objects.Put(Key(Harness.Start, 5_001), file);
        await TurnAsync(second);
        Assert.Equal([Key(Harness.Start, 5_001)], _warehouse.Loads[^1]);

        // A quiet time does not send it back to the beginning of the hour.
        await second.DrainAsync();
        second.Time.Advance(TimeSpan.FromMinutes(10));
        await second.DrainAsync();
        objects.Listings.Clear();
        await TurnAsync(second);
        Assert.Equal(
            [(ObjectKeys.ChangePartition(Harness.Start.AddHours(-1)), null), (ObjectKeys.ChangePartition(Harness.Start), Key(Harness.Start, 4_801))],
            objects.Listings);
    }

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    /// <summary>A loader that has nothing to do: its first sweep is done.</summary>
    private async Task<Harness> IdleAsync()
    {
        var harness = new Harness(_warehouse);
        await harness.DrainAsync();
        harness.Objects.Listings.Clear();
        return harness;
    }

    private static Task<bool> TurnAsync(Harness harness) => harness.Loader.RunOnceAsync(Cancelled);

    private async Task<byte[]> FileAsync()
    {
        using var file = new MemoryStream();
        await ChangeFile.WriteAsync([Change()], file, Cancelled);
        return file.ToArray();
    }

    private Change Change() => Changes.Change("o-1", ++_changes, _changes);

    private static string Key(DateTimeOffset time, int n) => $"{ObjectKeys.ChangePartition(time)}{n:D8}.parquet";
}
