using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using Pipeline.Core;
using Pipeline.Loader;
using Pipeline.Ops.Reconcile;
using Pipeline.Ops.Replay;

namespace Pipeline.Ops.Tests;

public class ReplayTests(OpsServers servers)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_replay_of_everything_changes_nothing_and_new_changes_go_on()
    {
        await using var world = await servers.CreateWorldAsync();
        await SeveralLivesAsync(world);
        var before = await World.ContentAsync(world.Database);
        var files = (await world.Objects.ListAsync(Names.ChangesPrefix, null, Cancelled)).Objects.Count;

        var replaying = ReplayAsync(world, new HourRange(null, null));
        var fresh = 0;
        do
        {
            await world.DeliverAsync(await world.PutAsync(World.Order($"new-{fresh++}")));
            await world.LoadAsync();
        }
        while (!replaying.IsCompleted);
        var report = await replaying;

        // It is one pass: files that come meanwhile may be seen, or not.
        Assert.InRange(report.Files, files, files + fresh);
        Assert.Equal(0, report.FailingFiles);
        await world.ExecuteAsync("DELETE FROM orders WHERE order_id LIKE 'new-%'; DELETE FROM order_changes WHERE order_id LIKE 'new-%'");
        Assert.Equal(before, await World.ContentAsync(world.Database));
    }

    [Fact]
    public async Task A_replay_brings_back_what_the_warehouse_lost()
    {
        await using var world = await servers.CreateWorldAsync();
        await SeveralLivesAsync(world);
        var before = await World.ContentAsync(world.Database);
        await world.ExecuteAsync("DELETE FROM orders WHERE order_id = 'again'; DELETE FROM order_changes WHERE order_id = 'again'");

        var report = await ReplayAsync(world, new HourRange(null, null));

        Assert.Equal(5, report.NewChanges);
        Assert.Equal(before, await World.ContentAsync(world.Database));
    }

    [Fact]
    public async Task Only_the_files_of_the_given_hours_are_loaded()
    {
        await using var world = await servers.CreateWorldAsync();
        var writer = new ChangeWriter(world.Objects);
        var first = new DateTimeOffset(2026, 11, 23, 21, 10, 0, TimeSpan.Zero);
        for (var hour = 0; hour < 6; hour++)
        {
            var change = TableItem.Decode(World.Order($"o-{hour}"), SequenceNumber.Zero, first.AddHours(hour)).Change!;
            await writer.AddAsync([change], Cancelled);
            await writer.FlushAsync(Cancelled);
        }

        var report = await ReplayAsync(world, new HourRange(first.AddHours(2).AddMinutes(20), first.AddHours(4)));

        Assert.Equal((3, 3), (report.Files, report.NewChanges));
        Assert.Equal("o-2,o-3,o-4", await world.ScalarAsync("SELECT string_agg(order_id, ',' ORDER BY order_id) FROM orders"));
    }

    [Fact]
    public async Task A_rebuild_from_the_files_alone_gives_the_same_warehouse()
    {
        await using var world = await servers.CreateWorldAsync();
        await SeveralLivesAsync(world);
        // One is parked and what is behind it waits; one was parked and is discarded.
        var poison = World.Order("parked", 2);
        poison["total_amount"] = new() { S = "a lot" };
        await world.FillAsync("parked", "discarded");
        var bad = World.Order("discarded", 2);
        bad["version"] = new() { S = "two" };
        await world.DeliverAsync(await world.PutAsync(poison), await world.PutAsync(World.Order("parked", 3)), await world.PutAsync(bad));
        await world.LoadAsync();
        var quarantined = (await world.Objects.ListAsync(Names.QuarantinePrefix, null, Cancelled)).Objects;
        Assert.Equal(2, quarantined.Count);
        foreach (var one in quarantined)
        {
            var content = (await world.Objects.GetAsync(one.Key, Cancelled))!;
            if (System.Text.Encoding.UTF8.GetString(content.Bytes).Contains("\"discarded\"", StringComparison.Ordinal))
            {
                await world.Objects.PutAsync(ObjectKeys.Discarded(one.Key), content.Bytes, "application/json", Cancelled);
                await world.Objects.DeleteAsync(one.Key, Cancelled);
            }
        }

        await world.DeliverAsync(await world.PutAsync(World.Order("discarded", 3)));
        await world.LoadAsync();
        Assert.Equal("1", await world.ScalarAsync("SELECT count(*) FROM waiting_changes"));

        var connectionString = await servers.CreateDatabaseAsync("rebuilt", empty: true);
        await using var rebuilt = Open(connectionString);
        await new Migrator(rebuilt, NullLogger<Migrator>.Instance).MigrateAsync(Cancelled);
        Assert.False(await EmptyWarehouse.ClaimAsync(rebuilt, Cancelled));
        await world.LoadAsync(into: rebuilt);
        await EmptyWarehouse.FinishAsync(rebuilt, Cancelled);

        Assert.Equal(await World.ContentAsync(world.Database), await World.ContentAsync(rebuilt));
        Assert.Equal(await DigestAsync(world.Warehouse), await DigestAsync(connectionString));
    }

    [Fact]
    public async Task An_interrupted_rebuild_goes_on_and_a_warehouse_that_is_not_empty_is_refused()
    {
        await using var world = await servers.CreateWorldAsync();
        await SeveralLivesAsync(world);
        var refused = await Assert.ThrowsAsync<OperatorException>(() => EmptyWarehouse.ClaimAsync(world.Database, Cancelled));
        Assert.Contains("orders has ", refused.Message, StringComparison.Ordinal);

        await using var rebuilt = Open(await servers.CreateDatabaseAsync("interrupted", empty: false));
        Assert.False(await EmptyWarehouse.ClaimAsync(rebuilt, Cancelled));
        using (var run = Run(world, rebuilt, new HourRange(null, null), ignoreLedger: false, new LoadLimits(FilesMax: 1)))
        {
            using var kill = new CancellationTokenSource();
            var running = run.RunAsync(kill.Token);
            while (await World.ScalarAsync(rebuilt, "SELECT count(*) FROM load_ledger") == "0")
            {
                await Task.Delay(5, Cancelled);
            }

            await kill.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        }

        Assert.True(await EmptyWarehouse.ClaimAsync(rebuilt, Cancelled));
        await world.LoadAsync(into: rebuilt);
        await EmptyWarehouse.FinishAsync(rebuilt, Cancelled);
        Assert.Equal(await World.ContentAsync(world.Database), await World.ContentAsync(rebuilt));
        await Assert.ThrowsAsync<OperatorException>(() => EmptyWarehouse.ClaimAsync(rebuilt, Cancelled));
    }

    [Fact]
    public async Task A_file_that_cannot_be_read_is_counted_and_stops_no_other()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("o-1");
        await world.Objects.PutAsync($"{Names.ChangesPrefix}dt=2026-11-24/hour=08/broken.parquet", new byte[] { 1, 2, 3 }, ChangeFile.ContentType, Cancelled);

        var report = await ReplayAsync(world, new HourRange(null, null));

        Assert.Equal((2, 1), (report.Files, report.FailingFiles));
    }

    /// <summary>Some orders with several versions, one removed, one created again, in a file for each step.</summary>
    private static async Task SeveralLivesAsync(World world)
    {
        await world.FillAsync("steady", "removed", "again");
        for (var version = 2; version <= 3; version++)
        {
            await world.DeliverAsync(await world.PutAsync(World.Order("steady", version)), await world.PutAsync(World.Order("again", version)));
        }

        await world.DeliverAsync(await world.DeleteAsync("removed"), await world.DeleteAsync("again"));
        await world.DeliverAsync(await world.PutAsync(World.Order("again")));
        for (var n = 0; n < 30; n++)
        {
            await world.DeliverAsync(await world.PutAsync(World.Order($"o-{n}")));
        }

        await world.LoadAsync();
    }

    private static async Task<LoadReport> ReplayAsync(World world, HourRange range)
    {
        using var run = Run(world, world.Database, range, ignoreLedger: true, new LoadLimits(FilesMax: 5));
        return await run.RunAsync(Cancelled);
    }

    private static LoadRun Run(World world, NpgsqlDataSource database, HourRange range, bool ignoreLedger, LoadLimits limits) =>
        new(database, world.Objects, range, ignoreLedger, limits, NullLoggerFactory.Instance, TimeProvider.System);

    private static NpgsqlDataSource Open(string connectionString) => NpgsqlDataSource.Create(PostgresWarehouse.ConnectionString(connectionString));

    private static async Task<DigestSum> DigestAsync(string connectionString)
    {
        await using var reader = new WarehouseReader(connectionString);
        return (await reader.DigestsAsync(Cancelled)).Aggregate((sum, digest) => sum + digest);
    }
}
