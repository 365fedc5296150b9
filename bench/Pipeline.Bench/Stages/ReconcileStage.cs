using System.Globalization;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using Pipeline.Core;
using Pipeline.Loader;
using Pipeline.Ops;
using Pipeline.Ops.Backfill;
using Pipeline.Ops.Reconcile;
using Pipeline.Ops.Replay;

namespace Pipeline.Bench;

/// <summary>
/// `reconcile` over a table and a warehouse with the same orders, against reading both sides once, one page after the other, with no work
/// done: a Scan of the table, and a SELECT of what is compared.
/// </summary>
internal static class ReconcileStage
{
    private const string Name = "reconcile";

    /// <summary>Of BatchWriteItem (API reference).</summary>
    private const int ItemsOfBatch = 25;
    private const int Fillers = 8;

    /// <summary>As the command's default.</summary>
    private const int Segments = 4;

    public static Stage Stage { get; } = new(
        Name,
        "Comparing table and warehouse, against one plain sequential read of both sides. --orders says how many there are.",
        QuickSeconds: 15,
        FullSeconds: 200,
        RunAsync);

    private static async Task RunAsync(StageContext context, CancellationToken cancellationToken)
    {
        var servers = await context.ServersAsync(cancellationToken);
        var orders = context.Orders;
        using var received = new ReceivedBytes();
        using var dynamo = OrderTables.Client(servers, Name);
        using var s3 = servers.S3Client();
        await OrderTables.CreateAsync(dynamo, cancellationToken);
        await s3.PutBucketAsync($"bench-{Name}", cancellationToken);
        await servers.CreateDatabaseAsync(Name, "template0", cancellationToken);
        var connectionString = servers.ConnectionString(Name);
        await using var database = NpgsqlDataSource.Create(PostgresWarehouse.ConnectionString(connectionString));
        await new Migrator(database, NullLogger<Migrator>.Instance).MigrateAsync(cancellationToken);

        await FillTableAsync(context, dynamo, orders, cancellationToken);
        await FillWarehouseAsync(context, dynamo, new S3ObjectStore(s3, $"bench-{Name}"), database, orders, cancellationToken);

        var temporary = context.NewFolder(Name);
        var pairs = await Rounds.RunAsync(
            Rounds.Min,
            () => Rounds.MillisecondsAsync(async () =>
            {
                await using var warehouse = new WarehouseReader(connectionString);
                var certificate = await new Reconciliation(
                    new OrderTable(dynamo, OrderTables.Orders, new ReadBudget(null, TimeProvider.System)), received, warehouse,
                    new S3ObjectStore(s3, $"bench-{Name}"), Inputs.Protector,
                    new ReconcileOptions(Segments, TimeSpan.FromSeconds(1), ListMax: 10, Repair: false, temporary), TimeProvider.System).RunAsync(cancellationToken);
                Check(certificate.Result == Verdict.Equal && certificate.Table.Orders == orders, certificate.ToJson());
            }),
            () => Rounds.MillisecondsAsync(async () =>
            {
                var items = await ScanAsync(dynamo, cancellationToken);
                var rows = await SelectAsync(database, cancellationToken);
                Check(items == orders && rows == orders, $"{items} items and {rows} rows were read");
            }),
            share => context.Progress("comparing", 0.5 + (0.5 * share)),
            cancellationToken);

        context.Add(Row.Of(
            string.Create(CultureInfo.InvariantCulture, $"reconcile, {orders:N0} orders on both sides"), "one plain sequential read of both sides", "ms", pairs, Goal.AtMost(1.3),
            await ProfileAsync(dynamo, database, connectionString, cancellationToken) + " --orders 1000000 is the size of the goal, and takes half an hour."));
    }

    /// <summary>The parts of both sides, each once by itself.</summary>
    private static async Task<string> ProfileAsync(
        AmazonDynamoDBClient dynamo, NpgsqlDataSource database, string connectionString, CancellationToken cancellationToken)
    {
        await using var warehouse = new WarehouseReader(connectionString);
        var table = new OrderTable(dynamo, OrderTables.Orders, new ReadBudget(null, TimeProvider.System));
        var scan = await Rounds.MillisecondsAsync(() => ScanAsync(dynamo, cancellationToken));
        var segments = await Rounds.MillisecondsAsync(() => Parallel.ForAsync(0, Segments, cancellationToken, async (segment, ct) =>
        {
            await foreach (var _ in table.ScanAsync(segment, Segments, startAfter: null, ct))
            {
            }
        }));
        var select = await Rounds.MillisecondsAsync(() => SelectAsync(database, cancellationToken));
        var doubled = await Rounds.MillisecondsAsync(() => warehouse.DoubledAsync(1, cancellationToken));
        var hash = await Rounds.MillisecondsAsync(() => warehouse.DigestsAsync(cancellationToken));
        return FormattableString.Invariant(
            $"The parts, each once by itself: of the plain read the Scan takes {scan:F0} ms and the SELECT {select:F0}; of ours the consistent Scan in {Segments} segments {segments:F0} with no work done, the warehouse's hashing of its rows {hash:F0} and the search for orders with two rows {doubled:F0}; the rest decodes and hashes the items.");
    }

    private static async Task<int> ScanAsync(AmazonDynamoDBClient dynamo, CancellationToken cancellationToken)
    {
        var request = new ScanRequest(OrderTables.Orders) { Limit = OrderTable.PageItemsMax };
        var count = 0;
        do
        {
            var page = await dynamo.ScanAsync(request, cancellationToken);
            count += page.Items.Count;
            request.ExclusiveStartKey = page.LastEvaluatedKey;
        }
        while (request.ExclusiveStartKey is { Count: > 0 });
        return count;
    }

    private static async Task<int> SelectAsync(NpgsqlDataSource database, CancellationToken cancellationToken)
    {
        await using var query = database.CreateCommand(
            $"SELECT {string.Join(", ", OrderDigest.FieldNames)} FROM orders WHERE NOT is_deleted");
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        var count = 0;
        while (await rows.ReadAsync(cancellationToken))
        {
            count++;
        }

        return count;
    }

    /// <summary>Past the API. To make up a million people takes longer than to write them: a thousand orders take turns under other ids.</summary>
    private static async Task FillTableAsync(StageContext context, AmazonDynamoDBClient dynamo, int orders, CancellationToken cancellationToken)
    {
        const int Different = 1_000;
        var items = context.Inputs.ItemChanges().Where(change => change.EventName == "INSERT").Take(Different).Select(change => change.NewImage!).ToList();
        var written = 0;
        await Parallel.ForEachAsync(
            Enumerable.Range(0, orders).Chunk(ItemsOfBatch),
            new ParallelOptions { MaxDegreeOfParallelism = Fillers, CancellationToken = cancellationToken },
            async (batch, ct) =>
            {
                var requests = batch.Select(n => new WriteRequest(new PutRequest(new Dictionary<string, AttributeValue>(items[n % Different])
                {
                    ["order_id"] = new(string.Create(CultureInfo.InvariantCulture, $"order-{n:D8}")),
                }))).ToList();
                var answer = await dynamo.BatchWriteItemAsync(new BatchWriteItemRequest(new Dictionary<string, List<WriteRequest>> { [OrderTables.Orders] = requests }), ct);
                Check(answer.UnprocessedItems is not { Count: > 0 }, "DynamoDB Local left items unprocessed");
                context.Progress("filling the table", 0.4 * Interlocked.Add(ref written, batch.Length) / orders);
            });
    }

    /// <summary>By a backfill and the loader's own code.</summary>
    private static async Task FillWarehouseAsync(
        StageContext context, AmazonDynamoDBClient dynamo, IObjectStore objects, NpgsqlDataSource database, int orders, CancellationToken cancellationToken)
    {
        context.Progress("filling the warehouse", 0.4);
        var table = new OrderTable(dynamo, OrderTables.Orders, new ReadBudget(null, TimeProvider.System));
        using var backfill = new BackfillRun(objects, new TableSource(table, Inputs.Protector), Segments, ObjectKeys.BackfillState(OrderTables.Orders), TimeProvider.System);
        await backfill.RunAsync(restart: false, cancellationToken);
        using var load = new LoadRun(database, objects, new HourRange(null, null), ignoreLedger: false, new LoadLimits(), NullLoggerFactory.Instance, TimeProvider.System);
        var report = await load.RunAsync(cancellationToken);
        Check(report.NewChanges == orders, $"{report.NewChanges} of {orders} orders were loaded");
        await using var analyze = database.CreateCommand("ANALYZE");
        await analyze.ExecuteNonQueryAsync(cancellationToken);
    }

    private static void Check(bool isRight, string what)
    {
        if (!isRight)
        {
            throw new InvalidOperationException(what);
        }
    }
}
