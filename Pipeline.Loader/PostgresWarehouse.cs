using Npgsql;
using NpgsqlTypes;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>The warehouse in PostgreSQL. What it does is in Sql/*.sql, one file a step; here is how the steps are run.</summary>
public sealed class PostgresWarehouse(NpgsqlDataSource database) : IWarehouse
{
    private const int ReasonLengthMax = 1_000;

    /// <summary>
    /// The given connection string with what the load relies on: the temporary tables of a session stay when its
    /// connection goes back to the pool, and a large load is not cut off by the client (30 s by default).
    /// </summary>
    public static string ConnectionString(string given) => new NpgsqlConnectionStringBuilder(given)
    {
        NoResetOnClose = true,
        CommandTimeout = 300,
        ApplicationName = "pipeline-loader",
    }.ConnectionString;

    public async Task<IReadOnlySet<(string Key, string ETag)>> LoadedAsync(string firstKey, string lastKey, CancellationToken cancellationToken) =>
        await CallAsync(async () =>
        {
            var loaded = new HashSet<(string, string)>();
            await using var query = database.CreateCommand("SELECT object_key, etag FROM load_ledger WHERE object_key BETWEEN $1 AND $2");
            query.Parameters.Add(new() { Value = firstKey });
            query.Parameters.Add(new() { Value = lastKey });
            await using var rows = await query.ExecuteReaderAsync(cancellationToken);
            while (await rows.ReadAsync(cancellationToken))
            {
                loaded.Add((rows.GetString(0), rows.GetString(1)));
            }

            return loaded;
        });

    public async Task<IReadOnlyList<FailedFile>> FailuresAsync(int max, CancellationToken cancellationToken) =>
        await CallAsync(async () =>
        {
            var failures = new List<FailedFile>();
            await using var query = database.CreateCommand(
                "SELECT object_key, etag, attempts, last_at FROM load_failures ORDER BY last_at DESC, object_key LIMIT $1");
            query.Parameters.Add(new() { Value = max });
            await using var rows = await query.ExecuteReaderAsync(cancellationToken);
            while (await rows.ReadAsync(cancellationToken))
            {
                failures.Add(new FailedFile(rows.GetString(0), rows.GetString(1), rows.GetInt32(2), rows.GetFieldValue<DateTimeOffset>(3)));
            }

            return failures;
        });

    public async Task<int> RecordFailureAsync(ObjectInfo file, string reason, DateTimeOffset at, CancellationToken cancellationToken) =>
        await CallAsync(async () =>
        {
            await using var connection = await database.OpenConnectionAsync(cancellationToken);
            await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
            await using var command = new NpgsqlCommand(Sql.RecordFailure, connection, transaction);
            command.Parameters.AddWithValue("key", file.Key);
            command.Parameters.AddWithValue("etag", file.ETag);
            command.Parameters.AddWithValue("reason", Storable(reason));
            command.Parameters.AddWithValue("at", at.ToUniversalTime());
            var attempts = (int)(await command.ExecuteScalarAsync(cancellationToken))!;
            await transaction.CommitAsync(cancellationToken);
            return attempts;
        });

    public async Task ForgetFailureAsync(string key, CancellationToken cancellationToken) =>
        await CallAsync(async () =>
        {
            await using var command = database.CreateCommand("DELETE FROM load_failures WHERE object_key = $1");
            command.Parameters.Add(new() { Value = key });
            return await command.ExecuteNonQueryAsync(cancellationToken);
        });

    public async Task<long> CountWaitingAsync(CancellationToken cancellationToken) => await CallAsync(async () =>
    {
        await using var query = database.CreateCommand("SELECT count(*) FROM waiting_changes");
        return (long)(await query.ExecuteScalarAsync(cancellationToken))!;
    });

    public async Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken) =>
        await CallAsync(async () =>
        {
            var releasable = new List<Change>();
            await using var query = database.CreateCommand(Sql.Releasable);
            AddParked(query, parked);
            query.Parameters.AddWithValue("max", max);
            await using var rows = await query.ExecuteReaderAsync(cancellationToken);
            while (await rows.ReadAsync(cancellationToken))
            {
                releasable.Add(new Change
                {
                    OrderId = rows.GetString(0),
                    Version = rows.GetInt64(1),
                    SequenceNumber = SequenceNumber.Parse(rows.GetString(2)),
                    EventId = rows.GetString(3),
                    Operation = ChangeFile.TryOperation(rows.GetString(4), out var operation)
                        ? operation
                        : throw new InvalidDataException("waiting_changes has an operation of an unknown name."),
                    ChangedAt = Time(5)!.Value,
                    TraceParent = Text(6),
                    MerchantId = Text(7),
                    CustomerId = Text(8),
                    Status = OrderStatusText.TryParse(Text(9), out var status) ? status : null,
                    Currency = Text(10),
                    TotalAmount = rows.IsDBNull(11) ? null : rows.GetDecimal(11),
                    CreatedAt = Time(12),
                    UpdatedAt = Time(13),
                    Document = rows.GetString(14),
                });
            }

            return releasable;

            string? Text(int column) => rows.IsDBNull(column) ? null : rows.GetString(column);

            DateTimeOffset? Time(int column) => rows.IsDBNull(column)
                ? null
                : DateTimeOffset.UnixEpoch.AddTicks(rows.GetInt64(column) * TimeSpan.TicksPerMicrosecond);
        });

    public async Task ForgetWaitingAsync(Change change, CancellationToken cancellationToken) => await CallAsync(async () =>
    {
        await using var command = database.CreateCommand(
            "DELETE FROM waiting_changes WHERE order_id = $1 AND version = $2 AND sequence_number = $3");
        command.Parameters.Add(new() { Value = change.OrderId });
        command.Parameters.Add(new() { Value = change.Version });
        command.Parameters.Add(new() { Value = change.SequenceNumber.ToString() });
        return await command.ExecuteNonQueryAsync(cancellationToken);
    });

    public async Task<IWarehouseLoad> BeginAsync(CancellationToken cancellationToken) =>
        await CallAsync(async () =>
        {
            var connection = await database.OpenConnectionAsync(cancellationToken);
            try
            {
                var transaction = await connection.BeginTransactionAsync(cancellationToken);
                var load = new Load(connection, transaction);
                await load.RunAsync(Sql.Begin, cancellationToken);
                return load;
            }
            catch
            {
                await connection.DisposeAsync();
                throw;
            }
        });

    private static void AddParked(NpgsqlCommand command, IReadOnlyCollection<ParkedChange> parked)
    {
        command.Parameters.AddWithValue("orders", parked.Select(p => p.OrderId).ToArray());
        command.Parameters.AddWithValue("sequences", parked.Select(p => p.SequenceNumber.ToString()).ToArray());
    }

    /// <summary>The reason may quote a library, and a library anything.</summary>
    private static string Storable(string reason) => reason[..Math.Min(reason.Length, ReasonLengthMax)].Replace('\0', '?');

    /// <summary>Tells apart what the caller treats differently.</summary>
    private static async Task<T> CallAsync<T>(Func<Task<T>> call)
    {
        try
        {
            return await call();
        }
        catch (PostgresException e)
        {
            // The detail of an error may quote values, so it stays out of the message.
            throw new WarehouseException(FaultOf(e.SqlState), $"{e.SqlState}: {e.MessageText}", e);
        }
        catch (Exception e) when (e is NpgsqlException or IOException or TimeoutException)
        {
            throw new WarehouseException(WarehouseFault.Unavailable, e.Message, e);
        }
    }

    private static WarehouseFault FaultOf(string sqlState) => sqlState switch
    {
        PostgresErrorCodes.SerializationFailure or PostgresErrorCodes.DeadlockDetected => WarehouseFault.Conflict,

        // Class 22 is a value that does not fit its type, 23 one that breaks a constraint, 54 a program limit such as
        // a row that is too large.
        [('2'), ('2' or '3'), ..] or ['5', '4', ..] => WarehouseFault.Refused,

        // All others (connection, resources, permissions, a table that is missing) are not the fault of the data.
        _ => WarehouseFault.Unavailable,
    };

    private sealed class Load(NpgsqlConnection connection, NpgsqlTransaction transaction) : IWarehouseLoad
    {
        /// <summary>A load of many rows that is to be stopped is stopped within some milliseconds.</summary>
        private const int CancellationCheckRows = 1_000;

        private int _staged;

        public Task<IReadOnlyList<ParkedChange>> SettledAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken) =>
            CallAsync<IReadOnlyList<ParkedChange>>(async () =>
            {
                var given = parked.ToList();
                var settled = new List<ParkedChange>();
                await using var query = new NpgsqlCommand(Sql.Settled, connection, transaction);
                AddParked(query, given);
                await using var rows = await query.ExecuteReaderAsync(cancellationToken);
                while (await rows.ReadAsync(cancellationToken))
                {
                    settled.Add(given[(int)rows.GetInt64(0) - 1]);
                }

                return settled;
            });

        public Task StageAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken) => CallAsync(async () =>
        {
            // The rows are written without await: the importer fills a buffer, and only its flushes do I/O. A state
            // machine for each of seventeen values of each row costs more than the rest of the copy.
            await using var copy = await connection.BeginBinaryImportAsync(Sql.Stage, cancellationToken);
            foreach (var change in changes.Concat(waiting))
            {
                if (_staged % CancellationCheckRows == 0)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                }

                copy.StartRow();
                copy.Write((long)_staged, NpgsqlDbType.Bigint);
                copy.Write(_staged >= changes.Count, NpgsqlDbType.Boolean);
                copy.Write(change.OrderId, NpgsqlDbType.Text);
                copy.Write(change.Version, NpgsqlDbType.Bigint);
                copy.Write(change.SequenceNumber.ToString(), NpgsqlDbType.Text);
                copy.Write(change.EventId, NpgsqlDbType.Text);
                copy.Write(ChangeFile.NameOf(change.Operation), NpgsqlDbType.Text);
                WriteTime(copy, change.ChangedAt);
                WriteText(copy, change.TraceParent);
                WriteText(copy, change.MerchantId);
                WriteText(copy, change.CustomerId);
                WriteText(copy, change.Status is { } status ? OrderStatusText.Of(status) : null);
                WriteText(copy, change.Currency);
                if (change.TotalAmount is { } amount)
                {
                    copy.Write(amount, NpgsqlDbType.Numeric);
                }
                else
                {
                    copy.WriteNull();
                }

                WriteTime(copy, change.CreatedAt);
                WriteTime(copy, change.UpdatedAt);
                copy.Write(change.Document, NpgsqlDbType.Json);
                _staged++;
            }

            return await copy.CompleteAsync(cancellationToken);
        });

        public Task<IReadOnlyList<int>> DropKnownAsync(CancellationToken cancellationToken) => CallAsync<IReadOnlyList<int>>(async () =>
        {
            await RunAsync(Sql.DropKnown, cancellationToken);
            await using var query = new NpgsqlCommand("SELECT count(*) FROM staged_changes", connection, transaction);
            if ((long)(await query.ExecuteScalarAsync(cancellationToken))! == _staged)
            {
                return [.. Enumerable.Range(0, _staged)];
            }

            query.CommandText = "SELECT row_no FROM staged_changes ORDER BY row_no";
            var kept = new List<int>();
            await using var rows = await query.ExecuteReaderAsync(cancellationToken);
            while (await rows.ReadAsync(cancellationToken))
            {
                kept.Add((int)rows.GetInt64(0));
            }

            return kept;
        });

        public Task HoldBackAsync(CancellationToken cancellationToken) => CallAsync(() => RunAsync(Sql.HoldBack, cancellationToken));

        public Task InsertHistoryAsync(CancellationToken cancellationToken) => CallAsync(() => RunAsync(Sql.InsertHistory, cancellationToken));

        public Task MergeCurrentAsync(CancellationToken cancellationToken) => CallAsync(() => RunAsync(Sql.MergeCurrent, cancellationToken));

        public Task RecordLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken) => CallAsync(async () =>
        {
            await using var command = new NpgsqlCommand(Sql.Ledger, connection, transaction);
            command.Parameters.AddWithValue("keys", files.Select(f => f.File.Key).ToArray());
            command.Parameters.AddWithValue("etags", files.Select(f => f.File.ETag).ToArray());
            command.Parameters.AddWithValue("rows", files.Select(f => (long)f.Changes.Count).ToArray());
            command.Parameters.AddWithValue("bytes", files.Select(f => f.File.Bytes).ToArray());
            return await command.ExecuteNonQueryAsync(cancellationToken);
        });

        public Task CommitAsync(CancellationToken cancellationToken) => CallAsync(async () =>
        {
            await transaction.CommitAsync(cancellationToken);
            return 0;
        });

        public async Task<int> RunAsync(string sql, CancellationToken cancellationToken)
        {
            await using var command = new NpgsqlCommand(sql, connection, transaction);
            return await command.ExecuteNonQueryAsync(cancellationToken);
        }

        public async ValueTask DisposeAsync()
        {
            // Rolls back what is not committed; on a broken connection the server does that.
            await transaction.DisposeAsync();
            await connection.DisposeAsync();
        }

        private static void WriteText(NpgsqlBinaryImporter copy, string? value)
        {
            if (value is null)
            {
                copy.WriteNull();
            }
            else
            {
                copy.Write(value, NpgsqlDbType.Text);
            }
        }

        /// <summary>As microseconds since 2000, the wire's own form: a DateTime at the edge of its range would become infinity.</summary>
        private static void WriteTime(NpgsqlBinaryImporter copy, DateTimeOffset? value)
        {
            if (value is { } time)
            {
                copy.Write((time.UtcTicks - Year2000Ticks) / TimeSpan.TicksPerMicrosecond, NpgsqlDbType.TimestampTz);
            }
            else
            {
                copy.WriteNull();
            }
        }

        private static readonly long Year2000Ticks = new DateTime(2000, 1, 1, 0, 0, 0, DateTimeKind.Utc).Ticks;
    }

    /// <summary>The statements of Sql/*.sql, embedded in the assembly.</summary>
    private static class Sql
    {
        public static readonly string Begin = Read("1-begin");
        public static readonly string Stage = Read("2-stage");
        public static readonly string DropKnown = Read("3-drop-known");
        public static readonly string HoldBack = Read("4-hold-back");
        public static readonly string InsertHistory = Read("5-insert-history");
        public static readonly string MergeCurrent = Read("6-merge-current");
        public static readonly string Ledger = Read("7-ledger");
        public static readonly string Settled = Read("settled");
        public static readonly string Releasable = Read("releasable");
        public static readonly string RecordFailure = Read("record-failure");

        private static string Read(string name)
        {
            using var stream = typeof(Sql).Assembly.GetManifestResourceStream($"Sql/{name}.sql")
                ?? throw new InvalidOperationException($"Sql/{name}.sql is not embedded in the assembly.");
            using var reader = new StreamReader(stream);
            return reader.ReadToEnd();
        }
    }
}
