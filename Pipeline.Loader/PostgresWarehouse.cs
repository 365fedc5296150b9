using Npgsql;
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

    /// <summary>
    /// A load writes each wide row where it stays, straight from here: into the history, and those that win into
    /// <c>orders</c>. The staging table has only the keys that something has to be asked about.
    /// </summary>
    private sealed class PostgresLoad(NpgsqlConnection connection, NpgsqlTransaction transaction) : Load(connection, transaction, Dialect)
    {
        /// <summary>
        /// So many staged rows may have other plans than a few, and the planner knows nothing of a temporary table before it
        /// is analyzed. For fewer it would cost more than the load, and leave dead rows in the catalogue several times a second.
        /// </summary>
        private const int AnalyzeFrom = 2_000;

        private IReadOnlyList<Change> _changes = [];
        private StagedKeys _keys = StagedKeys.None;
        private IReadOnlyList<int> _kept = [];

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

        public override Task<IReadOnlyList<int>> DropKnownAsync(CancellationToken cancellationToken) => CallAsync(async () =>
        {
            var known = new HashSet<int>();
            if (_keys.MayBeKnown)
            {
                var statements = Sql.Read(Dialect, "3-drop-known");
                await using var batch = Batch(statements);
                await using var rows = await batch.ExecuteReaderAsync(cancellationToken);
                while (await rows.ReadAsync(cancellationToken))
                {
                    known.Add((int)rows.GetInt64(0));
                }
            }

            return _kept = known.Count == 0 ? _keys.Distinct : [.. _keys.Distinct.Where(row => !known.Contains(row))];
        });

        public override Task InsertHistoryAsync(CancellationToken cancellationToken) => CallAsync(() => CopyAsync(
            "5-insert-history",
            [.. _kept.Where(row => row < _changes.Count)],
            (rows, row) =>
            {
                var change = _changes[row];
                rows.BeginRow(15);
                rows.Write(change.OrderId);
                rows.Write(change.Version);
                rows.Write(change.SequenceNumber.ToString());
                WriteRest(rows, change);
            },
            cancellationToken));

        public override Task MergeCurrentAsync(CancellationToken cancellationToken) => CallAsync(async () =>
        {
            await RunAsync("6-choose-winners", cancellationToken);
            await RunAsync("6-merge-current", cancellationToken);

            var winners = new List<(Change Change, string? LastRemoval)>();
            await using (var query = Command("SELECT row_no, last_removal FROM staged_winners WHERE row_no IS NOT NULL"))
            await using (var rows = await query.ExecuteReaderAsync(cancellationToken))
            {
                while (await rows.ReadAsync(cancellationToken))
                {
                    winners.Add((_changes[(int)rows.GetInt64(0)], rows.IsDBNull(1) ? null : rows.GetString(1)));
                }
            }

            return await CopyAsync(
                "6-copy-current",
                winners,
                static (rows, winner) =>
                {
                    var change = winner.Change;
                    rows.BeginRow(15);
                    rows.Write(change.OrderId);
                    rows.Write(change.Version);
                    rows.Write(change.SequenceNumber.ToString());
                    rows.Write(change.Operation == Operation.Remove);
                    rows.Write(change.MerchantId);
                    rows.Write(change.CustomerId);
                    rows.Write(change.Status is { } status ? OrderStatusText.Of(status) : null);
                    rows.Write(change.Currency);
                    rows.Write(change.TotalAmount);
                    rows.Write(change.CreatedAt);
                    rows.Write(change.UpdatedAt);
                    rows.Write(change.ChangedAt);
                    rows.Write(change.TraceParent);
                    rows.Write(change.Document);
                    rows.Write(winner.LastRemoval);
                },
                cancellationToken);
        });

        /// <summary>All statements of a file at once: each round trip would be a part of a change's way to the warehouse.</summary>
        public override async Task<int> RunAsync(string file, CancellationToken cancellationToken)
        {
            await using var batch = Batch(Sql.Read(Dialect, file));
            return await batch.ExecuteNonQueryAsync(cancellationToken);
        }

        protected override async Task CopyAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken)
        {
            _changes = changes;
            await using (var query = Command("SELECT (SELECT max(sequence_number) FROM order_changes), EXISTS (SELECT 1 FROM waiting_changes)"))
            await using (var row = await query.ExecuteReaderAsync(cancellationToken))
            {
                await row.ReadAsync(cancellationToken);
                _keys = StagedKeys.Of(changes, waiting, row.IsDBNull(0) ? null : SequenceNumber.Parse(row.GetString(0)), row.GetBoolean(1));
            }

            await CopyAsync(
                "2-stage",
                _keys.Rows,
                (rows, row) =>
                {
                    var waits = row >= changes.Count;
                    var change = waits ? waiting[row - changes.Count] : changes[row];
                    rows.BeginRow(17);
                    rows.Write((long)row);
                    rows.Write(waits);
                    rows.Write(change.OrderId);
                    rows.Write(change.Version);
                    rows.Write(change.SequenceNumber.ToString());
                    if (waits)
                    {
                        WriteRest(rows, change);
                    }
                    else
                    {
                        rows.WriteNull();
                        rows.Write(ChangeFile.NameOf(change.Operation));
                        rows.WriteNulls(10);
                    }
                },
                cancellationToken);
            if (_keys.Rows.Count >= AnalyzeFrom)
            {
                await RunAsync("3-analyze", cancellationToken);
            }
        }

        protected override async Task WriteLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
        {
            await using var batch = Batch(Sql.Read(Dialect, "7-ledger"));
            foreach (NpgsqlBatchCommand command in batch.BatchCommands)
            {
                command.Parameters.AddWithValue("keys", files.Select(f => f.File.Key).ToArray());
                command.Parameters.AddWithValue("etags", files.Select(f => f.File.ETag).ToArray());
                command.Parameters.AddWithValue("rows", files.Select(f => (long)f.Changes.Count).ToArray());
                command.Parameters.AddWithValue("bytes", files.Select(f => f.File.Bytes).ToArray());
            }

            await batch.ExecuteNonQueryAsync(cancellationToken);
        }

        /// <summary>What the history and the waiting changes have behind the key.</summary>
        private static void WriteRest(CopyRows rows, Change change)
        {
            rows.Write(change.EventId);
            rows.Write(ChangeFile.NameOf(change.Operation));
            rows.Write(change.ChangedAt);
            rows.Write(change.TraceParent);
            rows.Write(change.MerchantId);
            rows.Write(change.CustomerId);
            rows.Write(change.Status is { } status ? OrderStatusText.Of(status) : null);
            rows.Write(change.Currency);
            rows.Write(change.TotalAmount);
            rows.Write(change.CreatedAt);
            rows.Write(change.UpdatedAt);
            rows.Write(change.Document);
        }

        /// <returns>The number of rows.</returns>
        private async Task<int> CopyAsync<T>(string file, IReadOnlyCollection<T> items, Action<CopyRows, T> write, CancellationToken cancellationToken)
        {
            if (items.Count == 0)
            {
                return 0;
            }

            // The stream is not disposed when something fails, which would end the COPY as if all rows had come: the
            // rollback cancels it.
            var stream = await Connection.BeginRawBinaryCopyAsync(Sql.Read(Dialect, file).Single(), cancellationToken);
            using var rows = new CopyRows();
            foreach (var item in items)
            {
                write(rows, item);
                if (rows.IsFull)
                {
                    await rows.FlushAsync(stream, cancellationToken);
                }
            }

            rows.End();
            await rows.FlushAsync(stream, cancellationToken);
            await stream.DisposeAsync();
            return items.Count;
        }
    }
}
