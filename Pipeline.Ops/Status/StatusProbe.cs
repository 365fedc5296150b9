using System.Net.Http.Json;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;
using Npgsql;
using Pipeline.Core;

namespace Pipeline.Ops.Status;

/// <summary>
/// Asks each part of the pipeline where it stands. The parts are asked while the pipeline works, so the numbers of
/// different parts are of slightly different instants; a count that must be equal to another is for `reconcile`.
/// </summary>
/// <param name="dynamo">Where the table is.</param>
/// <param name="table">The table's name.</param>
/// <param name="s3">Where the bucket is.</param>
/// <param name="bucket">The bucket's name.</param>
/// <param name="warehouse">The warehouse's connection string, or null when nobody gave one.</param>
/// <param name="emulator">The Lambda emulator, or null where there is none (on AWS).</param>
internal sealed class StatusProbe(
    IAmazonDynamoDB dynamo, string table, IAmazonS3 s3, string bucket, string? warehouse, HttpClient? emulator)
{
    private sealed record Listed(string Key, string ETag, long Bytes, DateTimeOffset At);

    private sealed record WarehouseAnswer(WarehouseStatus Status, HashSet<(string Key, string ETag)> Ledger);

    public async Task<StatusReport> AskAsync(CancellationToken cancellationToken)
    {
        var unreachable = new SortedDictionary<string, string>(StringComparer.Ordinal);
        var table = TryAsync("table", CountItemsAsync);
        var stream = emulator is null ? Task.FromResult<StreamStatus?>(null) : TryAsync("stream", AskEmulatorAsync);
        var quarantine = TryAsync("quarantine", async token => Sum(await ListAsync(Names.QuarantinePrefix, token)));
        // First the files, then the ledger: a file that is loaded in between is not taken for one that is not.
        var files = await TryAsync("change_files", async token =>
            (await ListAsync(Names.ChangesPrefix, token)).FindAll(file => file.Key.EndsWith(".parquet", StringComparison.Ordinal)));
        var rows = await TryAsync("warehouse", AskWarehouseAsync);
        return new StatusReport
        {
            Table = await table,
            Stream = await stream,
            ChangeFiles = files is null ? null : Sum(files),
            Quarantine = await quarantine,
            Warehouse = rows?.Status,
            NotLoaded = files is null || rows is null ? null : Missing(files, rows.Ledger),
            Unreachable = unreachable,
        };

        async Task<T?> TryAsync<T>(string part, Func<CancellationToken, Task<T>> ask)
        {
            try
            {
                return await ask(cancellationToken);
            }
            catch (Exception error) when (error is AmazonServiceException or AmazonClientException or HttpRequestException or IOException
                or TimeoutException or NpgsqlException or NotReachableException or System.Text.Json.JsonException
                || (error is OperationCanceledException && !cancellationToken.IsCancellationRequested))
            {
                lock (unreachable)
                {
                    unreachable.Add(part, error.Message);
                }

                return default;
            }
        }
    }

    /// <summary>Reads the whole table, page by page, without its content: the count that DescribeTable gives is hours old.</summary>
    private async Task<TableStatus> CountItemsAsync(CancellationToken cancellationToken)
    {
        var request = new ScanRequest(table) { Select = Select.COUNT, Limit = OrderTable.PageItemsMax };
        long items = 0;
        do
        {
            var page = await dynamo.ScanAsync(request, cancellationToken);
            items += page.Count ?? 0;
            request.ExclusiveStartKey = page.LastEvaluatedKey;
        }
        while (request.ExclusiveStartKey is { Count: > 0 });

        return new TableStatus(table, items);
    }

    private async Task<StreamStatus> AskEmulatorAsync(CancellationToken cancellationToken)
    {
        var mappings = await emulator!.GetFromJsonAsync("/event-source-mappings", StatusJsonContext.Default.IReadOnlyListEmulatorMapping, cancellationToken) ?? [];
        return new StreamStatus(
            mappings.SelectMany(mapping => mapping.Shards).Select(shard => shard.IteratorAgeMs).DefaultIfEmpty().Max(),
            [.. mappings.Select(mapping => new MappingStatus(mapping.Function, mapping.State, mapping.Problem))]);
    }

    private async Task<List<Listed>> ListAsync(string prefix, CancellationToken cancellationToken)
    {
        var request = new ListObjectsV2Request { BucketName = bucket, Prefix = prefix };
        var listed = new List<Listed>();
        bool isTruncated;
        do
        {
            var page = await s3.ListObjectsV2Async(request, cancellationToken);
            listed.AddRange((page.S3Objects ?? []).Select(found =>
                new Listed(found.Key, found.ETag.Trim('"'), found.Size ?? 0, new DateTimeOffset(found.LastModified!.Value.ToUniversalTime()))));
            request.ContinuationToken = page.NextContinuationToken;
            isTruncated = page.IsTruncated ?? false;
        }
        while (isTruncated);

        return listed;
    }

    private async Task<WarehouseAnswer> AskWarehouseAsync(CancellationToken cancellationToken)
    {
        await using var connection = new NpgsqlConnection(ConnectionString());
        await connection.OpenAsync(cancellationToken);
        await using var counts = new NpgsqlCommand(
            """
            SELECT (SELECT count(*) FROM orders),
                   (SELECT count(*) FROM orders WHERE is_deleted),
                   (SELECT count(*) FROM order_changes),
                   (SELECT count(*) FROM waiting_changes),
                   (SELECT count(*) FROM load_failures),
                   -- The load of the newest change, by the end of the history's key: `compact` writes to the ledger, too.
                   newest.loaded_at,
                   (SELECT coalesce(sum(rows), 0)::bigint FROM load_ledger WHERE loaded_at = newest.loaded_at),
                   f.writes, f.p50, f.p95, f.p99
            FROM (
                SELECT count(*) AS writes,
                       percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS p50,
                       percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95,
                       percentile_cont(0.99) WITHIN GROUP (ORDER BY seconds) AS p99
                FROM (
                    SELECT greatest(CAST(extract(epoch FROM loaded_at - updated_at) AS double precision), 0) AS seconds
                    FROM order_changes
                    -- A removal's image has the time of the write before it, and a snapshot may be of a write long ago.
                    WHERE operation IN ('insert', 'modify') AND updated_at IS NOT NULL AND loaded_at > $1
                ) loaded
            ) f
            LEFT JOIN (SELECT loaded_at FROM order_changes ORDER BY sequence_number DESC LIMIT 1) newest ON true
            """,
            connection);
        counts.Parameters.Add(new NpgsqlParameter { Value = DateTimeOffset.UtcNow.AddHours(-1) });
        await using var row = await counts.ExecuteReaderAsync(cancellationToken);
        await row.ReadAsync(cancellationToken);
        var status = new WarehouseStatus(
            row.GetInt64(0), row.GetInt64(1), row.GetInt64(2), row.GetInt64(3), 0, row.GetInt64(4),
            await row.IsDBNullAsync(5, cancellationToken) ? null : row.GetFieldValue<DateTimeOffset>(5), row.GetInt64(6))
        {
            Freshness = row.GetInt64(7) is > 0 and var writes ? new FreshnessStatus(writes, row.GetDouble(8), row.GetDouble(9), row.GetDouble(10)) : null,
        };
        await row.DisposeAsync();

        var ledger = new HashSet<(string Key, string ETag)>();
        await using var loaded = new NpgsqlCommand("SELECT object_key, etag FROM load_ledger", connection);
        await using var entries = await loaded.ExecuteReaderAsync(cancellationToken);
        while (await entries.ReadAsync(cancellationToken))
        {
            ledger.Add((entries.GetString(0), entries.GetString(1)));
        }

        return new WarehouseAnswer(status with { FilesLoaded = ledger.Count }, ledger);
    }

    private static FilesStatus Sum(IReadOnlyCollection<Listed> files)
    {
        var newest = files.MaxBy(file => file.At);
        return new FilesStatus(files.Count, files.Sum(file => file.Bytes), newest?.Key, newest?.At);
    }

    private static NotLoadedStatus Missing(IEnumerable<Listed> files, HashSet<(string Key, string ETag)> ledger)
    {
        var missing = files.Where(file => !ledger.Contains((file.Key, file.ETag))).ToList();
        var oldest = missing.MinBy(file => file.At);
        return new NotLoadedStatus(missing.Count, oldest?.Key, oldest?.At);
    }

    private string ConnectionString()
    {
        try
        {
            return new NpgsqlConnectionStringBuilder(warehouse ?? throw new NotReachableException("There is no connection string: give one with --warehouse or ConnectionStrings__warehouse."))
            {
                Timeout = 5,
                // Counting reads whole tables.
                CommandTimeout = 60,
                ApplicationName = "pipeline-ops",
            }.ConnectionString;
        }
        catch (ArgumentException error)
        {
            throw new NotReachableException($"The connection string is not one: {error.Message}");
        }
    }

    private sealed class NotReachableException(string message) : Exception(message);
}
