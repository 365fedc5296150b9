using Npgsql;
using Pipeline.Core;
using Pipeline.Loader;
using Pipeline.Ops.Compact;

namespace Pipeline.Ops.Tests;

public class CompactTests(OpsServers servers)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Small_files_of_closed_hours_become_one_and_the_warehouse_can_be_rebuilt_from_it()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        var content = await World.ContentAsync(world.Database);
        var before = await KeysAsync(world);

        var report = await CompactAsync(world, world.Objects);

        Assert.True(before.Count >= 5);
        var file = Assert.Single(await KeysAsync(world));
        Assert.True(ObjectKeys.IsCompacted(file));
        Assert.Equal((before.Count, 1, 0, 0), (report.Merged, report.Into, report.NotLoaded, report.LeftAlone));
        Assert.Equal(file, await world.ScalarAsync("SELECT string_agg(object_key, ',') FROM load_ledger"));

        // The ledger knows it, so the loader does not load it; and if it did, nothing would change.
        Assert.Equal(0, (await world.LoadAsync()).NewChanges);
        await world.ExecuteAsync("TRUNCATE load_ledger");
        Assert.Equal(0, (await world.LoadAsync()).NewChanges);
        Assert.Equal(content, await World.ContentAsync(world.Database));
        Assert.Equal(content, await RebuiltAsync(world, "compacted"));
    }

    [Fact]
    public async Task Given_again_it_changes_nothing_and_takes_up_a_late_file()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        await CompactAsync(world, world.Objects);
        var first = await KeysAsync(world);

        var again = await CompactAsync(world, new HookedObjects(world.Objects) { BeforeGet = (key, _) => throw new InvalidOperationException($"{key} is read") });
        Assert.Equal((1, 0, 0), (again.Files, again.Merged, again.Into));
        Assert.Equal(first, await KeysAsync(world));

        await world.FillAsync("late");
        var content = await World.ContentAsync(world.Database);
        var late = await CompactAsync(world, world.Objects);
        Assert.Equal((2, 1), (late.Merged, late.Into));
        Assert.NotEqual(first, await KeysAsync(world));
        Assert.Single(await KeysAsync(world));
        Assert.Equal(content, await RebuiltAsync(world, "late"));
    }

    /// <summary>Seven changes: what the first large file has no room for is one small file.</summary>
    [Fact]
    public async Task A_small_file_that_is_left_over_is_not_read_again_at_every_run()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        var content = await World.ContentAsync(world.Database);
        var before = await KeysAsync(world);
        var limits = new CompactLimits(RowsMax: 6);

        var report = await CompactAsync(world, world.Objects, limits);
        var keys = await KeysAsync(world);
        Assert.Equal((before.Count, 2), (report.Merged, report.Into));
        Assert.Equal(2, keys.Count);
        Assert.Single(await ChangesAsync(world, keys[^1]));

        var again = await CompactAsync(world, new HookedObjects(world.Objects) { BeforeGet = (key, _) => throw new InvalidOperationException($"{key} is read") }, limits);
        Assert.Equal((2, 0, 0), (again.Files, again.Merged, again.Into));
        Assert.Equal(keys, await LedgerAsync(world));
        Assert.Equal(content, await RebuiltAsync(world, "left_over"));
    }

    [Fact]
    public async Task Open_hours_files_that_are_not_loaded_and_what_is_parked_are_left_alone()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        var poison = World.Order("parked", 2);
        poison["total_amount"] = new() { S = "a lot" };
        await world.DeliverAsync(await world.PutAsync(poison));
        await world.LoadAsync();
        var quarantined = (await world.Objects.ListAsync(Names.QuarantinePrefix, null, Cancelled)).Objects;
        Assert.Single(quarantined);
        var loaded = await KeysAsync(world);

        var open = await CompactAsync(world, world.Objects, closedBefore: DateTimeOffset.UtcNow);
        Assert.Equal((0, 0), (open.Files, open.Merged));
        Assert.Equal(loaded, await KeysAsync(world));

        await world.DeliverAsync(await world.PutAsync(World.Order("not-loaded")));
        var notLoaded = Assert.Single((await KeysAsync(world)).Except(loaded));
        var run = Run(world, world.Objects);
        var report = await run.RunAsync(Cancelled);

        Assert.Equal((1, loaded.Count), (report.NotLoaded, report.Merged));
        Assert.Equal((loaded.Count + 1, run.Listed), (run.Listed, run.Done));
        Assert.Contains(notLoaded, await KeysAsync(world));
        Assert.Equal(quarantined, (await world.Objects.ListAsync(Names.QuarantinePrefix, null, Cancelled)).Objects);
        Assert.Equal(1, (await world.LoadAsync()).NewChanges);
    }

    [Fact]
    public async Task A_dry_run_counts_and_changes_nothing()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        var before = await KeysAsync(world);

        var report = await CompactAsync(world, world.Objects, dryRun: true);

        Assert.Equal((true, before.Count, 0), (report.DryRun, report.Merged, report.Into));
        Assert.Equal(before, await KeysAsync(world));
    }

    [Fact]
    public async Task Large_files_end_at_the_given_number_of_changes()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        var content = await World.ContentAsync(world.Database);

        await CompactAsync(world, world.Objects, new CompactLimits(RowsMax: 3));

        foreach (var key in await KeysAsync(world))
        {
            Assert.InRange((await ChangesAsync(world, key)).Count, 1, 3);
        }

        Assert.Equal(content, await RebuiltAsync(world, "limited"));
    }

    [Fact]
    public async Task A_file_that_is_spoiled_or_another_one_than_was_loaded_is_kept()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        var before = await KeysAsync(world);
        var hooked = new HookedObjects(world.Objects)
        {
            // Between the listing and the reading.
            BeforeGet = async (key, _) =>
            {
                if (key == before[1])
                {
                    await world.Objects.PutAsync(key, new byte[] { 1, 2, 3 }, ChangeFile.ContentType, Cancelled);
                }
            },
        };

        var report = await CompactAsync(world, hooked);

        Assert.Equal((1, before.Count - 1), (report.LeftAlone, report.Merged));
        Assert.Contains(before[1], await KeysAsync(world));
    }

    [Fact]
    public async Task A_file_that_is_written_over_after_it_was_read_is_kept()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        var before = await KeysAsync(world);
        var hooked = new HookedObjects(world.Objects)
        {
            AfterPut = async _ => await world.Objects.PutAsync(before[1], new byte[] { 1, 2, 3 }, ChangeFile.ContentType, Cancelled),
        };

        var report = await CompactAsync(world, hooked);

        Assert.Equal((1, before.Count - 1, 1), (report.LeftAlone, report.Merged, report.Into));
        Assert.Equal([1, 2, 3], (await world.Objects.GetAsync(before[1], Cancelled))!.Bytes);
    }

    [Fact]
    public async Task A_conflict_with_a_load_is_tried_again_and_one_that_lasts_is_an_error()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        var conflicts = 0;

        await CompactAsync(world, world.Objects, crash: () => Conflict(conflictsMax: 3));
        Assert.True(conflicts > 3);
        Assert.Equal(await KeysAsync(world), await LedgerAsync(world));

        await world.FillAsync("late");
        await Assert.ThrowsAsync<WarehouseException>(() => CompactAsync(world, world.Objects, crash: () => Conflict(conflictsMax: int.MaxValue)));

        void Conflict(int conflictsMax)
        {
            if (conflicts++ < conflictsMax)
            {
                throw new WarehouseException(WarehouseFault.Conflict, "40001: could not serialize access");
            }
        }
    }

    /// <summary>Files that are missing where nothing was merged are not the work of an earlier run: it may be the wrong bucket.</summary>
    [Fact]
    public async Task The_ledger_forgets_nothing_of_an_hour_in_which_nothing_is_merged()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        var before = await KeysAsync(world);
        foreach (var key in before.Skip(1))
        {
            await world.Objects.DeleteAsync(key, Cancelled);
        }

        await CompactAsync(world, world.Objects);

        Assert.Equal(before, await LedgerAsync(world));
    }

    /// <summary>Nobody but `compact` itself takes a large file away, and its row is the only trace of its changes.</summary>
    [Fact]
    public async Task The_ledger_keeps_the_row_of_a_large_file_that_somebody_took_away()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        await CompactAsync(world, world.Objects, new CompactLimits(RowsMax: 3));
        var before = await LedgerAsync(world);
        var large = await KeysAsync(world);
        Assert.True(large.Count > 1);
        await world.Objects.DeleteAsync(large[1], Cancelled);

        await CompactAsync(world, world.Objects, new CompactLimits(RowsMax: 3));

        Assert.Equal(before, await LedgerAsync(world));
    }

    /// <summary>As a batch is that is delivered again after the key for personal data has changed, in other batches than the first time.</summary>
    [Fact]
    public async Task A_late_file_with_the_merged_changes_in_another_form_is_not_written_over_them()
    {
        await using var world = await servers.CreateWorldAsync();
        Change[] changes =
        [
            .. ((string[])["o", "p"]).Select(id => TableItem.Decode(World.Order(id), SequenceNumber.Zero, DateTimeOffset.UtcNow, World.Protector).Change! with { EventId = id }),
        ];
        Change[] others = [.. changes.Select(change => change with { Document = change.Document.Replace("BRL", "USD", StringComparison.Ordinal) })];
        await WriteAsync(changes[..1]);
        await WriteAsync(changes[1..]);
        await CompactAsync(world, world.Objects);
        Assert.Single(await KeysAsync(world));

        await WriteAsync(others);
        await CompactAsync(world, world.Objects);

        var documents = new List<string>();
        foreach (var key in await KeysAsync(world))
        {
            documents.AddRange((await ChangesAsync(world, key)).Select(one => one.Document));
        }

        Assert.Equal(changes.Concat(others).Select(one => one.Document).Order(StringComparer.Ordinal), documents.Order(StringComparer.Ordinal));

        async Task WriteAsync(IReadOnlyList<Change> these)
        {
            var writer = new ChangeWriter(world.Objects, TimeProvider.System);
            await writer.AddAsync(these, Cancelled);
            await writer.FlushAsync(Cancelled);
            await world.LoadAsync();
            await MoveIntoOneHourAsync(world);
        }
    }

    [Fact]
    public async Task A_change_that_two_files_have_in_two_forms_stays_in_both_forms()
    {
        await using var world = await servers.CreateWorldAsync();
        var change = TableItem.Decode(World.Order("o"), SequenceNumber.Zero, DateTimeOffset.UtcNow, World.Protector).Change!;
        var other = change with { EventId = "delivered again", Document = change.Document.Replace("BRL", "USD", StringComparison.Ordinal) };
        Assert.NotEqual(change.Document, other.Document);
        foreach (var form in new[] { change, other })
        {
            var writer = new ChangeWriter(world.Objects, TimeProvider.System);
            await writer.AddAsync([form], Cancelled);
            await writer.FlushAsync(Cancelled);
        }

        await world.LoadAsync();
        await MoveIntoOneHourAsync(world);
        await CompactAsync(world, world.Objects);

        var documents = new List<string>();
        foreach (var key in await KeysAsync(world))
        {
            documents.AddRange((await ChangesAsync(world, key)).Select(one => one.Document));
        }

        Assert.Equal(new[] { change.Document, other.Document }.Order(StringComparer.Ordinal), documents.Order(StringComparer.Ordinal));
    }

    /// <summary>
    /// After a crash before or behind any call of the store, and before or behind the ledger: an empty warehouse is the same when it is
    /// built from what is there, the live loader has nothing to add, and the next run comes to the same end, in the bucket and in the ledger.
    /// </summary>
    [Fact]
    public async Task A_crash_between_any_two_steps_loses_and_doubles_nothing()
    {
        await using var world = await servers.CreateWorldAsync();
        await SmallFilesAsync(world);
        var content = await World.ContentAsync(world.Database);
        var files = new Dictionary<string, byte[]>();
        foreach (var key in await KeysAsync(world))
        {
            files[key] = (await world.Objects.GetAsync(key, Cancelled))!.Bytes;
        }

        await using var rebuilt = NpgsqlDataSource.Create(PostgresWarehouse.ConnectionString(await servers.CreateDatabaseAsync("compact_crashes", empty: false)));
        List<string>? end = null;
        var crashes = 0;
        for (var call = 1; ; call++)
        {
            foreach (var key in await KeysAsync(world))
            {
                await world.Objects.DeleteAsync(key, Cancelled);
            }

            foreach (var (key, bytes) in files)
            {
                await world.Objects.PutAsync(key, bytes, ChangeFile.ContentType, Cancelled);
            }

            await world.ExecuteAsync("TRUNCATE load_ledger");
            await world.LoadAsync();

            var store = new CrashingObjects(world.Objects, call);
            var crashed = false;
            try
            {
                await CompactAsync(world, store, crash: store.Crash);
            }
            catch (Crashed)
            {
                crashed = true;
                crashes++;
            }

            await using (var command = rebuilt.CreateCommand("TRUNCATE orders, order_changes, waiting_changes, load_ledger"))
            {
                await command.ExecuteNonQueryAsync(Cancelled);
            }

            await world.LoadAsync(into: rebuilt);
            Assert.Equal(content, await World.ContentAsync(rebuilt));
            Assert.Equal(0, (await world.LoadAsync()).NewChanges);
            Assert.Equal(content, await World.ContentAsync(world.Database));

            await CompactAsync(world, world.Objects);
            var keys = await KeysAsync(world);
            Assert.Equal(end ??= keys, keys);
            Assert.Equal(keys, await LedgerAsync(world));
            if (!crashed)
            {
                break;
            }
        }

        // Two listings, each file read, the large one stored and read, each file removed, the ledger: before and behind.
        Assert.True(crashes >= 2 * ((2 * files.Count) + 5), $"{crashes} crashes with {files.Count} files");
    }

    /// <summary>Several lives in several files, all in this hour or in this one and the next.</summary>
    private static async Task SmallFilesAsync(World world)
    {
        await world.FillAsync("a", "b");
        await world.FillAsync("c");
        await world.DeliverAsync(await world.PutAsync(World.Order("a", 2)), await world.PutAsync(World.Order("c", 2)));
        await world.DeliverAsync(await world.DeleteAsync("b"));
        await world.DeliverAsync(await world.PutAsync(World.Order("b")));
        await world.LoadAsync();
        await MoveIntoOneHourAsync(world);
    }

    /// <summary>A test that runs across the full hour would have its files in two.</summary>
    private static async Task MoveIntoOneHourAsync(World world)
    {
        var partition = ObjectKeys.ChangePartition(DateTimeOffset.UtcNow);
        foreach (var key in await KeysAsync(world))
        {
            if (!key.StartsWith(partition, StringComparison.Ordinal))
            {
                await world.Objects.PutAsync(partition + key[(key.LastIndexOf('/') + 1)..], (await world.Objects.GetAsync(key, Cancelled))!.Bytes, ChangeFile.ContentType, Cancelled);
                await world.Objects.DeleteAsync(key, Cancelled);
            }
        }

        await world.LoadAsync();
    }

    private static Task<CompactReport> CompactAsync(
        World world, IObjectStore objects, CompactLimits? limits = null, DateTimeOffset? closedBefore = null, bool dryRun = false, Action? crash = null) =>
        Run(world, objects, limits, closedBefore, dryRun, crash).RunAsync(Cancelled);

    private static CompactRun Run(
        World world, IObjectStore objects, CompactLimits? limits = null, DateTimeOffset? closedBefore = null, bool dryRun = false, Action? crash = null) =>
        new(
            objects,
            new PostgresWarehouse(world.Database),
            async (keys, ct) =>
            {
                crash?.Invoke();
                await CompactCommand.ForgetAsync(world.Database, keys, ct);
                crash?.Invoke();
            },
            closedBefore ?? DateTimeOffset.UtcNow.AddDays(1), limits ?? new CompactLimits(), dryRun);

    private async Task<string> RebuiltAsync(World world, string name)
    {
        await using var rebuilt = NpgsqlDataSource.Create(PostgresWarehouse.ConnectionString(await servers.CreateDatabaseAsync($"compact_{name}", empty: false)));
        await world.LoadAsync(into: rebuilt);
        return await World.ContentAsync(rebuilt);
    }

    private static async Task<List<string>> KeysAsync(World world) =>
        [.. (await world.Objects.ListAsync(Names.ChangesPrefix, null, Cancelled)).Objects.Select(o => o.Key)];

    private static async Task<List<string>> LedgerAsync(World world) =>
        [.. (await world.ScalarAsync("SELECT string_agg(object_key, ',' ORDER BY object_key) FROM load_ledger")).Split(',')];

    private static async Task<IReadOnlyList<Change>> ChangesAsync(World world, string key)
    {
        using var file = new MemoryStream((await world.Objects.GetAsync(key, Cancelled))!.Bytes);
        return await ChangeFile.ReadAsync(file, Cancelled);
    }

    private sealed class Crashed : Exception;

    /// <summary>Crashes once, before or behind one of its calls.</summary>
    private sealed class CrashingObjects(IObjectStore inner, int at) : IObjectStore
    {
        private int _calls;

        public void Crash()
        {
            if (Interlocked.Increment(ref _calls) == at)
            {
                throw new Crashed();
            }
        }

        public async Task<ObjectPage> ListAsync(string prefix, string? startAfter, CancellationToken cancellationToken)
        {
            Crash();
            var page = await inner.ListAsync(prefix, startAfter, cancellationToken);
            Crash();
            return page;
        }

        public async Task<ObjectContent?> GetAsync(string key, CancellationToken cancellationToken)
        {
            Crash();
            var content = await inner.GetAsync(key, cancellationToken);
            Crash();
            return content;
        }

        public async Task PutAsync(string key, ReadOnlyMemory<byte> content, string contentType, CancellationToken cancellationToken)
        {
            Crash();
            await inner.PutAsync(key, content, contentType, cancellationToken);
            Crash();
        }

        public async Task DeleteAsync(string key, CancellationToken cancellationToken)
        {
            Crash();
            await inner.DeleteAsync(key, cancellationToken);
            Crash();
        }
    }
}
