using System.Globalization;
using System.Text.Json;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.DocumentModel;
using Amazon.DynamoDBv2.Model;
using Amazon.Lambda.Core;
using Amazon.Lambda.DynamoDBEvents;
using Amazon.S3;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Npgsql;
using Pipeline.Core;
using Pipeline.Loader;
using Pipeline.Ops.Reconcile;
using Pipeline.Ops.Replay;
using Pipeline.Ops.Seed;
using Pipeline.Processor;
using Item = System.Collections.Generic.Dictionary<string, Amazon.DynamoDBv2.Model.AttributeValue>;
using TaggedValue = Amazon.Lambda.DynamoDBEvents.DynamoDBEvent.AttributeValue;

namespace Pipeline.Ops.Tests;

/// <summary>
/// A table, a bucket and a warehouse, with the function process_orders and the loader between them, run by hand: a
/// change is in the table at once, and in a file and in the warehouse when the test says so.
/// </summary>
internal sealed class World(string name, HookedDynamoDb dynamo, ReceivedBytes received, AmazonS3Client s3, string warehouse, string folder) : IAsyncDisposable
{
    private int _sequence;

    /// <summary>With the key that the function has in these tests.</summary>
    public static PersonalDataProtector Protector { get; } = new(PersonalDataKey);

    public const string PersonalDataKey = "a key of the tests, which nobody else has";

    public static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public string Table => name;
    public string Bucket => name;
    public string Warehouse => warehouse;

    /// <summary>A folder of this world's own, for temporary files.</summary>
    public string Temporary { get; } = Directory.CreateDirectory(Path.Combine(folder, name)).FullName;
    public HookedDynamoDb Dynamo => dynamo;
    public AmazonS3Client S3 => s3;
    public IObjectStore Objects { get; } = new S3ObjectStore(s3, name);
    public NpgsqlDataSource Database { get; } = NpgsqlDataSource.Create(PostgresWarehouse.ConnectionString(warehouse));

    public async Task CreateAsync()
    {
        await dynamo.CreateTableAsync(
            new CreateTableRequest(name, [new KeySchemaElement("order_id", KeyType.HASH)], [new AttributeDefinition("order_id", ScalarAttributeType.S)], null)
            {
                BillingMode = BillingMode.PAY_PER_REQUEST,
            },
            Cancelled);
        await s3.PutBucketAsync(name, Cancelled);
    }

    /// <summary>An order as the API writes it, about 1 KB; the same for the same arguments.</summary>
    public static Item Order(string orderId, int version = 1) => Orders.Item(orderId, version);

    /// <summary>Writes the item, and gives the record that the stream would have of it: with its numbers as the table keeps them.</summary>
    public async Task<DynamoDBEvent.DynamodbStreamRecord> PutAsync(Item item)
    {
        var old = await dynamo.PutItemAsync(new PutItemRequest(name, item) { ReturnValues = ReturnValue.ALL_OLD }, Cancelled);
        var stored = await dynamo.GetItemAsync(new GetItemRequest(name, new Item { ["order_id"] = item["order_id"] }) { ConsistentRead = true }, Cancelled);
        return Record(old.Attributes is { Count: > 0 } ? "MODIFY" : "INSERT", item["order_id"].S, stored.Item, null);
    }

    public async Task<DynamoDBEvent.DynamodbStreamRecord> DeleteAsync(string orderId)
    {
        var old = await dynamo.DeleteItemAsync(
            new DeleteItemRequest(name, new Item { ["order_id"] = new() { S = orderId } }) { ReturnValues = ReturnValue.ALL_OLD }, Cancelled);
        return Record("REMOVE", orderId, null, old.Attributes);
    }

    /// <summary>What Lambda does with a batch: the real function, against the real bucket.</summary>
    public async Task DeliverAsync(params DynamoDBEvent.DynamodbStreamRecord[] records)
    {
        var response = await new ProcessOrders(new S3ObjectWriter(s3, name), _ => ValueTask.FromResult(Protector), TimeProvider.System)
            .HandleAsync(new DynamoDBEvent { Records = records }, new Invocation());
        Assert.Empty(response.BatchItemFailures);
    }

    /// <summary>The loader, until there is nothing left to load.</summary>
    public async Task<LoadReport> LoadAsync(NpgsqlDataSource? into = null)
    {
        using var run = new LoadRun(
            into ?? Database, Objects, new HourRange(null, null), ignoreLedger: false, new LoadLimits(), NullLoggerFactory.Instance, TimeProvider.System);
        return await run.RunAsync(Cancelled);
    }

    /// <summary>Puts these orders in at version 1, through the whole pipeline.</summary>
    public async Task FillAsync(params string[] orderIds)
    {
        var records = new List<DynamoDBEvent.DynamodbStreamRecord>();
        foreach (var orderId in orderIds)
        {
            records.Add(await PutAsync(Order(orderId)));
        }

        await DeliverAsync([.. records]);
        await LoadAsync();
    }

    /// <summary>A deadline of a second: nothing arrives by itself here.</summary>
    public Task<Certificate> ReconcileAsync(bool repair = false, TimeSpan? deadline = null, TimeProvider? time = null, string? database = null) =>
        ReconcileAsync(new ReconcileOptions(4, deadline ?? TimeSpan.FromSeconds(1), 1_000, repair, Temporary), time, database);

    public async Task<Certificate> ReconcileAsync(
        ReconcileOptions options, TimeProvider? time = null, string? database = null, PersonalDataProtector? protector = null)
    {
        await using var reader = new WarehouseReader(database ?? warehouse);
        return await new Reconciliation(
            new OrderTable(dynamo, name, new ReadBudget(null, TimeProvider.System)), received, reader, Objects, protector ?? Protector, options,
            time ?? TimeProvider.System).RunAsync(Cancelled);
    }

    /// <summary>
    /// A reconciliation whose clock goes on by a second after each time that something has happened, until it ends: its
    /// deadline is so many times, however long each takes.
    /// </summary>
    /// <param name="meanwhile">What happens; by default the loader loads.</param>
    /// <param name="repair">As the option.</param>
    /// <param name="deadline">As the option.</param>
    public async Task<Certificate> ReconcileWhileAsync(TimeSpan deadline, bool repair = false, Func<Task>? meanwhile = null)
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        var reconciling = ReconcileAsync(repair, deadline, time);
        while (!reconciling.IsCompleted)
        {
            await (meanwhile?.Invoke() ?? LoadAsync());

            // Each second is one look at least: it waits for the clock, not the clock for it.
            await Task.WhenAny(reconciling, Task.Delay(20, Cancelled));
            time.Advance(TimeSpan.FromSeconds(1));
        }

        return await reconciling;
    }

    public async Task ExecuteAsync(string sql)
    {
        await using var command = Database.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(Cancelled);
    }

    public Task<string> ScalarAsync(string sql) => ScalarAsync(Database, sql);

    public static async Task<string> ScalarAsync(NpgsqlDataSource database, string sql)
    {
        await using var command = database.CreateCommand(sql);
        return Convert.ToString(await command.ExecuteScalarAsync(Cancelled), CultureInfo.InvariantCulture)!;
    }

    /// <summary>
    /// One text over everything that queries can see, written without the product's digest. When rows were loaded differs
    /// between two warehouses, and nothing else may.
    /// </summary>
    public static Task<string> ContentAsync(NpgsqlDataSource database) => ScalarAsync(database, """
        SELECT md5(coalesce((SELECT string_agg(md5((to_jsonb(o) - 'loaded_at')::text || document::text), '' ORDER BY order_id) FROM orders o), ''))
            || md5(coalesce((SELECT string_agg(md5((to_jsonb(c) - 'loaded_at')::text || document::text), '' ORDER BY order_id, version, sequence_number) FROM order_changes c), ''))
            || md5(coalesce((SELECT string_agg(md5((to_jsonb(w) - 'waiting_since')::text || document::text), '' ORDER BY order_id, version, sequence_number) FROM waiting_changes w), ''))
        """);

    public async ValueTask DisposeAsync()
    {
        await Database.DisposeAsync();
        dynamo.Dispose();
        received.Dispose();
        s3.Dispose();
    }

    private DynamoDBEvent.DynamodbStreamRecord Record(string eventName, string orderId, Item? newImage, Item? oldImage)
    {
        var sequence = Interlocked.Increment(ref _sequence);
        return new DynamoDBEvent.DynamodbStreamRecord
        {
            EventID = $"{name}-{sequence}",
            EventName = eventName,
            Dynamodb = new()
            {
                ApproximateCreationDateTime = DateTime.UtcNow,
                Keys = new() { ["order_id"] = new() { S = orderId } },
                NewImage = newImage is null ? null : Tagged(newImage),
                OldImage = oldImage is null ? null : Tagged(oldImage),
                SequenceNumber = string.Create(CultureInfo.InvariantCulture, $"1000000000000000{sequence:D8}"),
            },
        };
    }

    /// <summary>Over JSON, as an event comes; not with the product's own conversion.</summary>
    private static Dictionary<string, TaggedValue> Tagged(Item item) => item.ToDictionary(attribute => attribute.Key, attribute => Tagged(attribute.Value));

    private static TaggedValue Tagged(AttributeValue value) => value switch
    {
        { S: { } text } => new() { S = text },
        { N: { } number } => new() { N = number },
        { BOOL: { } boolean } => new() { BOOL = boolean },
        { NULL: true } => new() { NULL = true },
        { M: { } map } => new() { M = Tagged(map) },
        { L: { } list } => new() { L = [.. list.Select(Tagged)] },
        { SS: { } texts } => new() { SS = texts },
        { NS: { } numbers } => new() { NS = numbers },
        { BS: { } binaries } => new() { BS = binaries },
        { B: { } binary } => new() { B = binary },
        _ => throw new NotSupportedException("An attribute without a type."),
    };

    private sealed class Invocation : ILambdaContext, ILambdaLogger
    {
        public string AwsRequestId => "request";
        public IClientContext? ClientContext => null;
        public string FunctionName => Names.Function;
        public string FunctionVersion => "$LATEST";
        public ICognitoIdentity? Identity => null;
        public string InvokedFunctionArn => "arn";
        public ILambdaLogger Logger => this;
        public string LogGroupName => "group";
        public string LogStreamName => "stream";
        public int MemoryLimitInMB => 512;
        public TimeSpan RemainingTime => TimeSpan.FromMinutes(1);

        public void Log(string message) => LogLine(message);

        public void LogLine(string message)
        {
        }
    }
}

/// <summary>Orders as the API writes them, made by the generator of `seed`.</summary>
internal static class Orders
{
    private static readonly List<PlannedOrder> Planned = [.. GeneratedPlan.Of(500, seed: 7)];

    public static Item Item(string orderId, int version)
    {
        var planned = Planned[(int)((uint)People.Seed(orderId) % Planned.Count)].Order;
        return Item(planned, orderId, version);
    }

    public static Item Item(NewOrder planned, string orderId, int version)
    {
        var created = new DateTimeOffset(2026, 11, 24, 8, 0, 0, TimeSpan.Zero);
        var order = new Order
        {
            OrderId = orderId,
            MerchantId = planned.MerchantId,
            CustomerId = planned.Customer.CustomerId,
            Customer = planned.Customer,
            Status = (OrderStatus)Math.Min(version - 1, (int)OrderStatus.Shipped),
            Currency = planned.Currency,
            Items = [.. planned.Items.Select((item, index) => new OrderItem
            {
                Line = index + 1, ProductId = item.ProductId, SellerId = item.SellerId, Quantity = item.Quantity, UnitPrice = item.UnitPrice, Freight = item.Freight,
            })],
            Payments = [.. planned.Payments.Select((payment, index) => new Payment
            {
                Sequence = index + 1, Method = payment.Method, Installments = payment.Installments, Amount = payment.Amount,
            })],
            TotalAmount = planned.Items.Sum(item => (item.Quantity * item.UnitPrice) + item.Freight),
            CreatedAt = created,
            UpdatedAt = created.AddSeconds(version),
            Version = version,
            TraceParent = string.Create(CultureInfo.InvariantCulture, $"00-{(uint)orderId.Length:x32}-{version:x16}-01"),
        };
        return Document.FromJson(JsonSerializer.Serialize(order, OrderJsonContext.Default.Order)).ToAttributeMap();
    }
}
