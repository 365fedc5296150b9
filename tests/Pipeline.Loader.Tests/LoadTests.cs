using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Diagnostics.Metrics.Testing;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using Pipeline.Core;

namespace Pipeline.Loader.Tests;

/// <summary>The load into a real PostgreSQL, with its keys and, where it matters, without.</summary>
public class LoadTests(PostgresFixture postgres)
{
    private const string Everything = """
        SELECT 'orders' AS t, order_id, version, sequence_number, is_deleted::text AS x, document::text AS d, last_removal AS l FROM orders
        UNION ALL
        SELECT 'changes', order_id, version, sequence_number, operation, document::text, NULL FROM order_changes
        ORDER BY 1, 2, 4
        """;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Overlapping_files_and_a_replay_of_everything_change_nothing(bool withKeys)
    {
        await using var database = await DatabaseAsync(withKeys);
        var objects = new MemoryObjects();
        using (var harness = new Harness(new PostgresWarehouse(database), objects))
        {
            Change[] changes = [.. Enumerable.Range(1, 9).Select(n => Changes.Change($"o-{n % 3}", n, n))];
            await objects.PutAsync(changes[..6]);
            await objects.PutAsync(changes[3..]);
            await harness.DrainAsync();
            Assert.Equal(["9|3|2"], await CountsAsync(database));
        }

        var before = await database.RowsAsync(Everything);

        // The ledger is lost: a new loader loads all there is again, under other keys too.
        await database.ExecuteAsync("DELETE FROM load_ledger");
        await objects.PutAsync([.. Enumerable.Range(1, 9).Select(n => Changes.Change($"o-{n % 3}", n, n))], $"{Names.ChangesPrefix}copy.parquet");
        using (var harness = new Harness(new PostgresWarehouse(database), objects))
        {
            await harness.DrainAsync();
        }

        Assert.Equal(before, await database.RowsAsync(Everything));
        Assert.Equal(["9|3|3"], await CountsAsync(database));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Several_loaders_at_once_load_each_change_and_each_file_once(bool withKeys)
    {
        await using var database = await DatabaseAsync(withKeys);
        var objects = new MemoryObjects();
        for (var file = 0; file < 60; file++)
        {
            await objects.PutAsync([.. Enumerable.Range(file * 10, 15).Select(n => Changes.Change($"o-{n % 7}", n, n))]);
        }

        var harnesses = Enumerable.Range(0, 4)
            .Select(_ => new Harness(new PostgresWarehouse(database), objects, o => o.Limits = new LoadLimits(FilesMax: 3)))
            .ToList();
        await Task.WhenAll(harnesses.Select(h => Task.Run(h.DrainAsync, Cancelled)));
        harnesses.ForEach(h => h.Dispose());

        Assert.Equal(["605|7|60"], await CountsAsync(database));
        Assert.Empty(await database.RowsAsync("SELECT order_id FROM order_changes GROUP BY order_id, version, sequence_number HAVING count(*) > 1"));
        Assert.Empty(await database.RowsAsync("SELECT object_key FROM load_ledger GROUP BY object_key HAVING count(*) > 1"));
        Assert.Empty(await database.RowsAsync("SELECT o.order_id FROM orders o WHERE o.version <> (SELECT max(c.version) FROM order_changes c WHERE c.order_id = o.order_id)"));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_loader_that_wakes_up_late_finds_its_transaction_gone_and_does_no_harm(bool withKeys)
    {
        await using var database = await DatabaseAsync(withKeys);
        var warehouse = new PostgresWarehouse(database);
        ChangeObject[] files = [new(new ObjectInfo("orders/changes/a.parquet", "e", 1), [Changes.Change("o-1", 1, 1)])];

        // The zombie has staged its file and hangs. Its server sees it idle too long and ends it; here at once.
        await using var zombie = await warehouse.BeginAsync(Cancelled);
        await zombie.StageAsync(files[0].Changes, [], Cancelled);
        Assert.Equal([0], await zombie.DropKnownAsync(Cancelled));
        var other = Task.Run(() => LoadAsync(warehouse, files), Cancelled);
        await UntilAsync(database, "SELECT 1 AS one FROM pg_locks WHERE NOT granted");
        await database.RowsAsync("""
            SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
            WHERE datname = current_database() AND state = 'idle in transaction'
            """);
        await other;

        var late = await Assert.ThrowsAsync<WarehouseException>(() => zombie.InsertHistoryAsync(Cancelled));
        Assert.Equal(WarehouseFault.Unavailable, late.Fault);
        Assert.Equal(["1|1|1"], await CountsAsync(database));
    }

    [Fact]
    public async Task A_loader_that_vanishes_inside_COPY_is_noticed_within_a_minute_by_keepalives_that_end_with_the_load()
    {
        await using var database = await postgres.CreateDatabaseAsync();
        using var begin = new StreamReader(typeof(PostgresWarehouse).Assembly.GetManifestResourceStream("Sql/postgres/1-begin.sql")!);
        await using var connection = await database.OpenConnectionAsync(Cancelled);
        var before = await KeepalivesAsync();
        await using (var transaction = await connection.BeginTransactionAsync(Cancelled))
        {
            await using var command = new NpgsqlCommand(await begin.ReadToEndAsync(Cancelled), connection, transaction);
            await command.ExecuteNonQueryAsync(Cancelled);

            // The server answers with what the socket really has, the last in ms.
            Assert.Equal("30,10,3,60000", await KeepalivesAsync());
        }

        Assert.NotEqual("30,10,3,60000", before);
        Assert.Equal(before, await KeepalivesAsync());

        async Task<string> KeepalivesAsync()
        {
            await using var show = new NpgsqlCommand(
                "SELECT concat_ws(',', current_setting('tcp_keepalives_idle'), current_setting('tcp_keepalives_interval'), " +
                "current_setting('tcp_keepalives_count'), current_setting('tcp_user_timeout'))", connection);
            return (string)(await show.ExecuteScalarAsync(Cancelled))!;
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_second_loader_waits_and_then_finds_everything_known(bool withKeys)
    {
        await using var database = await DatabaseAsync(withKeys);
        var warehouse = new PostgresWarehouse(database);
        ChangeObject[] files = [new(new ObjectInfo("orders/changes/a.parquet", "e", 1), [Changes.Change("o-1", 1, 1)])];

        await using (var first = await warehouse.BeginAsync(Cancelled))
        {
            await first.StageAsync(files[0].Changes, [], Cancelled);
            await first.DropKnownAsync(Cancelled);
            var second = Task.Run(() => LoadAsync(warehouse, files), Cancelled);
            await UntilAsync(database, "SELECT 1 AS one FROM pg_locks WHERE NOT granted");
            await first.InsertHistoryAsync(Cancelled);
            await first.MergeCurrentAsync(Cancelled);
            await first.RecordLedgerAsync(files, Cancelled);
            await first.CommitAsync(Cancelled);
            Assert.Empty(await second);
        }

        Assert.Equal(["1|1|1"], await CountsAsync(database));
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_connection_lost_at_COMMIT_neither_loses_nor_doubles(bool withKeys, bool takesEffect)
    {
        await using var database = await DatabaseAsync(withKeys);
        var faults = new Faults
        {
            Counts = step => step == "commit",
            FailAt = 0,
            TakesEffect = takesEffect,
            Error = _ => new WarehouseException(WarehouseFault.Unavailable, "the connection is lost"),
        };
        using var harness = new Harness(new FaultyWarehouse(new PostgresWarehouse(database), faults));
        await harness.Objects.PutAsync([Changes.Change("o-1", 1, 1), Changes.Change("o-1", 2, 2)]);

        await Assert.ThrowsAsync<WarehouseException>(harness.DrainAsync);
        await harness.DrainAsync();

        Assert.Equal(["2|1|1"], await CountsAsync(database));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_serialization_failure_is_tried_again_with_the_same_load(bool withKeys)
    {
        await using var database = await DatabaseAsync(withKeys);
        await FailInsertsAsync(database, "40001", times: 3);
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Changes.Change("o-1", 1, 1)]);

        var drained = harness.DrainAsync();
        while (!drained.IsCompleted)
        {
            harness.Time.Advance(TimeSpan.FromSeconds(1));
            await Task.Yield();
        }

        await drained;
        Assert.Equal(["1|1|1"], await CountsAsync(database));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_conflict_that_lasts_is_an_outage_and_the_files_stay_pending(bool withKeys)
    {
        await using var database = await DatabaseAsync(withKeys);
        await FailInsertsAsync(database, "40P01", times: 5);
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Changes.Change("o-1", 1, 1)]);

        var turn = harness.Loader.RunOnceAsync(Cancelled);
        while (!turn.IsCompleted)
        {
            harness.Time.Advance(TimeSpan.FromSeconds(1));
            await Task.Yield();
        }

        Assert.Equal(WarehouseFault.Conflict, (await Assert.ThrowsAsync<WarehouseException>(() => turn)).Fault);
        Assert.Equal(["0|0|0"], await CountsAsync(database));

        await harness.DrainAsync();
        Assert.Equal(["1|1|1"], await CountsAsync(database));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_corrupt_file_is_recorded_and_is_forgotten_when_it_is_gone(bool withKeys)
    {
        await using var database = await DatabaseAsync(withKeys);
        var objects = new MemoryObjects();
        const string Key = $"{Names.ChangesPrefix}dt=2026-11-24/hour=08/x.parquet";
        objects.Put(Key, [1, 2, 3]);
        await objects.PutAsync([Changes.Change("o-1", 1, 1)]);
        using (var harness = new Harness(new PostgresWarehouse(database), objects))
        {
            await harness.DrainAsync();
        }

        Assert.Equal(["1|1|1"], await CountsAsync(database));
        Assert.Equal([$"{Key}|not a change file: 3 bytes are too few"], await database.RowsAsync("SELECT object_key, reason FROM load_failures"));

        objects.Delete(Key);
        using var restarted = new Harness(new PostgresWarehouse(database), objects);
        restarted.Time.Advance(TimeSpan.FromSeconds(2));
        await restarted.Loader.RestoreAsync(Cancelled);
        Assert.Equal(1, restarted.Status.FailingFiles);
        await restarted.DrainAsync();
        Assert.Equal(0, restarted.Status.FailingFiles);
        Assert.Empty(await database.RowsAsync("SELECT object_key FROM load_failures"));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Every_field_arrives_as_it_was_and_what_is_missing_is_null(bool withKeys)
    {
        await using var database = await DatabaseAsync(withKeys);
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync(
        [
            Changes.Change("full", 1, 7) with
            {
                TraceParent = "00-a", MerchantId = "merçado 🛒", CustomerId = "c\t1", TotalAmount = -9_999_999_999_999_999.99m,
                CreatedAt = DateTimeOffset.MinValue, UpdatedAt = new DateTimeOffset(DateTimeOffset.MaxValue.Ticks / 10 * 10, TimeSpan.Zero),
                Document = """{"n":12345678901234567890123456789012345678,"u":"é\u2028"}""",
            },
            Changes.Change("bare", 2, 0, status: null) with
            {
                MerchantId = null, Currency = null, TotalAmount = null, UpdatedAt = null, Document = "{}",
            },
        ]);
        await harness.DrainAsync();

        const string Columns = "trace_parent, merchant_id, customer_id, status, currency, total_amount::text, created_at AT TIME ZONE 'UTC' AS c, updated_at AT TIME ZONE 'UTC' AS u, document::text";
        string[] expected =
        [
            "bare|0|{}",
            $"full|7|00-a|merçado 🛒|c\t1|approved|BRL|-9999999999999999.99|0001-01-01T00:00:00|9999-12-31T23:59:59.999999|{{\"n\":12345678901234567890123456789012345678,\"u\":\"é\\u2028\"}}",
        ];
        Assert.Equal(expected, await database.RowsAsync($"SELECT order_id, version, {Columns} FROM orders ORDER BY order_id"));
        Assert.Equal(expected, await database.RowsAsync($"SELECT order_id, version, {Columns} FROM order_changes ORDER BY order_id"));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_removed_order_stays_as_a_row_with_what_it_was_last(bool withKeys)
    {
        await using var database = await DatabaseAsync(withKeys);
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Changes.Change("o-1", 1, 1, Operation.Insert), Changes.Change("o-1", 2, 1, Operation.Remove)]);
        await harness.DrainAsync();

        Assert.Equal([$"o-1|1|true|approved|{Changes.Sequence(2)}"], await database.RowsAsync("SELECT order_id, version, is_deleted, status, last_removal FROM orders"));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Freshness_is_measured_once_for_each_new_write(bool withKeys)
    {
        await using var database = await DatabaseAsync(withKeys);
        using var harness = new Harness(new PostgresWarehouse(database));
        using var freshness = new MetricCollector<double>(harness.Meters, "Pipeline.Loader", "pipeline.freshness");
        using var changes = new MetricCollector<long>(harness.Meters, "Pipeline.Loader", "pipeline.load.changes");
        Change At(int n, double secondsAgo) => Changes.Change("o-1", n, n) with { UpdatedAt = Harness.Start.AddSeconds(-secondsAgo) };

        await harness.Objects.PutAsync([At(1, 2), At(2, 1)]);
        await harness.DrainAsync();
        // One is known, one is new but from a clock ahead of ours, and a removal has an old image's time.
        await harness.Objects.PutAsync([At(2, 1), At(3, -1), Changes.Change("o-1", 4, 3, Operation.Remove)]);
        await harness.DrainAsync();

        Assert.Equal([2, 1, 0], freshness.GetMeasurementSnapshot().Select(m => m.Value));
        Assert.Equal([2, 2], changes.GetMeasurementSnapshot().Select(m => m.Value));
    }

    [Fact]
    public async Task Two_loaders_that_start_at_once_migrate_an_empty_warehouse_together()
    {
        await using var database = await postgres.CreateDatabaseAsync(empty: true);
        var migrator = new Migrator(database, NullLogger<Migrator>.Instance);

        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => migrator.MigrateAsync(Cancelled)));
        await migrator.MigrateAsync(Cancelled);

        Assert.Equal(["7"], await database.RowsAsync("SELECT count(*) AS scripts FROM schema_migrations"));
        Assert.Equal(["0|0|0"], await CountsAsync(database));
    }

    private async Task<NpgsqlDataSource> DatabaseAsync(bool withKeys)
    {
        var database = await postgres.CreateDatabaseAsync();
        if (!withKeys)
        {
            await database.DropKeysAsync();
        }

        return database;
    }

    private static Task<List<string>> CountsAsync(NpgsqlDataSource database) => database.RowsAsync(
        "SELECT (SELECT count(*) FROM order_changes) AS a, (SELECT count(*) FROM orders) AS b, (SELECT count(*) FROM load_ledger) AS c");

    private static async Task<IReadOnlyList<int>> LoadAsync(PostgresWarehouse warehouse, ChangeObject[] files)
    {
        await using var load = await warehouse.BeginAsync(Cancelled);
        await load.StageAsync(files[0].Changes, [], Cancelled);
        var news = await load.DropKnownAsync(Cancelled);
        await load.InsertHistoryAsync(Cancelled);
        await load.MergeCurrentAsync(Cancelled);
        await load.RecordLedgerAsync(files, Cancelled);
        await load.CommitAsync(Cancelled);
        return news;
    }

    private static async Task<HealthStatus> HealthAsync(Harness harness)
    {
        harness.Status.Started();
        return (await harness.Status.CheckHealthAsync(new HealthCheckContext(), Cancelled)).Status;
    }

    /// <summary>The next inserts into the history fail with this code. A sequence counts them, since no rollback takes it back.</summary>
    private static Task FailInsertsAsync(NpgsqlDataSource database, string sqlState, int times) => database.ExecuteAsync($"""
        CREATE SEQUENCE failures;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('failures') <= {times} THEN
                RAISE EXCEPTION 'injected' USING ERRCODE = '{sqlState}';
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT ON order_changes FOR EACH STATEMENT EXECUTE FUNCTION fail();
        """);

    private static async Task UntilAsync(NpgsqlDataSource database, string query)
    {
        for (var deadline = DateTime.UtcNow.AddSeconds(30); (await database.RowsAsync(query)).Count == 0;)
        {
            Assert.True(DateTime.UtcNow < deadline, $"Waited too long for: {query}");
            await Task.Delay(20, Cancelled);
        }
    }
}
