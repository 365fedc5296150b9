using Npgsql;
using NpgsqlTypes;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>The warehouse in PostgreSQL: rows come through the connection, lists as arrays.</summary>
public sealed class PostgresWarehouse(NpgsqlDataSource database) : SqlWarehouse(database, Dialect)
{
    private const string Dialect = "postgres";

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

    public override Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken) =>
        CallAsync(async () =>
        {
            await using var query = Database.CreateCommand(Sql.Read(Dialect, "releasable").Single());
            AddParked(query, parked);
            query.Parameters.AddWithValue("max", max);
            return await ReadChangesAsync(query, cancellationToken);
        });

    protected override Load CreateLoad(NpgsqlConnection connection, NpgsqlTransaction transaction) => new PostgresLoad(connection, transaction);

    private static void AddParked(NpgsqlCommand command, IReadOnlyCollection<ParkedChange> parked)
    {
        command.Parameters.AddWithValue("orders", parked.Select(p => p.OrderId).ToArray());
        command.Parameters.AddWithValue("sequences", parked.Select(p => p.SequenceNumber.ToString()).ToArray());
        command.Parameters.AddWithValue("versions", parked.Select(p => p.Version ?? UnknownVersion).ToArray());
    }

    private sealed class PostgresLoad(NpgsqlConnection connection, NpgsqlTransaction transaction) : Load(connection, transaction, Dialect)
    {
        /// <summary>A load of many rows that is to be stopped is stopped within some milliseconds.</summary>
        private const int CancellationCheckRows = 1_000;

        public override Task<IReadOnlyList<ParkedChange>> SettledAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken) =>
            CallAsync<IReadOnlyList<ParkedChange>>(async () =>
            {
                var given = parked.ToList();
                var settled = new List<ParkedChange>();
                await using var query = Command(Sql.Read(Dialect, "settled").Single());
                AddParked(query, given);
                await using var rows = await query.ExecuteReaderAsync(cancellationToken);
                while (await rows.ReadAsync(cancellationToken))
                {
                    settled.Add(given[(int)rows.GetInt64(0) - 1]);
                }

                return settled;
            });

        protected override async Task CopyAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken)
        {
            // The rows are written without await: the importer fills a buffer, and only its flushes do I/O. A state
            // machine for each of seventeen values of each row costs more than the rest of the copy.
            await using var copy = await Connection.BeginBinaryImportAsync(Sql.Read(Dialect, "2-stage").Single(), cancellationToken);
            var row = 0;
            foreach (var change in changes.Concat(waiting))
            {
                if (row % CancellationCheckRows == 0)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                }

                copy.StartRow();
                copy.Write((long)row, NpgsqlDbType.Bigint);
                copy.Write(row >= changes.Count, NpgsqlDbType.Boolean);
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
                row++;
            }

            await copy.CompleteAsync(cancellationToken);
            await copy.DisposeAsync();
            await RunAsync("3-analyze", cancellationToken);
        }

        protected override async Task WriteLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
        {
            foreach (var statement in Sql.Read(Dialect, "7-ledger"))
            {
                await using var command = Command(statement);
                command.Parameters.AddWithValue("keys", files.Select(f => f.File.Key).ToArray());
                command.Parameters.AddWithValue("etags", files.Select(f => f.File.ETag).ToArray());
                command.Parameters.AddWithValue("rows", files.Select(f => (long)f.Changes.Count).ToArray());
                command.Parameters.AddWithValue("bytes", files.Select(f => f.File.Bytes).ToArray());
                await command.ExecuteNonQueryAsync(cancellationToken);
            }
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
}
