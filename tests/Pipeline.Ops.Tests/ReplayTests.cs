using System.Collections.Concurrent;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
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
    public async Task A_replay_from_which_a_compaction_takes_files_away_says_that_it_is_not_complete()
    {
        await using var world = await servers.CreateWorldAsync();
        await SeveralLivesAsync(world);
        var taken = (await world.Objects.ListAsync(Names.ChangesPrefix, null, Cancelled)).Objects[^1].Key;
        var objects = new HookedObjects(world.Objects)
        {
            BeforeGet = async (key, cancellationToken) =>
            {
                if (key == taken)
                {
                    await world.Objects.DeleteAsync(key, cancellationToken);
                }
            },
        };

        using var run = Run(objects, world.Database, new HourRange(null, null), ignoreLedger: true, new LoadLimits(FilesMax: 5));
        var report = await run.RunAsync(Cancelled);

        Assert.Equal((0, 1, false), (report.FailingFiles, report.GoneFiles, report.IsComplete));
    }

    [Fact]
    public async Task Only_the_files_of_the_given_hours_are_loaded()
    {
        await using var world = await servers.CreateWorldAsync();
        var first = new DateTimeOffset(2026, 11, 23, 21, 10, 0, TimeSpan.Zero);
        var time = new FakeTimeProvider(first);
        var writer = new ChangeWriter(world.Objects, time);
        for (var hour = 0; hour < 6; hour++)
        {
            var change = TableItem.Decode(World.Order($"o-{hour}"), SequenceNumber.Zero, first.AddHours(hour), World.Protector).Change!;
            await writer.AddAsync([change], Cancelled);
            await writer.FlushAsync(Cancelled);
            time.Advance(TimeSpan.FromHours(1));
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
        Assert.False(await ClaimAsync(rebuilt));
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
        var refused = await Assert.ThrowsAsync<OperatorException>(() => ClaimAsync(world.Database));
        Assert.Contains("orders has rows", refused.Message, StringComparison.Ordinal);

        await using var rebuilt = Open(await servers.CreateDatabaseAsync("interrupted", empty: false));
        Assert.False(await ClaimAsync(rebuilt));

        // One file a load, and the second one never comes.
        var isSecond = new TaskCompletionSource();
        var files = 0;
        var objects = new HookedObjects(world.Objects)
        {
            BeforeGet = async (key, cancellationToken) =>
            {
                if (key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal) && ++files == 2)
                {
                    isSecond.SetResult();
                    await Task.Delay(Timeout.Infinite, cancellationToken);
                }
            },
        };
        using (var run = Run(objects, rebuilt, new HourRange(null, null), ignoreLedger: false, new LoadLimits(FilesMax: 1)))
        {
            using var kill = new CancellationTokenSource();
            var running = run.RunAsync(kill.Token);
            await isSecond.Task.WaitAsync(Cancelled);
            await kill.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        }

        Assert.Equal("1", await World.ScalarAsync(rebuilt, "SELECT count(*) FROM load_ledger"));
        Assert.True(await ClaimAsync(rebuilt));
        await world.LoadAsync(into: rebuilt);
        await EmptyWarehouse.FinishAsync(rebuilt, Cancelled);
        Assert.Equal(await World.ContentAsync(world.Database), await World.ContentAsync(rebuilt));
        await Assert.ThrowsAsync<OperatorException>(() => ClaimAsync(rebuilt));
    }

    [Fact]
    public async Task A_database_that_a_rebuild_refuses_is_left_as_it_is()
    {
        await using var database = Open(await servers.CreateDatabaseAsync("of_somebody_else", empty: true));
        await using (var command = database.CreateCommand("CREATE TABLE orders (number integer); INSERT INTO orders VALUES (1)"))
        {
            await command.ExecuteNonQueryAsync(Cancelled);
        }

        await Assert.ThrowsAsync<OperatorException>(() => ClaimAsync(database));

        Assert.Equal("orders", await World.ScalarAsync(database, "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'"));
    }

    [Fact]
    public async Task A_replay_of_more_than_a_minute_is_one_pass()
    {
        await using var world = await servers.CreateWorldAsync();
        await SeveralLivesAsync(world);
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        var read = new ConcurrentDictionary<string, bool>();
        var objects = new HookedObjects(world.Objects)
        {
            BeforeGet = (key, _) =>
            {
                Assert.True(!key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal) || read.TryAdd(key, true), $"{key} is read a second time.");
                time.Advance(TimeSpan.FromSeconds(61));
                return Task.CompletedTask;
            },
        };

        using var run = Run(objects, world.Database, new HourRange(null, null), ignoreLedger: true, new LoadLimits(FilesMax: 5), time);
        var report = await run.RunAsync(Cancelled);

        Assert.Equal(report.Files, read.Count);
        Assert.InRange(report.Files, 30, 100);
    }

    [Fact]
    public void A_date_means_all_of_the_day_and_a_time_its_hour()
    {
        var parsed = ReplayCommands.CreateReplay().Parse(["--from", "2026-11-23", "--to", "2026-11-24"]);

        Assert.Equal(new DateTimeOffset(2026, 11, 23, 0, 0, 0, TimeSpan.Zero), parsed.GetValue<DateTimeOffset?>("--from"));
        Assert.Equal(new DateTimeOffset(2026, 11, 24, 23, 0, 0, TimeSpan.Zero), parsed.GetValue<DateTimeOffset?>("--to"));
        Assert.Equal(
            new DateTimeOffset(2026, 11, 24, 0, 0, 0, TimeSpan.Zero),
            ReplayCommands.CreateReplay().Parse(["--from", "2026-11-23", "--to", "2026-11-24T00:00Z"]).GetValue<DateTimeOffset?>("--to"));
        Assert.NotEmpty(ReplayCommands.CreateReplay().Parse(["--from", "2026-11-24", "--to", "yesterday"]).Errors);
    }

    [Theory]
    [InlineData("Host=cluster;Server Compatibility Mode=Redshift", "load into PostgreSQL only")]
    [InlineData("nonsense", "is not one")]
    public void Another_warehouse_than_PostgreSQL_is_refused_in_a_sentence(string connectionString, string message) =>
        Assert.Contains(message, Assert.Throws<OperatorException>(() => ReplayCommands.Open(connectionString)).Message, StringComparison.Ordinal);

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
        using var run = Run(world.Objects, world.Database, range, ignoreLedger: true, new LoadLimits(FilesMax: 5));
        return await run.RunAsync(Cancelled);
    }

    private static Task<bool> ClaimAsync(NpgsqlDataSource database) =>
        EmptyWarehouse.ClaimAsync(database, new Migrator(database, NullLogger<Migrator>.Instance), Cancelled);

    private static LoadRun Run(
        IObjectStore objects, NpgsqlDataSource database, HourRange range, bool ignoreLedger, LoadLimits limits, TimeProvider? time = null) =>
        new(database, objects, range, ignoreLedger, limits, NullLoggerFactory.Instance, time ?? TimeProvider.System);

    private static NpgsqlDataSource Open(string connectionString) => NpgsqlDataSource.Create(PostgresWarehouse.ConnectionString(connectionString));

    private static async Task<DigestSum> DigestAsync(string connectionString)
    {
        await using var reader = new WarehouseReader(connectionString);
        return (await reader.DigestsAsync(Cancelled)).Aggregate((sum, digest) => sum + digest);
    }
}
