using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using Pipeline.Core;
using Pipeline.Loader;
using Pipeline.NativeServers;
using Pipeline.Ops.Compact;

namespace Pipeline.Simulation;

/// <summary>PostgreSQL with one migrated database for each worker of a campaign.</summary>
internal sealed class PostgresSimulation : IAsyncDisposable
{
    private const string Database = "postgres";

    /// <summary>Deleted rows stay in the tables; after so many runs the tables are emptied for good.</summary>
    private const int RunsBetweenTruncates = 200;

    private readonly NativeServer _server;
    private readonly string _folder;
    private readonly List<(NpgsqlDataSource Loads, NpgsqlDataSource Queries)> _databases = [];
    private readonly PostgresRun?[] _running;
    private readonly int[] _runs;

    private PostgresSimulation(NativeServer server, string folder, int workers)
    {
        (_server, _folder) = (server, folder);
        _running = new PostgresRun?[workers];
        _runs = new int[workers];
    }

    /// <param name="workers">Databases.</param>
    /// <param name="withKeys">False: no unique and no primary key is enforced, as in Redshift.</param>
    /// <param name="cancellationToken">Ends the wait for the server.</param>
    /// <exception cref="PrerequisiteException">No PostgreSQL runs here.</exception>
    public static async Task<PostgresSimulation> StartAsync(int workers, bool withKeys, CancellationToken cancellationToken)
    {
        var folder = Directory.CreateTempSubdirectory("simulation-").FullName;
        await PostgresServer.InitializeAsync(folder, "unused", cancellationToken);
        var server = await NativeServer.StartAsync(PostgresServer.Define(LoopbackPorts.Free(), folder, isDurable: false), cancellationToken: cancellationToken);
        var simulation = new PostgresSimulation(server, folder, workers);
        for (var worker = 0; worker < workers; worker++)
        {
            await using (var admin = simulation.Open(Database))
            {
                await ExecuteAsync(admin, $"CREATE DATABASE worker_{worker} TEMPLATE template0", cancellationToken);
            }

            var loads = simulation.Open($"worker_{worker}");
            await new Migrator(loads, NullLogger<Migrator>.Instance).MigrateAsync(cancellationToken);
            if (!withKeys)
            {
                await ExecuteAsync(
                    loads,
                    """
                    DO $$ DECLARE k record; BEGIN
                        FOR k IN SELECT conrelid::regclass AS t, conname FROM pg_constraint
                                 WHERE contype IN ('p', 'u') AND connamespace = 'public'::regnamespace AND conrelid <> 'schema_migrations'::regclass LOOP
                            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', k.t, k.conname);
                        END LOOP;
                    END $$
                    """,
                    cancellationToken);
            }

            simulation._databases.Add((loads, simulation.Open($"worker_{worker}")));
        }

        return simulation;
    }

    /// <summary>An empty warehouse, in the place of the worker's former one.</summary>
    public ISimulatedWarehouse Fresh(int worker)
    {
        _running[worker]?.End();
        var (loads, queries) = _databases[worker];
        var empty = _runs[worker]++ % RunsBetweenTruncates == 0
            ? "TRUNCATE order_changes, orders, waiting_changes, load_ledger, load_failures"
            : "DELETE FROM order_changes; DELETE FROM orders; DELETE FROM waiting_changes; DELETE FROM load_ledger; DELETE FROM load_failures";
        ExecuteAsync(queries, empty, CancellationToken.None).GetAwaiter().GetResult();
        return _running[worker] = new PostgresRun(new PostgresWarehouse(loads), queries, () => Fresh(worker));
    }

    public async ValueTask DisposeAsync()
    {
        for (var worker = 0; worker < _databases.Count; worker++)
        {
            _running[worker]?.End();
            await _databases[worker].Loads.DisposeAsync();
            await _databases[worker].Queries.DisposeAsync();
        }

        await _server.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    private NpgsqlDataSource Open(string database) => NpgsqlDataSource.Create(
        PostgresWarehouse.ConnectionString(PostgresServer.ConnectionString(_server.Port, _folder, database)));

    private static async Task ExecuteAsync(NpgsqlDataSource database, string sql, CancellationToken cancellationToken)
    {
        await using var command = database.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(cancellationToken);
    }
}

/// <summary>
/// The production warehouse in one run. To the simulation each of its calls takes no time at all: it is waited for, unless
/// it waits for a lock of another transaction; then it ends when the simulation has done what the lock waits for.
/// </summary>
internal sealed class PostgresRun(PostgresWarehouse warehouse, NpgsqlDataSource queries, Func<ISimulatedWarehouse> fresh) : ISimulatedWarehouse
{
    /// <summary>An answer takes a fraction of this; only what takes longer is suspected of waiting for a lock.</summary>
    private static readonly TimeSpan AnswerTime = TimeSpan.FromMilliseconds(5);

    /// <summary>Something is wrong with the server or the simulation, and waiting would hide it.</summary>
    private static readonly TimeSpan StuckAfter = TimeSpan.FromMinutes(1);

    private readonly List<Pending> _pending = [];
    private readonly HashSet<IWarehouseLoad> _open = [];
    private WarehouseContent? _content;

    public Task<IReadOnlySet<(string Key, string ETag)>> LoadedAsync(string firstKey, string lastKey, CancellationToken cancellationToken) =>
        Call(() => warehouse.LoadedAsync(firstKey, lastKey, cancellationToken), cancellationToken);

    public Task<IReadOnlyList<FailedFile>> FailuresAsync(int max, CancellationToken cancellationToken) =>
        Call(() => warehouse.FailuresAsync(max, cancellationToken), cancellationToken);

    public Task<int> RecordFailureAsync(ObjectInfo file, string reason, DateTimeOffset at, CancellationToken cancellationToken) =>
        Call(() => warehouse.RecordFailureAsync(file, reason, at, cancellationToken), cancellationToken);

    public Task ForgetFailureAsync(string key, CancellationToken cancellationToken) =>
        Call(() => Done(warehouse.ForgetFailureAsync(key, cancellationToken)), cancellationToken);

    public Task<long> CountWaitingAsync(CancellationToken cancellationToken) => Call(() => warehouse.CountWaitingAsync(cancellationToken), cancellationToken);

    public Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken) =>
        Call(() => warehouse.ReleasableAsync(parked, max, cancellationToken), cancellationToken);

    public Task ForgetWaitingAsync(Change change, CancellationToken cancellationToken) =>
        Call(() => Done(warehouse.ForgetWaitingAsync(change, cancellationToken)), cancellationToken);

    public Task<IWarehouseLoad> BeginAsync(CancellationToken cancellationToken) => Call<IWarehouseLoad>(
        async () =>
        {
            var load = await warehouse.BeginAsync(cancellationToken);
            lock (_open)
            {
                _open.Add(load);
            }

            return new Load(this, load);
        },
        cancellationToken);

    public void Settle()
    {
        var since = System.Diagnostics.Stopwatch.GetTimestamp();
        while (true)
        {
            foreach (var ended in _pending.Where(p => p.IsCompleted).ToList())
            {
                // What goes on with one answer may have taken another one of these.
                if (_pending.Remove(ended))
                {
                    ended.Complete();
                }
            }

            if (_pending.Count == 0 || Task.WaitAny([.. _pending.Select(p => p.Running)], AnswerTime) >= 0)
            {
                if (_pending.Count == 0)
                {
                    return;
                }

                continue;
            }

            if (_pending.TrueForAll(p => p.MayWait) && WaitingForLocks() == _pending.Count && !_pending.Exists(p => p.IsCompleted))
            {
                return;
            }

            if (System.Diagnostics.Stopwatch.GetElapsedTime(since) > StuckAfter)
            {
                throw new TimeoutException($"{_pending.Count} calls of PostgreSQL neither end nor wait for a lock.");
            }
        }
    }

    public ISimulatedWarehouse Anew() => fresh();

    public Task ForgetLedgerAsync(IReadOnlyList<string> keys, CancellationToken cancellationToken) =>
        Call(() => Done(CompactCommand.ForgetAsync(queries, keys, cancellationToken)), cancellationToken);

    public WarehouseContent Read() => _content ??= ReadAsync().GetAwaiter().GetResult();

    /// <summary>What only the SQL of the views and columns can get wrong: the history has neither holes nor overlaps and shows the current row.</summary>
    public IEnumerable<string> Faults()
    {
        foreach (var (what, query) in (IEnumerable<(string, string)>)
        [
            ("I2: order_history has a hole or an overlap at", """
                SELECT order_id FROM (
                    SELECT order_id, valid_from, valid_to, is_current,
                           lead(valid_from) OVER w AS next_from, count(*) FILTER (WHERE is_current) OVER (PARTITION BY order_id) AS currents
                    FROM order_history
                    WINDOW w AS (PARTITION BY order_id ORDER BY life, is_deleted, version, sequence_number)
                ) h
                WHERE valid_to IS DISTINCT FROM next_from OR valid_to < valid_from OR currents <> 1 OR is_current <> (valid_to IS NULL)
                """),
            ("I2: order_history and orders disagree about", """
                SELECT coalesce(o.order_id, h.order_id)
                FROM orders o
                FULL JOIN (SELECT * FROM order_history WHERE is_current) h
                    ON h.order_id = o.order_id AND h.version = o.version AND h.sequence_number = o.sequence_number AND h.is_deleted = o.is_deleted
                WHERE o.order_id IS NULL OR h.order_id IS NULL
                """),
            ("I2: order_history and order_changes disagree about", """
                SELECT order_id FROM order_changes WHERE operation <> 'snapshot' GROUP BY order_id
                HAVING count(*) <> (SELECT count(*) FROM order_history h WHERE h.order_id = order_changes.order_id AND h.operation <> 'snapshot')
                """),
            ("I5: orders.last_removal is wrong for", """
                SELECT o.order_id FROM orders o
                WHERE o.last_removal IS DISTINCT FROM
                    (SELECT max(c.sequence_number) FROM order_changes c WHERE c.order_id = o.order_id AND c.operation = 'remove')
                """),
            ("I2: load_ledger has twice", "SELECT object_key FROM load_ledger GROUP BY object_key, etag HAVING count(*) > 1"),
            ("I2: load_failures has twice", "SELECT object_key FROM load_failures GROUP BY object_key HAVING count(*) > 1"),
        ])
        {
            using var command = queries.CreateCommand(query);
            if (command.ExecuteScalar() is string found)
            {
                yield return $"{what} {found}";
            }
        }
    }

    /// <summary>The run is over; what it left open is closed.</summary>
    public void End()
    {
        List<IWarehouseLoad> open;
        lock (_open)
        {
            open = [.. _open];
        }

        foreach (var load in open)
        {
            load.DisposeAsync().AsTask().GetAwaiter().GetResult();
        }

        // A Begin that has waited for one of those has the lock now, and so on.
        if (_pending.Count > 0)
        {
            Task.WaitAny([.. _pending.Select(p => p.Running)], StuckAfter);
            _pending.RemoveAll(p => p.IsCompleted);
            End();
        }
    }

    private static async Task<bool> Done(Task call)
    {
        await call;
        return true;
    }

    private Task<T> Call<T>(Func<Task<T>> call, CancellationToken cancellationToken)
    {
        _content = null;

        // Away from the simulation's thread: what goes on after an await must not be mistaken for a part of it.
        var pending = new Pending<T>(Task.Run(call, CancellationToken.None), cancellationToken);
        _pending.Add(pending);
        Settle();
        return pending.Answer;
    }

    private long WaitingForLocks()
    {
        using var query = queries.CreateCommand("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'");
        return (long)query.ExecuteScalar()!;
    }

    private async Task<WarehouseContent> ReadAsync()
    {
        const string Columns = """
            merchant_id, customer_id, status, currency, total_amount,
            (extract(epoch FROM created_at) * 1000000)::bigint, (extract(epoch FROM updated_at) * 1000000)::bigint,
            (extract(epoch FROM changed_at) * 1000000)::bigint, trace_parent, document::text
            """;
        await using var query = queries.CreateCommand($"""
            SELECT order_id, version, sequence_number, event_id, operation, {Columns} FROM order_changes;
            SELECT order_id, version, sequence_number, event_id, operation, {Columns} FROM waiting_changes;
            SELECT order_id, version, sequence_number, '', CASE WHEN is_deleted THEN 'remove' ELSE 'modify' END, {Columns} FROM orders ORDER BY order_id;
            SELECT object_key, etag FROM load_ledger;
            SELECT object_key FROM load_failures
            """);
        await using var rows = await query.ExecuteReaderAsync();
        var changes = await ChangesAsync();
        var waiting = await ChangesAsync();

        // The row of an order has neither the event nor the operation, but for whether it is a removal.
        var orders = (await ChangesAsync()).ConvertAll(row =>
        {
            var shown = changes.Find(c => c.OrderId == row.OrderId && c.Version == row.Version && c.SequenceNumber == row.SequenceNumber);
            return shown is null || (shown.Operation == Core.Operation.Remove) != (row.Operation == Core.Operation.Remove)
                ? row
                : row with { EventId = shown.EventId, Operation = shown.Operation };
        });
        var ledger = new List<(string, string)>();
        while (await rows.ReadAsync())
        {
            ledger.Add((rows.GetString(0), rows.GetString(1)));
        }

        await rows.NextResultAsync();
        var failing = new List<string>();
        while (await rows.ReadAsync())
        {
            failing.Add(rows.GetString(0));
        }

        return new WarehouseContent(changes, orders, waiting, ledger, failing);

        async Task<List<Change>> ChangesAsync()
        {
            var read = new List<Change>();
            while (await rows.ReadAsync())
            {
                read.Add(new Change
                {
                    OrderId = rows.GetString(0),
                    Version = rows.GetInt64(1),
                    SequenceNumber = SequenceNumber.Parse(rows.GetString(2)),
                    EventId = rows.GetString(3),
                    Operation = Enum.Parse<Core.Operation>(rows.GetString(4), ignoreCase: true),
                    MerchantId = Text(5),
                    CustomerId = Text(6),
                    Status = Text(7) is { } status ? Enum.Parse<OrderStatus>(status, ignoreCase: true) : null,
                    Currency = Text(8),
                    TotalAmount = rows.IsDBNull(9) ? null : rows.GetDecimal(9),
                    CreatedAt = Time(10),
                    UpdatedAt = Time(11),
                    ChangedAt = Time(12)!.Value,
                    TraceParent = Text(13),
                    Document = rows.GetString(14),
                });
            }

            await rows.NextResultAsync();
            return read;
        }

        string? Text(int column) => rows.IsDBNull(column) ? null : rows.GetString(column);

        DateTimeOffset? Time(int column) => rows.IsDBNull(column) ? null : DateTimeOffset.UnixEpoch.AddTicks(rows.GetInt64(column) * TimeSpan.TicksPerMicrosecond);
    }

    /// <summary>A call that has been made of the server, and its answer for the simulation's thread.</summary>
    private abstract class Pending(Task running, CancellationToken cancellationToken)
    {
        public Task Running => running;

        public bool IsCompleted => running.IsCompleted;

        /// <summary>A call that is cancelled ends, whatever it waits for.</summary>
        public bool MayWait => !cancellationToken.IsCancellationRequested;

        public abstract void Complete();
    }

    private sealed class Pending<T>(Task<T> running, CancellationToken cancellationToken) : Pending(running, cancellationToken)
    {
        private readonly TaskCompletionSource<T> _answer = new();

        public Task<T> Answer => _answer.Task;

        public override void Complete() => _answer.SetFromTask((Task<T>)Running);
    }

    private sealed class Load(PostgresRun run, IWarehouseLoad inner) : IWarehouseLoad
    {
        public Task<IReadOnlyList<ParkedChange>> SettledAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken) =>
            run.Call(() => inner.SettledAsync(parked, cancellationToken), cancellationToken);

        public Task StageAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken) =>
            run.Call(() => Done(inner.StageAsync(changes, waiting, cancellationToken)), cancellationToken);

        public Task<IReadOnlyList<int>> DropKnownAsync(CancellationToken cancellationToken) =>
            run.Call(() => inner.DropKnownAsync(cancellationToken), cancellationToken);

        public Task HoldBackAsync(CancellationToken cancellationToken) => run.Call(() => Done(inner.HoldBackAsync(cancellationToken)), cancellationToken);

        public Task InsertHistoryAsync(CancellationToken cancellationToken) => run.Call(() => Done(inner.InsertHistoryAsync(cancellationToken)), cancellationToken);

        public Task MergeCurrentAsync(CancellationToken cancellationToken) => run.Call(() => Done(inner.MergeCurrentAsync(cancellationToken)), cancellationToken);

        public Task RecordLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken) =>
            run.Call(() => Done(inner.RecordLedgerAsync(files, cancellationToken)), cancellationToken);

        public Task CommitAsync(CancellationToken cancellationToken) => run.Call(() => Done(inner.CommitAsync(cancellationToken)), cancellationToken);

        public ValueTask DisposeAsync()
        {
            lock (run._open)
            {
                if (!run._open.Remove(inner))
                {
                    return ValueTask.CompletedTask;
                }
            }

            return new ValueTask(run.Call(
                async () =>
                {
                    await inner.DisposeAsync();
                    return true;
                },
                CancellationToken.None));
        }
    }
}
