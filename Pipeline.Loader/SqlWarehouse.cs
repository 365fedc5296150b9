using System.Globalization;
using System.Text.RegularExpressions;
using Npgsql;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>
/// The warehouse in SQL, as far as PostgreSQL and Redshift agree. What a load does is in Sql/*, one file a step; here and
/// in the classes of the dialects is how the steps are run.
/// </summary>
public abstract partial class SqlWarehouse(NpgsqlDataSource database, string dialect) : IWarehouse
{
    private const int ReasonLengthMax = 1_000;

    /// <summary>In SQL, of a parked change whose version is not known.</summary>
    protected const long UnknownVersion = -1;

    private const string TimeFormat = "yyyy-MM-dd HH:mm:ss.ffffff";

    private readonly IReadOnlyList<string> _lockFailures = Sql.Read(dialect, "lock-failures");
    private readonly IReadOnlyList<string> _recordFailure = Sql.Read(dialect, "record-failure");

    protected NpgsqlDataSource Database { get; } = database;

    public Task<IReadOnlySet<(string Key, string ETag)>> LoadedAsync(string firstKey, string lastKey, CancellationToken cancellationToken) =>
        CallAsync<IReadOnlySet<(string, string)>>(async () =>
        {
            var loaded = new HashSet<(string, string)>();
            await using var query = Database.CreateCommand("SELECT object_key, etag FROM load_ledger WHERE object_key BETWEEN $1 AND $2");
            query.Parameters.Add(new() { Value = firstKey });
            query.Parameters.Add(new() { Value = lastKey });
            await using var rows = await query.ExecuteReaderAsync(cancellationToken);
            while (await rows.ReadAsync(cancellationToken))
            {
                loaded.Add((rows.GetString(0), rows.GetString(1)));
            }

            return loaded;
        });

    public Task<IReadOnlyList<FailedFile>> FailuresAsync(int max, CancellationToken cancellationToken) =>
        CallAsync<IReadOnlyList<FailedFile>>(async () =>
        {
            var failures = new List<FailedFile>();
            await using var query = Database.CreateCommand(
                $"SELECT object_key, etag, attempts, {TimeSql("last_at")} FROM load_failures ORDER BY last_at DESC, object_key LIMIT {max}");
            await using var rows = await query.ExecuteReaderAsync(cancellationToken);
            while (await rows.ReadAsync(cancellationToken))
            {
                failures.Add(new FailedFile(rows.GetString(0), rows.GetString(1), rows.GetInt32(2), ParseTime(rows.GetString(3))));
            }

            return failures;
        });

    public Task<int> RecordFailureAsync(ObjectInfo file, string reason, DateTimeOffset at, CancellationToken cancellationToken) =>
        CallAsync(async () =>
        {
            await using var connection = await Database.OpenConnectionAsync(cancellationToken);
            await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
            foreach (var statement in _lockFailures.Concat(_recordFailure))
            {
                await using var command = new NpgsqlCommand(statement, connection, transaction);
                command.Parameters.AddWithValue("key", file.Key);
                command.Parameters.AddWithValue("etag", file.ETag);
                command.Parameters.AddWithValue("reason", Storable(reason));
                command.Parameters.AddWithValue("at", FormatTime(at) + "+00");
                await command.ExecuteNonQueryAsync(cancellationToken);
            }

            await using var query = new NpgsqlCommand("SELECT attempts FROM load_failures WHERE object_key = $1", connection, transaction);
            query.Parameters.Add(new() { Value = file.Key });
            var attempts = (int)(await query.ExecuteScalarAsync(cancellationToken))!;
            await transaction.CommitAsync(cancellationToken);
            return attempts;
        });

    public Task ForgetFailureAsync(string key, CancellationToken cancellationToken) => CallAsync(async () =>
    {
        await using var command = Database.CreateCommand("DELETE FROM load_failures WHERE object_key = $1");
        command.Parameters.Add(new() { Value = key });
        return await command.ExecuteNonQueryAsync(cancellationToken);
    });

    public Task<long> CountWaitingAsync(CancellationToken cancellationToken) => CallAsync(async () =>
    {
        await using var query = Database.CreateCommand("SELECT count(*) FROM waiting_changes");
        return (long)(await query.ExecuteScalarAsync(cancellationToken))!;
    });

    public abstract Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken);

    public Task ForgetWaitingAsync(Change change, CancellationToken cancellationToken) => CallAsync(async () =>
    {
        await using var command = Database.CreateCommand(
            "DELETE FROM waiting_changes WHERE order_id = $1 AND version = $2 AND sequence_number = $3");
        command.Parameters.Add(new() { Value = change.OrderId });
        command.Parameters.Add(new() { Value = change.Version });
        command.Parameters.Add(new() { Value = change.SequenceNumber.ToString() });
        return await command.ExecuteNonQueryAsync(cancellationToken);
    });

    public virtual string? MisfitOf(Change change) => null;

    public Task<IWarehouseLoad> BeginAsync(CancellationToken cancellationToken) => CallAsync<IWarehouseLoad>(async () =>
    {
        var connection = await Database.OpenConnectionAsync(cancellationToken);
        try
        {
            var load = CreateLoad(connection, await connection.BeginTransactionAsync(cancellationToken));
            await load.RunAsync("1-begin", cancellationToken);
            return load;
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }
    });

    protected abstract Load CreateLoad(NpgsqlConnection connection, NpgsqlTransaction transaction);

    /// <summary>
    /// A time as text, in UTC. The drivers' own conversions are avoided: to them a time at the edge of its range is
    /// infinity, and Redshift's binary formats are not documented.
    /// </summary>
    protected static string TimeSql(string column) => $"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')";

    protected static string FormatTime(DateTimeOffset time) => time.UtcDateTime.ToString(TimeFormat, CultureInfo.InvariantCulture);

    /// <summary>Reads the columns of releasable.sql.</summary>
    protected static async Task<IReadOnlyList<Change>> ReadChangesAsync(NpgsqlCommand query, CancellationToken cancellationToken)
    {
        var changes = new List<Change>();
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        while (await rows.ReadAsync(cancellationToken))
        {
            changes.Add(new Change
            {
                OrderId = rows.GetString(0),
                Version = rows.GetInt64(1),
                SequenceNumber = SequenceNumber.Parse(rows.GetString(2)),
                EventId = rows.GetString(3),
                Operation = ChangeFile.TryOperation(rows.GetString(4), out var operation)
                    ? operation
                    : throw new InvalidDataException("waiting_changes has an operation of an unknown name."),
                ChangedAt = ParseTime(rows.GetString(5)),
                TraceParent = Text(6),
                MerchantId = Text(7),
                CustomerId = Text(8),
                Status = OrderStatusText.TryParse(Text(9), out var status) ? status : null,
                Currency = Text(10),
                TotalAmount = Text(11) is { } amount ? decimal.Parse(amount, CultureInfo.InvariantCulture) : null,
                CreatedAt = Text(12) is { } createdAt ? ParseTime(createdAt) : null,
                UpdatedAt = Text(13) is { } updatedAt ? ParseTime(updatedAt) : null,
                Document = rows.GetString(14),
            });
        }

        return changes;

        string? Text(int column) => rows.IsDBNull(column) ? null : rows.GetString(column);
    }

    /// <summary>Tells apart what the caller treats differently.</summary>
    public static async Task<T> CallAsync<T>(Func<Task<T>> call)
    {
        try
        {
            return await call();
        }
        catch (PostgresException e)
        {
            // The detail of an error may quote values, so neither it nor the exception that carries it goes on.
            throw new WarehouseException(FaultOf(e), $"{e.SqlState}: {e.MessageText}");
        }
        catch (Exception e) when (e is NpgsqlException or IOException or TimeoutException)
        {
            throw new WarehouseException(WarehouseFault.Unavailable, e.Message, e);
        }
    }

    private static WarehouseFault FaultOf(PostgresException e) => e.SqlState switch
    {
        PostgresErrorCodes.SerializationFailure or PostgresErrorCodes.DeadlockDetected => WarehouseFault.Conflict,

        // Class 22 is a value that does not fit its type, 23 one that breaks a constraint, 54 a program limit such as
        // a row that is too large.
        [('2'), ('2' or '3'), ..] or ['5', '4', ..] => WarehouseFault.Refused,

        // Redshift's own number for a serializable isolation violation ("Troubleshooting serializable isolation errors"
        // in its developer guide); the SQLSTATE that comes with it says "internal error".
        _ when e.MessageText.StartsWith("1023", StringComparison.Ordinal) => WarehouseFault.Conflict,

        // Its errors about values come as internal errors, too; which one it is stands in the detail.
        PostgresErrorCodes.InternalError when IsAboutAValue(e) => WarehouseFault.Refused,

        // All others (connection, resources, permissions, a table that is missing) are not the fault of the data.
        _ => WarehouseFault.Unavailable,
    };

    /// <summary>
    /// Redshift's codes for a value that does not fit, from "Load error reference" in its developer guide: 1204 out of range
    /// or too long, 1207 no digit, 1216 a line that is not valid, 1220 no UTF-8, 1224 and 1058 numeric overflow. Its 8001 is
    /// no such code, since a role that may not be taken, a file that is missing and a refusal by S3 have it as well: it counts
    /// with the one message that is about a value. So does a scan by Spectrum, which COPY from Parquet is.
    /// </summary>
    private static bool IsAboutAValue(PostgresException e) =>
        (e.Detail is { } detail && ValueCode().IsMatch(detail))
        || e.MessageText.StartsWith("Value too long for character type", StringComparison.Ordinal)
        || (e.MessageText.StartsWith("Spectrum Scan Error", StringComparison.Ordinal)
            && e.Detail?.Contains("The length of the data column", StringComparison.Ordinal) == true);

    [GeneratedRegex(@"^\s*code:\s+(1204|1207|1216|1220|1224|1058)\s*$", RegexOptions.Multiline)]
    private static partial Regex ValueCode();

    private static DateTimeOffset ParseTime(string text) =>
        DateTimeOffset.ParseExact(text, TimeFormat, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal);

    /// <summary>The reason may quote a library, and a library anything.</summary>
    private static string Storable(string reason) => reason[..Math.Min(reason.Length, ReasonLengthMax)].Replace('\0', '?');

    /// <summary>One transaction; the dialects differ in how rows get into it.</summary>
    protected abstract class Load(NpgsqlConnection connection, NpgsqlTransaction transaction, string dialect) : IWarehouseLoad
    {
        private int _staged;

        protected NpgsqlConnection Connection { get; } = connection;

        public abstract Task<IReadOnlyList<ParkedChange>> SettledAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken);

        public Task StageAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken) => CallAsync(async () =>
        {
            _staged = changes.Count + waiting.Count;
            await CopyAsync(changes, waiting, cancellationToken);
            return _staged;
        });

        public virtual Task<IReadOnlyList<int>> DropKnownAsync(CancellationToken cancellationToken) => CallAsync<IReadOnlyList<int>>(async () =>
        {
            await RunAsync("3-drop-known", cancellationToken);
            await using var query = Command("SELECT count(*) FROM staged_changes");
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

        public Task HoldBackAsync(CancellationToken cancellationToken) => CallAsync(() => RunAsync("4-hold-back", cancellationToken));

        public virtual Task InsertHistoryAsync(CancellationToken cancellationToken) => CallAsync(() => RunAsync("5-insert-history", cancellationToken));

        public virtual Task MergeCurrentAsync(CancellationToken cancellationToken) => CallAsync(async () =>
        {
            await RunAsync("6-choose-winners", cancellationToken);
            return await RunAsync("6-merge-current", cancellationToken);
        });

        public Task RecordLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken) => CallAsync(async () =>
        {
            await WriteLedgerAsync(files, cancellationToken);
            return files.Count;
        });

        public virtual Task CommitAsync(CancellationToken cancellationToken) => CallAsync(async () =>
        {
            await transaction.CommitAsync(cancellationToken);
            return 0;
        });

        public async ValueTask DisposeAsync()
        {
            // Rolls back what is not committed; on a broken connection the server does that.
            await transaction.DisposeAsync();
            await Connection.DisposeAsync();
        }

        /// <summary>Runs the statements of a file. Returns the number of rows that the last one touched.</summary>
        public virtual async Task<int> RunAsync(string file, CancellationToken cancellationToken)
        {
            var touched = 0;
            foreach (var statement in Sql.Read(dialect, file))
            {
                await using var command = Command(statement);
                touched = await command.ExecuteNonQueryAsync(cancellationToken);
            }

            return touched;
        }

        protected abstract Task CopyAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken);

        protected abstract Task WriteLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken);

        protected NpgsqlCommand Command(string statement) => new(statement, Connection, transaction);

        protected NpgsqlBatch Batch(IEnumerable<string> statements)
        {
            var batch = new NpgsqlBatch(Connection, transaction);
            foreach (var statement in statements)
            {
                batch.BatchCommands.Add(new NpgsqlBatchCommand(statement));
            }

            return batch;
        }
    }
}
