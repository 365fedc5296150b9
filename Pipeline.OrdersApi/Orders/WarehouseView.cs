using Npgsql;

namespace Pipeline.OrdersApi.Orders;

/// <summary>What the warehouse shows of an order.</summary>
/// <param name="Version">Of its row; of the removed order for one that is removed.</param>
/// <param name="IsDeleted">It shows the order's removal.</param>
/// <param name="MerchantId">Whose order it was.</param>
/// <param name="CreatedAt">When the life began that it shows.</param>
/// <param name="Change">The first change of this life with the version that was asked for, or a later one; null while there is none.</param>
internal sealed record ShownOrder(long Version, bool IsDeleted, string? MerchantId, DateTimeOffset? CreatedAt, LoadedChange? Change);

/// <param name="WrittenAt">The change's <c>updated_at</c>, by the API's clock.</param>
/// <param name="LoadedAt">When its load began, by the warehouse's clock.</param>
internal sealed record LoadedChange(DateTimeOffset? WrittenAt, DateTimeOffset LoadedAt);

/// <summary>
/// The warehouse, asked and never written. It is optional: without a connection string the API serves everything but the
/// question when a version is to be seen there.
/// </summary>
internal sealed class WarehouseView(NpgsqlDataSource? database) : IAsyncDisposable
{
    public const string ConnectionStringName = "warehouse";

    /// <summary>Connections of one process; each is held for the milliseconds of a query, also by those who wait.</summary>
    public const int ConnectionsMax = 10;

    /// <summary>To connect, for a connection that is free, and for a query that finds one row by its key.</summary>
    private const int TimeoutSeconds = 3;

    public bool IsThere => database is not null;

    /// <exception cref="InvalidOperationException">The connection string is none; the message says how to mend it, without showing it.</exception>
    public static WarehouseView Of(string? connectionString)
    {
        if (string.IsNullOrWhiteSpace(connectionString))
        {
            return new WarehouseView(null);
        }

        try
        {
            var settings = new NpgsqlConnectionStringBuilder(connectionString)
            {
                ApplicationName = "orders-api",
                MaxPoolSize = ConnectionsMax,
                Timeout = TimeoutSeconds,
                CommandTimeout = TimeoutSeconds,
            };
            // Behind what the operator has there (a search_path, say): the last one counts.
            settings.Options = $"{settings.Options} -c default_transaction_read_only=on -c jit=off".TrimStart();
            return new WarehouseView(NpgsqlDataSource.Create(settings));
        }
        catch (ArgumentException)
        {
            throw new InvalidOperationException(
                $"The setting ConnectionStrings__{ConnectionStringName} is no connection string of PostgreSQL. Leave it out, or set it to one "
                + "like Host=127.0.0.1;Port=15432;Database=warehouse;Username=postgres.");
        }
    }

    /// <param name="orderId">The order.</param>
    /// <param name="minVersion">The version that is asked for.</param>
    /// <param name="cancellationToken">Ends the query.</param>
    /// <returns>Null when the warehouse has never had the order.</returns>
    /// <exception cref="NpgsqlException">The warehouse does not answer.</exception>
    public async Task<ShownOrder?> FindAsync(string orderId, long minVersion, CancellationToken cancellationToken)
    {
        // Changes of an earlier life do not count; lives are told by when they began.
        await using var query = database!.CreateCommand("""
            SELECT o.version, o.is_deleted, o.merchant_id, o.created_at, c.updated_at, c.loaded_at
            FROM orders o
            LEFT JOIN LATERAL (
                SELECT updated_at, loaded_at
                FROM order_changes
                WHERE order_id = o.order_id AND version >= $2 AND operation <> 'remove' AND created_at IS NOT DISTINCT FROM o.created_at
                ORDER BY version, sequence_number
                LIMIT 1
            ) c ON true
            WHERE o.order_id = $1
            """);
        query.Parameters.Add(new() { Value = orderId });
        query.Parameters.Add(new() { Value = minVersion });
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        if (!await rows.ReadAsync(cancellationToken))
        {
            return null;
        }

        async Task<T?> ValueAsync<T>(int column)
            where T : struct => await rows.IsDBNullAsync(column, cancellationToken) ? null : rows.GetFieldValue<T>(column);

        return new ShownOrder(
            rows.GetInt64(0),
            rows.GetBoolean(1),
            await rows.IsDBNullAsync(2, cancellationToken) ? null : rows.GetString(2),
            await ValueAsync<DateTimeOffset>(3),
            await ValueAsync<DateTimeOffset>(5) is { } loadedAt ? new LoadedChange(await ValueAsync<DateTimeOffset>(4), loadedAt) : null);
    }

    public ValueTask DisposeAsync() => database?.DisposeAsync() ?? ValueTask.CompletedTask;
}
