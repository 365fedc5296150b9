using System.Globalization;
using System.Runtime.CompilerServices;
using Npgsql;
using NpgsqlTypes;
using Pipeline.Core;

namespace Pipeline.Ops.Reconcile;

/// <summary>A row of <c>orders</c> with all that a difference can be told by.</summary>
/// <param name="IsDeleted">A tombstone.</param>
/// <param name="State">Its version and hash.</param>
/// <param name="Fields">As <see cref="OrderDigest.Fields"/>.</param>
internal sealed record WarehouseRow(bool IsDeleted, OrderState State, IReadOnlyList<string?> Fields);

/// <summary>What the warehouse has of the orders, hashed over there so that rows need not travel. Reads only.</summary>
internal sealed class WarehouseReader : IAsyncDisposable
{
    private readonly NpgsqlDataSource _database;

    /// <param name="connectionString">The warehouse's.</param>
    public WarehouseReader(string connectionString)
    {
        try
        {
            var settings = new NpgsqlConnectionStringBuilder(connectionString)
            {
                Timeout = 15,
                // One pass over all orders; ten million are a minute or two.
                CommandTimeout = 3_600,
                ApplicationName = "pipeline-ops",
                // A tool that only compares must not be able to change anything. Compiling a query takes longer than it saves.
                Options = "-c default_transaction_read_only=on -c jit=off -c work_mem=64MB",
            };
            Name = $"{settings.Host}/{settings.Database}";
            _database = NpgsqlDataSource.Create(settings);
        }
        catch (ArgumentException e)
        {
            throw new OperatorException($"The warehouse's connection string is not one: {e.Message}", e);
        }
    }

    /// <summary>Host and database.</summary>
    public string Name { get; }

    /// <summary>The digest of each bucket over all orders that are not removed: one statement, so one snapshot.</summary>
    public async Task<DigestSum[]> DigestsAsync(CancellationToken cancellationToken)
    {
        var digests = new DigestSum[OrderDigest.Buckets];
        await using var query = _database.CreateCommand($"""
            SELECT bucket, count(*), sum(high)::text, sum(low)::text
            FROM (
                SELECT bucket, {OrderDigest.HalvesSql("hash")}
                FROM (SELECT {OrderDigest.BucketSql} AS bucket, {OrderDigest.HashSql} AS hash FROM orders WHERE NOT is_deleted) hashed
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
        await using var query = _database.CreateCommand("SELECT order_id FROM orders GROUP BY order_id HAVING count(*) > 1 LIMIT $1");
        query.Parameters.Add(new() { Value = (long)max + 1 });
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
        await using var query = _database.CreateCommand($"""
            SELECT {OrderDigest.BucketSql} AS bucket, order_id, version, {OrderDigest.HashSql}
            FROM orders
            WHERE NOT is_deleted AND {OrderDigest.BucketSql} = ANY ($1)
            ORDER BY bucket
            """);
        query.Parameters.Add(new() { Value = buckets.Select(OrderDigest.BucketName).ToArray() });
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
    public async Task<ILookup<string, WarehouseRow>> OrdersAsync(IReadOnlyCollection<string> orderIds, CancellationToken cancellationToken)
    {
        var found = new List<(string OrderId, WarehouseRow Row)>();
        await using var query = _database.CreateCommand(
            $"SELECT order_id, is_deleted, version, {OrderDigest.HashSql}, {OrderDigest.FieldsSql} FROM orders WHERE order_id = ANY ($1)");
        query.Parameters.Add(new() { Value = orderIds.ToArray() });
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        while (await rows.ReadAsync(cancellationToken))
        {
            found.Add((rows.GetString(0), new WarehouseRow(
                rows.GetBoolean(1), new OrderState(rows.GetInt64(2), OrderDigest.ParseHash(rows.GetString(3))), rows.GetFieldValue<string?[]>(4))));
        }

        return found.ToLookup(row => row.OrderId, row => row.Row, StringComparer.Ordinal);
    }

    /// <summary>What the warehouse shows of these orders, as a change that could have left it behind; tombstones are left out.</summary>
    /// <param name="orderIds">Whose rows.</param>
    /// <param name="at">Becomes the time of the changes.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    public async Task<IReadOnlyDictionary<string, Change>> ShownAsync(
        IReadOnlyCollection<string> orderIds, DateTimeOffset at, CancellationToken cancellationToken)
    {
        var shown = new Dictionary<string, Change>(StringComparer.Ordinal);
        await using var query = _database.CreateCommand("""
            SELECT order_id, version, sequence_number, trace_parent, merchant_id, customer_id, status, currency, total_amount,
                   (extract(epoch FROM created_at) * 1000000)::bigint, (extract(epoch FROM updated_at) * 1000000)::bigint, document::text
            FROM orders
            WHERE NOT is_deleted AND order_id = ANY ($1)
            """);
        query.Parameters.Add(new() { Value = orderIds.ToArray() });
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
            : DateTimeOffset.UnixEpoch.AddTicks(rows.GetInt64(column) * TimeSpan.TicksPerMicrosecond);
    }

    /// <summary>The greatest sequence number that the warehouse knows of each of these orders, in whatever table.</summary>
    public async Task<IReadOnlyDictionary<string, SequenceNumber>> LastSequencesAsync(
        IReadOnlyCollection<string> orderIds, CancellationToken cancellationToken)
    {
        var last = new Dictionary<string, SequenceNumber>(StringComparer.Ordinal);
        await using var query = _database.CreateCommand("""
            SELECT order_id, max(sequence_number)
            FROM (
                SELECT order_id, sequence_number FROM order_changes WHERE order_id = ANY ($1)
                UNION ALL
                SELECT order_id, sequence_number FROM orders WHERE order_id = ANY ($1)
                UNION ALL
                SELECT order_id, last_removal FROM orders WHERE order_id = ANY ($1) AND last_removal IS NOT NULL
            ) known
            GROUP BY order_id
            """);
        query.Parameters.Add(new() { Value = orderIds.ToArray(), NpgsqlDbType = NpgsqlDbType.Array | NpgsqlDbType.Text });
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        while (await rows.ReadAsync(cancellationToken))
        {
            last.Add(rows.GetString(0), SequenceNumber.Parse(rows.GetString(1)));
        }

        return last;
    }

    public ValueTask DisposeAsync() => _database.DisposeAsync();
}
