using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Pipeline.Core;
using Pipeline.Ops.Seed;
using Pipeline.OrdersApi.Orders;

namespace Pipeline.Bench;

/// <summary>
/// POST /orders through HTTP against the same conditional write by the bare SDK, on the same DynamoDB Local: without a key one
/// PutItem, with one a transaction of order and outcome. Both sides have as many writers, and all that they send is made before
/// the clock starts: what is measured is what the API adds to the write that it cannot do without.
/// </summary>
internal static class ApiStage
{
    /// <summary>DynamoDB Local keeps a database per access key.</summary>
    private const string AccessKey = "bench";

    // Each writes for a merchant of its own: the API bounds a merchant's rate.
    private const int Writers = OrderTables.Writers;

    public static Stage Stage { get; } = new(
        "api",
        "POST /orders through the API against the bare SDK's conditional write to the same table; allocations of each.",
        QuickSeconds: 12,
        FullSeconds: 80,
        RunAsync);

    private static async Task RunAsync(StageContext context, CancellationToken cancellationToken)
    {
        var servers = await context.ServersAsync(cancellationToken);
        using var dynamo = OrderTables.Client(servers, AccessKey);
        await OrderTables.CreateAsync(dynamo, cancellationToken);
        await using var api = await ApiUnderTest.StartAsync(new Uri(servers.DynamoDb.Url), AccessKey, OrderTables.Orders, OrderTables.Idempotency, cancellationToken);
        using var http = new HttpClient(new SocketsHttpHandler { MaxConnectionsPerServer = Writers }) { BaseAddress = api.Url };
        var tokens = Enumerable.Range(0, Writers).Select(writer => api.TokenOf(Merchant(writer))).ToList();

        var writes = context.IsQuick ? 150 : 1_000;
        var warmUps = context.IsQuick ? 1 : 6;
        using var orders = context.Inputs.Orders().Select(planned => planned.Order).GetEnumerator();
        foreach (var (withKey, begin) in new[] { (false, 0.0), (true, 0.5) })
        {
            var (ofApi, ofSdk) = (new List<double>(), new List<double>());
            var what = withKey ? "with Idempotency-Key" : "without a key";
            var pairs = await Rounds.RunAsync(
                Rounds.Min,
                async () =>
                {
                    var requests = Take(orders, writes).Select((order, n) => Request(order, tokens[n % Writers], withKey)).ToList();
                    var before = await api.AllocatedBytesAsync();
                    var elapsed = await Rounds.MillisecondsAsync(() => OrderTables.EachAsync(requests, request => CreateAsync(http, request, cancellationToken)));
                    ofApi.Add((await api.AllocatedBytesAsync() - before) / writes / 1e3);
                    return writes / elapsed * 1000;
                },
                async () =>
                {
                    var items = Take(orders, writes).Select(order => (Order: OrderItems.ToItem(Complete(order)), Outcome: OutcomeOf(order))).ToList();
                    var elapsed = 0.0;
                    ofSdk.Add(await Rounds.AllocatedBytesAsync(async () => elapsed = await Rounds.MillisecondsAsync(() => OrderTables.EachAsync(
                        items, item => withKey ? TransactAsync(dynamo, item.Order, item.Outcome, cancellationToken) : (Task)PutAsync(dynamo, item.Order, cancellationToken)))) / writes / 1e3);
                    return writes / elapsed * 1000;
                },
                share => context.Progress(what, begin + (0.5 * share)),
                cancellationToken,
                warmUps);

            // Who is at work, over some more rounds: the times of processes are counted in hundredths of a second.
            var more = Take(orders, 5 * writes).Select((order, n) => Request(order, tokens[n % Writers], withKey)).ToList();
            var names = new Dictionary<int, string> { [api.Service.Id] = "API" };
            var usedBefore = ProcessorUse.Read(names);
            var time = await Rounds.MillisecondsAsync(() => OrderTables.EachAsync(more, request => CreateAsync(http, request, cancellationToken)));
            var used = ProcessorUse.Shares(usedBefore, ProcessorUse.Read(names), TimeSpan.FromMilliseconds(time));
            context.Add(Row.Of(
                $"POST /orders {what}",
                withKey ? "bare TransactWriteItems" : "bare PutItem",
                "orders/s",
                pairs,
                Goal.AtLeast(0.8),
                FormattableString.Invariant(
                    $"{writes:N0} orders a round from {Writers} writers. Allocated per request: {new Sample(ofApi[warmUps..]).Median:F1} KB in the API's process, {new Sample(ofSdk[warmUps..]).Median:F1} KB by the bare SDK. Client, API and DynamoDB Local share the machine's processors, so the ratio is one of all the work that a write takes; of the processors' time in five more rounds through the API: {used}.")));
        }
    }

    private static string Merchant(int writer) => string.Create(CultureInfo.InvariantCulture, $"merchant-{writer}");

    /// <summary>The next orders, each of the merchant of its writer.</summary>
    private static IEnumerable<Ops.Seed.NewOrder> Take(IEnumerator<Ops.Seed.NewOrder> orders, int count)
    {
        for (var n = 0; n < count; n++)
        {
            orders.MoveNext();
            yield return orders.Current with { OrderId = Guid.CreateVersion7().ToString("N"), MerchantId = Merchant(n % Writers) };
        }
    }

    private static HttpRequestMessage Request(Ops.Seed.NewOrder order, AuthenticationHeaderValue token, bool withKey)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, "/orders")
        {
            Content = new ByteArrayContent(JsonSerializer.SerializeToUtf8Bytes(order, SeedJsonContext.Default.NewOrder)),
            Headers = { Authorization = token },
        };
        request.Content.Headers.ContentType = new("application/json");
        if (withKey)
        {
            request.Headers.Add(IdempotencyKey.Header, order.OrderId);
        }

        return request;
    }

    private static async Task CreateAsync(HttpClient http, HttpRequestMessage request, CancellationToken cancellationToken)
    {
        using (request)
        {
            using var answer = await http.SendAsync(request, cancellationToken);
            if (answer.StatusCode != HttpStatusCode.Created)
            {
                throw new InvalidOperationException($"{(int)answer.StatusCode}: {await answer.Content.ReadAsStringAsync(cancellationToken)}");
            }
        }
    }

    private static Order Complete(Ops.Seed.NewOrder order)
    {
        var sent = OrdersApi.Orders.NewOrder.Decode(JsonSerializer.SerializeToElement(order, SeedJsonContext.Default.NewOrder), order.MerchantId);
        return OrdersApi.Orders.NewOrder.Complete(sent, OrdersEndpoints.Now(TimeProvider.System), OrdersEndpoints.TraceParent());
    }

    /// <summary>What the API keeps under the key.</summary>
    private static Dictionary<string, AttributeValue> OutcomeOf(Ops.Seed.NewOrder order)
    {
        var item = new IdempotencyKey(order.MerchantId, order.OrderId).ToItem();
        item["fingerprint"] = new(OrderCreation.Fingerprint("create_order", [JsonSerializer.SerializeToUtf8Bytes(order, SeedJsonContext.Default.NewOrder)]));
        item["expires_at"] = new() { N = (DateTimeOffset.UtcNow + OrderCreation.KeptFor).ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture) };
        Outcome.Created(Complete(order), Json).AddTo(item);
        return item;
    }

    private static JsonSerializerOptions Json { get; } = Options();

    private static JsonSerializerOptions Options()
    {
        var options = new JsonSerializerOptions(JsonSerializerDefaults.Web);
        OrderItems.UseOrderJson(options);
        return options;
    }

    private static Task<PutItemResponse> PutAsync(AmazonDynamoDBClient dynamo, Dictionary<string, AttributeValue> order, CancellationToken cancellationToken) =>
        dynamo.PutItemAsync(
            new PutItemRequest
            {
                TableName = OrderTables.Orders,
                Item = order,
                ConditionExpression = "attribute_not_exists(order_id)",
                ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure.ALL_OLD,
            },
            cancellationToken);

    private static Task<TransactWriteItemsResponse> TransactAsync(
        AmazonDynamoDBClient dynamo, Dictionary<string, AttributeValue> order, Dictionary<string, AttributeValue> outcome, CancellationToken cancellationToken) =>
        dynamo.TransactWriteItemsAsync(
            new TransactWriteItemsRequest
            {
                TransactItems =
                [
                    new()
                    {
                        Put = new Put
                        {
                            TableName = OrderTables.Idempotency,
                            Item = outcome,
                            ConditionExpression = "attribute_not_exists(idempotency_key) OR expires_at <= :now",
                            ExpressionAttributeValues = new() { [":now"] = new() { N = DateTimeOffset.UtcNow.ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture) } },
                            ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure.ALL_OLD,
                        },
                    },
                    new() { Put = new Put { TableName = OrderTables.Orders, Item = order, ConditionExpression = "attribute_not_exists(order_id)" } },
                ],
            },
            cancellationToken);
}
