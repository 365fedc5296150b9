using System.Data;
using System.Globalization;
using System.Runtime.CompilerServices;
using Npgsql;
using Pipeline.Core;
using Pipeline.Loader;

namespace Pipeline.Ops.Reconcile;

/// <summary>A row of <c>orders</c> with all that a difference can be told by.</summary>
/// <param name="IsDeleted">A tombstone.</param>
/// <param name="State">Its version and hash.</param>
/// <param name="Fields">As <see cref="OrderDigest.Fields"/>.</param>
internal sealed record WarehouseRow(bool IsDeleted, OrderState State, IReadOnlyList<string?> Fields);

/// <summary>All that a repair of some orders has to know of the warehouse, as it was at one moment.</summary>
/// <param name="Rows">All rows, tombstones too.</param>
/// <param name="Shown">What is shown, as a change that could have left it behind; without tombstones.</param>
/// <param name="Last">The greatest sequence number that is known of each order, in whatever table.</param>
internal sealed record WarehouseMoment(
    ILookup<string, WarehouseRow> Rows, IReadOnlyDictionary<string, Change> Shown, IReadOnlyDictionary<string, SequenceNumber> Last);

/// <summary>
/// What the warehouse has of the orders, hashed over there so that rows need not travel. Reads only. The statements are such as both
/// PostgreSQL and Redshift have; lists come as parameters one by one, since Redshift has no arrays.
/// </summary>
internal sealed class WarehouseReader : IAsyncDisposable
{
    private const string TimeFormat = "yyyy-MM-dd HH:mm:ss.ffffff";

    /// <summary>One pass over all orders; ten million are a minute or two.</summary>
    private const int TimeoutSeconds = 3_600;

    /// <summary>Of one statement; the protocol takes 65,535, and Redshift 32,767.</summary>
    private const int ParametersMax = 1_000;

    private readonly NpgsqlDataSource _database;
    private readonly OrderDigestSql _sql;

    /// <param name="connectionString">The warehouse's; with <c>Server Compatibility Mode=Redshift</c> it is one in Redshift.</param>
    public WarehouseReader(string connectionString)
    {
        try
        {
            var isRedshift = RedshiftWarehouse.IsMeant(connectionString);
            _sql = isRedshift ? OrderDigestSql.Redshift : OrderDigestSql.Postgres;
            _database = isRedshift ? RedshiftWarehouse.DataSource(connectionString, password: null) : Postgres(connectionString);
            var settings = new NpgsqlConnectionStringBuilder(_database.ConnectionString);
            Name = $"{settings.Host}/{settings.Database}";
        }
        catch (ArgumentException e)
        {
            throw new OperatorException($"The warehouse's connection string is not one: {e.Message}", e);
        }
    }

    /// <summary>Host and database.</summary>
    public string Name { get; }

    private static NpgsqlDataSource Postgres(string connectionString) => NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(connectionString)
    {
        Timeout = 15,
        ApplicationName = "pipeline-ops",
        // A tool that only compares must not be able to change anything. Compiling a query takes longer than it saves.
        Options = "-c default_transaction_read_only=on -c jit=off -c work_mem=64MB",
    });

    private NpgsqlCommand Command(string sql, IEnumerable<string>? parameters = null, NpgsqlConnection? connection = null)
    {
        var command = connection is null ? _database.CreateCommand(sql) : new NpgsqlCommand(sql, connection);
        command.CommandTimeout = TimeoutSeconds;
        foreach (var value in parameters ?? [])
        {
            command.Parameters.Add(new() { Value = value });
        }

        return command;
    }

    private static string Placeholders(int count) => string.Join(", ", Enumerable.Range(1, count).Select(n => $"${n}"));

    /// <summary>The ids of the keys that the personal data in the newest orders is protected with.</summary>
    public async Task<IReadOnlySet<string>> PersonalDataKeysAsync(CancellationToken cancellationToken)
    {
        // While a new key comes into use the newest orders have it, all others the old one.
        const int Newest = 1_000;

        var keys = new HashSet<string>(StringComparer.Ordinal);
        await using var query = Command(string.Create(
            CultureInfo.InvariantCulture,
            $"SELECT {_sql.Document} FROM orders WHERE NOT is_deleted AND updated_at IS NOT NULL ORDER BY updated_at DESC LIMIT {Newest}"));
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        while (await rows.ReadAsync(cancellationToken))
        {
            keys.UnionWith(PersonalData.KeyIdsIn(rows.GetString(0)));
        }

        return keys;
    }

    /// <summary>The digest of each bucket over all orders that are not removed: one statement, so one snapshot.</summary>
    public async Task<DigestSum[]> DigestsAsync(CancellationToken cancellationToken)
    {
        var digests = new DigestSum[OrderDigest.Buckets];
        await using var query = Command($"""
            SELECT bucket, count(*), CAST(sum(high) AS varchar(40)), CAST(sum(low) AS varchar(40))
            FROM (
                SELECT bucket, {_sql.High} AS high, {_sql.Low} AS low
                FROM (SELECT {OrderDigestSql.Bucket} AS bucket, {_sql.Hash} AS hash FROM orders WHERE NOT is_deleted) hashed
            ) halved
            GROUP BY bucket
            """);
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        while (await rows.ReadAsync(cancellationToken))
        {
            digests[int.Parse(rows.GetString(0), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture)] = new DigestSum(
                rows.GetInt64(1),
                UInt128.Parse(rows.GetString(2), CultureInfo.InvariantCulture),
                UInt128.Parse(rows.GetString(3), CultureInfo.InvariantCulture));
        }

        return digests;
    }

    /// <summary>
    /// Orders that have several rows, tombstones counted: the digest of the others cannot show a tombstone beside a live row.
    /// Redshift enforces no key, so this can be.
    /// </summary>
    /// <param name="max">More than these are an error: there is more wrong than single orders.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    public async Task<IReadOnlySet<string>> DoubledAsync(int max, CancellationToken cancellationToken)
    {
        var doubled = new HashSet<string>(StringComparer.Ordinal);
        await using var query = Command(string.Create(
            CultureInfo.InvariantCulture, $"SELECT order_id FROM orders GROUP BY order_id HAVING count(*) > 1 LIMIT {(long)max + 1}"));
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        while (await rows.ReadAsync(cancellationToken))
        {
            doubled.Add(rows.GetString(0));
        }

        return doubled.Count <= max
            ? doubled
            : throw new OperatorException($"More than {max} orders have several rows in the warehouse. Rebuild it (docs/reconcile.md).");
    }

    /// <summary>Each order of some buckets that is not removed, in the order of the buckets.</summary>
    public async IAsyncEnumerable<(int Bucket, string OrderId, OrderState State)> RowsAsync(
        IEnumerable<int> buckets, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        // The names are four hexadecimal digits each; as parameters they would be more than a statement may have.
        await using var query = Command($"""
            SELECT {OrderDigestSql.Bucket} AS bucket, order_id, version, {_sql.Hash}
            FROM orders
            WHERE NOT is_deleted AND {OrderDigestSql.Bucket} IN ({string.Join(", ", buckets.Select(bucket => $"'{OrderDigest.BucketName(bucket)}'"))})
            ORDER BY bucket
            """);
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        while (await rows.ReadAsync(cancellationToken))
        {
            yield return (
                int.Parse(rows.GetString(0), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture),
                rows.GetString(1),
                new OrderState(rows.GetInt64(2), OrderDigest.ParseHash(rows.GetString(3))));
        }
    }

    /// <summary>All rows of these orders, tombstones too.</summary>
    public Task<ILookup<string, WarehouseRow>> OrdersAsync(IReadOnlyCollection<string> orderIds, CancellationToken cancellationToken) =>
        OrdersAsync(orderIds, null, cancellationToken);

    /// <summary>Rows, what they show and the sequence numbers of these orders, all of the same moment: a load is in all of them or in none.</summary>
    /// <param name="orderIds">Whose.</param>
    /// <param name="at">Becomes the time of the changes.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    public async Task<WarehouseMoment> MomentAsync(IReadOnlyCollection<string> orderIds, DateTimeOffset at, CancellationToken cancellationToken)
    {
        // One snapshot for all statements; in Redshift every transaction has that.
        await using var connection = await _database.OpenConnectionAsync(cancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(IsolationLevel.RepeatableRead, cancellationToken);
        return new WarehouseMoment(
            await OrdersAsync(orderIds, connection, cancellationToken),
            await ShownAsync(orderIds, at, connection, cancellationToken),
            await LastSequencesAsync(orderIds, connection, cancellationToken));
    }

    /// <summary>Which of these change files are loaded.</summary>
    public async Task<IReadOnlySet<string>> LoadedAsync(IReadOnlyCollection<string> keys, CancellationToken cancellationToken)
    {
        var loaded = new HashSet<string>(StringComparer.Ordinal);
        foreach (var chunk in keys.Chunk(ParametersMax))
        {
            await using var query = Command($"SELECT object_key FROM load_ledger WHERE object_key IN ({Placeholders(chunk.Length)})", chunk);
            await using var rows = await query.ExecuteReaderAsync(cancellationToken);
            while (await rows.ReadAsync(cancellationToken))
            {
                loaded.Add(rows.GetString(0));
            }
        }

        return loaded;
    }

    /// <summary>The sequence numbers of the changes of these orders that wait behind a parked one.</summary>
    public async Task<ILookup<string, SequenceNumber>> WaitingAsync(IReadOnlyCollection<string> orderIds, CancellationToken cancellationToken)
    {
        var waiting = new List<(string OrderId, SequenceNumber SequenceNumber)>();
        foreach (var chunk in orderIds.Chunk(ParametersMax))
        {
            await using var query = Command($"SELECT order_id, sequence_number FROM waiting_changes WHERE order_id IN ({Placeholders(chunk.Length)})", chunk);
            await using var rows = await query.ExecuteReaderAsync(cancellationToken);
            while (await rows.ReadAsync(cancellationToken))
            {
                waiting.Add((rows.GetString(0), SequenceNumber.Parse(rows.GetString(1))));
            }
        }

        return waiting.ToLookup(change => change.OrderId, change => change.SequenceNumber, StringComparer.Ordinal);
    }

    private async Task<ILookup<string, WarehouseRow>> OrdersAsync(
        IReadOnlyCollection<string> orderIds, NpgsqlConnection? connection, CancellationToken cancellationToken)
    {
        var found = new List<(string OrderId, WarehouseRow Row)>();
        await using var query = Command(
            $"SELECT order_id, is_deleted, version, {_sql.Hash}, {string.Join(", ", _sql.Fields)} FROM orders WHERE order_id IN ({Placeholders(orderIds.Count)})",
            orderIds,
            connection);
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        while (await rows.ReadAsync(cancellationToken))
        {
            const int FirstField = 4;
            var fields = Enumerable.Range(FirstField, _sql.Fields.Count).Select(column => rows.IsDBNull(column) ? null : rows.GetString(column)).ToList();
            found.Add((rows.GetString(0), new WarehouseRow(rows.GetBoolean(1), new OrderState(rows.GetInt64(2), OrderDigest.ParseHash(rows.GetString(3))), fields)));
        }

        return found.ToLookup(row => row.OrderId, row => row.Row, StringComparer.Ordinal);
    }

    private async Task<IReadOnlyDictionary<string, Change>> ShownAsync(
        IReadOnlyCollection<string> orderIds, DateTimeOffset at, NpgsqlConnection connection, CancellationToken cancellationToken)
    {
        var shown = new Dictionary<string, Change>(StringComparer.Ordinal);
        await using var query = Command(
            $"""
            SELECT order_id, version, sequence_number, trace_parent, merchant_id, customer_id, status, currency, total_amount,
                   to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
                   {_sql.Document}
            FROM orders
            WHERE NOT is_deleted AND order_id IN ({Placeholders(orderIds.Count)})
            """,
            orderIds,
            connection);
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        while (await rows.ReadAsync(cancellationToken))
        {
            shown[rows.GetString(0)] = new Change
            {
                OrderId = rows.GetString(0),
                Version = rows.GetInt64(1),
                SequenceNumber = SequenceNumber.Parse(rows.GetString(2)),
                EventId = "",
                Operation = Operation.Snapshot,
                ChangedAt = at,
                TraceParent = Text(3),
                MerchantId = Text(4),
                CustomerId = Text(5),
                Status = OrderStatusText.TryParse(Text(6), out var status) ? status : null,
                Currency = Text(7),
                TotalAmount = rows.IsDBNull(8) ? null : rows.GetDecimal(8),
                CreatedAt = Time(9),
                UpdatedAt = Time(10),
                Document = rows.GetString(11),
            };
        }

        return shown;

        string? Text(int column) => rows.IsDBNull(column) ? null : rows.GetString(column);

        DateTimeOffset? Time(int column) => rows.IsDBNull(column)
            ? null
            : DateTimeOffset.ParseExact(rows.GetString(column), TimeFormat, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal);
    }

    private async Task<IReadOnlyDictionary<string, SequenceNumber>> LastSequencesAsync(
        IReadOnlyCollection<string> orderIds, NpgsqlConnection connection, CancellationToken cancellationToken)
    {
        var last = new Dictionary<string, SequenceNumber>(StringComparer.Ordinal);
        await using var query = Command(
            $"""
            SELECT order_id, max(sequence_number)
            FROM (
                SELECT order_id, sequence_number FROM order_changes WHERE order_id IN ({Placeholders(orderIds.Count)})
                UNION ALL
                SELECT order_id, sequence_number FROM orders WHERE order_id IN ({Placeholders(orderIds.Count)})
                UNION ALL
                SELECT order_id, last_removal FROM orders WHERE order_id IN ({Placeholders(orderIds.Count)}) AND last_removal IS NOT NULL
            ) known
            GROUP BY order_id
            """,
            orderIds,
            connection);
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        while (await rows.ReadAsync(cancellationToken))
        {
            last.Add(rows.GetString(0), SequenceNumber.Parse(rows.GetString(1)));
        }

        return last;
    }

    public ValueTask DisposeAsync() => _database.DisposeAsync();
}
