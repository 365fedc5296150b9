using System.Globalization;
using System.Text;
using System.Text.Json;
using Amazon.S3;
using Npgsql;
using NpgsqlTypes;

namespace Pipeline.Bench;

/// <summary>
/// Baseline B's loader as most teams would write it: a file of JSON lines becomes upserts into one table with the orders as
/// they are now, in one transaction a file. It keeps no history, no ledger, no removals, and nobody stops a second one.
/// </summary>
internal sealed class BaselineLoader(NpgsqlDataSource database, IAmazonS3 s3, string bucket)
{
    private static readonly (string Name, NpgsqlDbType Type)[] Columns =
    [
        ("order_id", NpgsqlDbType.Text), ("version", NpgsqlDbType.Integer), ("event_name", NpgsqlDbType.Text), ("merchant_id", NpgsqlDbType.Text),
        ("customer_id", NpgsqlDbType.Text), ("status", NpgsqlDbType.Text), ("currency", NpgsqlDbType.Text), ("total_amount", NpgsqlDbType.Numeric),
        ("created_at", NpgsqlDbType.TimestampTz), ("updated_at", NpgsqlDbType.TimestampTz), ("document", NpgsqlDbType.Jsonb),
    ];

    private static readonly string Insert = $"INSERT INTO baseline_orders ({string.Join(", ", Columns.Select(column => column.Name))}) VALUES ";

    private static readonly string OnConflict =
        " ON CONFLICT (order_id) DO UPDATE SET "
        + string.Join(", ", Columns.Skip(1).Select(column => $"{column.Name} = EXCLUDED.{column.Name}"))
        + ", loaded_at = EXCLUDED.loaded_at"
        + " WHERE baseline_orders.version < EXCLUDED.version";

    public async Task CreateTableAsync(CancellationToken cancellationToken)
    {
        await using var command = database.CreateCommand("""
            CREATE TABLE baseline_orders (
                order_id text PRIMARY KEY, version integer NOT NULL, event_name text NOT NULL, merchant_id text NOT NULL, customer_id text NOT NULL,
                status text NOT NULL, currency text NOT NULL, total_amount numeric(18, 2) NOT NULL, created_at timestamptz NOT NULL,
                updated_at timestamptz NOT NULL, document jsonb NOT NULL, loaded_at timestamptz NOT NULL DEFAULT now())
            """);
        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    /// <summary>One statement a row, prepared once.</summary>
    /// <returns>The number of lines.</returns>
    public async Task<int> LoadRowByRowAsync(string key, CancellationToken cancellationToken)
    {
        var rows = await ReadAsync(key, cancellationToken);
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
        await using var command = new NpgsqlCommand(Insert + Values(0) + OnConflict, connection, transaction);
        foreach (var (_, type) in Columns)
        {
            command.Parameters.Add(new NpgsqlParameter { NpgsqlDbType = type });
        }

        await command.PrepareAsync(cancellationToken);
        foreach (var row in rows)
        {
            var values = ValuesOf(row);
            for (var i = 0; i < values.Length; i++)
            {
                command.Parameters[i].Value = values[i];
            }

            await command.ExecuteNonQueryAsync(cancellationToken);
        }

        await transaction.CommitAsync(cancellationToken);
        return rows.Count;
    }

    /// <summary>One statement a file. An order may be in a statement once, so the newest of each is taken before.</summary>
    /// <returns>The number of lines.</returns>
    public async Task<int> LoadAsBatchAsync(string key, CancellationToken cancellationToken)
    {
        var rows = await ReadAsync(key, cancellationToken);
        var newest = rows.GroupBy(row => row.OrderId, StringComparer.Ordinal).Select(order => order.MaxBy(row => row.Version)!).ToList();
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
        await using var command = new NpgsqlCommand(Insert + string.Join(", ", newest.Select((_, row) => Values(row))) + OnConflict, connection, transaction);
        foreach (var row in newest)
        {
            var values = ValuesOf(row);
            for (var i = 0; i < values.Length; i++)
            {
                command.Parameters.Add(new NpgsqlParameter { NpgsqlDbType = Columns[i].Type, Value = values[i] });
            }
        }

        await command.ExecuteNonQueryAsync(cancellationToken);
        await transaction.CommitAsync(cancellationToken);
        return rows.Count;
    }

    private async Task<List<BaselineRow>> ReadAsync(string key, CancellationToken cancellationToken)
    {
        using var response = await s3.GetObjectAsync(bucket, key, cancellationToken);
        using var lines = new StreamReader(response.ResponseStream, Encoding.UTF8);
        var rows = new List<BaselineRow>();
        while (await lines.ReadLineAsync(cancellationToken) is { } line)
        {
            rows.Add(JsonSerializer.Deserialize(line, BaselineJsonContext.Default.BaselineRow)!);
        }

        return rows;
    }

    private static string Values(int row) =>
        $"({string.Join(", ", Columns.Select((_, column) => string.Create(CultureInfo.InvariantCulture, $"${(row * Columns.Length) + column + 1}")))})";

    private static object[] ValuesOf(BaselineRow row) =>
    [
        row.OrderId, row.Version, row.EventName, row.MerchantId, row.CustomerId, row.Status, row.Currency, row.TotalAmount,
        row.CreatedAt.ToUniversalTime(), row.UpdatedAt.ToUniversalTime(), JsonSerializer.Serialize(row, BaselineJsonContext.Default.BaselineRow),
    ];
}
