using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Amazon.Runtime;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Mvc.Testing;
using Microsoft.AspNetCore.TestHost;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Pipeline.Core;
using Pipeline.NativeServers;
using Pipeline.OrdersApi.Orders;

namespace Pipeline.OrdersApi.Tests;

/// <summary>The API on its own Kestrel and its own table, as a client finds it.</summary>
public sealed class OrdersApi(OrdersDatabase database) : IAsyncLifetime
{
    private WebApplicationFactory<OrdersTableOptions> _factory = null!;

    public string TableName { get; private init; } = $"Orders-{Guid.NewGuid():N}";

    public string IdempotencyTableName => $"{TableName}-idempotency";

    /// <summary>Of the tokens that this API and its siblings take.</summary>
    public static LocalIssuer Issuer { get; } = new(RandomNumberGenerator.GetBytes(32));

    /// <summary>Whose token goes with each request that brings none of its own.</summary>
    public const string Merchant = "shop-1";

    private static readonly string CursorKey = Convert.ToBase64String(RandomNumberGenerator.GetBytes(32));

    /// <summary>What a process of the API is told, as environment variables.</summary>
    public Dictionary<string, string> Settings => new(IssuerSettings)
    {
        [Names.Settings.TableName] = TableName,
        [Names.Settings.IdempotencyTableName] = IdempotencyTableName,
        [Names.Settings.CursorKey] = CursorKey,
        [Names.Settings.RequestsPerSecond] = RequestsPerSecond.ToString(CultureInfo.InvariantCulture),
        ["ConnectionStrings__warehouse"] = Warehouse,
        ["OTEL_TRACES_SAMPLER_ARG"] = TracedShare,
    };

    public int RequestsPerSecond { get; init; } = 1000;

    /// <summary>Of the requests that come without a trace, from 0 to 1; "" is all.</summary>
    public string TracedShare { get; init; } = "";

    /// <summary>The warehouse's connection string; "" is an API that does not know it.</summary>
    public string Warehouse { get; init; } = "";

    /// <summary>Whose tokens are taken.</summary>
    public IReadOnlyDictionary<string, string> IssuerSettings { get; init; } = Issuer.ApiSettings;

    public HttpClient Http { get; private set; } = null!;

    public AmazonDynamoDBClient Table { get; } = database.Client();

    /// <summary>Between the API and DynamoDB: what a test sets here is done to each call.</summary>
    public FaultyNetwork Network { get; } = new();

    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Gets all that the API logs, of every level.</summary>
    public ILoggerProvider? Logs { get; init; }

    /// <summary>Another process of the API, on the same tables.</summary>
    public OrdersApi Sibling(string environment = "Development") => new(database) { TableName = TableName, Time = Time, _environment = environment, _hasTables = true };

    private string _environment = "Development";

    private bool _hasTables;

    public async ValueTask InitializeAsync()
    {
        if (!_hasTables)
        {
            await CreateTablesAsync();
        }

        _factory = new WebApplicationFactory<OrdersTableOptions>().WithWebHostBuilder(host => Settings
            .Aggregate(host, (settings, setting) => settings.UseSetting(setting.Key.Replace("__", ":", StringComparison.Ordinal), setting.Value))
            .UseEnvironment(_environment)
            .ConfigureLogging(logging =>
            {
                logging.ClearProviders();
                if (Logs is not null)
                {
                    logging.AddProvider(Logs).AddFilter(null, LogLevel.Trace);
                }
            })
            .ConfigureTestServices(services =>
            {
                services.Replace(ServiceDescriptor.Singleton(Time));
                services.Replace(ServiceDescriptor.Singleton<IAmazonDynamoDB>(database.Client(Network)));
            }));
        _factory.UseKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        _factory.StartServer();
        Http = _factory.CreateClient();
    }

    private async Task CreateTablesAsync()
    {
        await Table.CreateTableAsync(new CreateTableRequest
        {
            TableName = TableName,
            BillingMode = BillingMode.PAY_PER_REQUEST,
            AttributeDefinitions = [.. ((string[])["order_id", Names.CustomerKey, Names.StatusKey, "created_at"]).Select(name => new AttributeDefinition(name, ScalarAttributeType.S))],
            KeySchema = [new("order_id", KeyType.HASH)],
            GlobalSecondaryIndexes =
            [
                .. (((string Name, string Key)[])[(Names.CustomerIndex, Names.CustomerKey), (Names.StatusIndex, Names.StatusKey)]).Select(index => new GlobalSecondaryIndex
                {
                    IndexName = index.Name,
                    KeySchema = [new(index.Key, KeyType.HASH), new("created_at", KeyType.RANGE)],
                    Projection = new Projection { ProjectionType = ProjectionType.KEYS_ONLY },
                }),
            ],
        });

        await Table.CreateTableAsync(new CreateTableRequest
        {
            TableName = IdempotencyTableName,
            BillingMode = BillingMode.PAY_PER_REQUEST,
            AttributeDefinitions = [new("idempotency_key", ScalarAttributeType.S), new("part", ScalarAttributeType.N)],
            KeySchema = [new("idempotency_key", KeyType.HASH), new("part", KeyType.RANGE)],
        });
    }

    public async ValueTask DisposeAsync()
    {
        Http?.Dispose();
        await _factory.DisposeAsync();
        Table.Dispose();
        Network.Dispose();
    }

    public async Task<Dictionary<string, AttributeValue>?> ItemAsync(string orderId)
    {
        var found = await Table.GetItemAsync(new GetItemRequest(TableName, new() { ["order_id"] = new(orderId) }) { ConsistentRead = true });
        return found.IsItemSet ? found.Item : null;
    }

    public Task PutItemAsync(Dictionary<string, AttributeValue> item) => Table.PutItemAsync(TableName, item);

    /// <summary>Every item of the table, as text that can be compared: what "nothing is written" means.</summary>
    public Task<string[]> AllItemsAsync() => AllItemsAsync(TableName);

    public async Task<string[]> AllItemsAsync(string tableName)
    {
        var all = await Table.ScanAsync(new ScanRequest(tableName) { ConsistentRead = true });
        Assert.True(all.LastEvaluatedKey is null or { Count: 0 });
        return [.. (all.Items ?? []).Select(item => Amazon.DynamoDBv2.DocumentModel.Document.FromAttributeMap(item).ToJson()).Order(StringComparer.Ordinal)];
    }

    public static AuthenticationHeaderValue TokenOf(string merchant, params string[] scopes) =>
        new("Bearer", Issuer.Token(merchant, TimeSpan.FromHours(1), scopes.Length > 0 ? scopes : LocalIssuer.AllScopes));

    /// <summary>A request in another merchant's name.</summary>
    public async Task<Answer> SendAsAsync(string merchant, HttpMethod method, string path, JsonNode? body = null, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method, path) { Headers = { Authorization = TokenOf(merchant) } };
        if (body is not null)
        {
            request.Content = new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json");
        }

        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        return await SendAsync(request);
    }

    public async Task<Answer> SendAsync(HttpMethod method, string path, string? body = null, string? ifMatch = null, string mediaType = "application/json")
    {
        using var request = new HttpRequestMessage(method, path);
        if (body is not null)
        {
            request.Content = new StringContent(body, Encoding.UTF8);
            request.Content.Headers.ContentType = MediaTypeHeaderValue.Parse(mediaType);
            // A body that is too large is refused before it is sent; who sends it all the same finds the connection closed.
            request.Headers.ExpectContinue = body.Length > 1024 * 1024;
        }

        if (ifMatch is not null)
        {
            request.Headers.TryAddWithoutValidation("If-Match", ifMatch);
        }

        return await SendAsync(request);
    }

    public async Task<Answer> SendAsync(HttpRequestMessage request)
    {
        request.Headers.Authorization ??= TokenOf(Merchant);
        using var response = await Http.SendAsync(request, TestContext.Current.CancellationToken);
        return new Answer(
            response.StatusCode,
            await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken),
            response.Content.Headers.ContentType?.ToString(),
            response.Headers.ETag?.ToString(),
            response.Headers.Location?.ToString(),
            response.Headers.RetryAfter?.ToString(),
            response.Headers.Contains("Idempotent-Replayed"));
    }

    public Task<Answer> CreateAsync(JsonNode body) => SendAsync(HttpMethod.Post, "/orders", body.ToJsonString());

    public async Task<Answer> CreateAsync(JsonNode body, string key)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/orders") { Content = new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json") };
        request.Headers.TryAddWithoutValidation("Idempotency-Key", key);
        return await SendAsync(request);
    }

    public Task<Answer> GetAsync(string orderId) => SendAsync(HttpMethod.Get, $"/orders/{orderId}");

    public Task<Answer> ChangeStatusAsync(string orderId, string status, string? ifMatch) =>
        SendAsync(HttpMethod.Put, $"/orders/{orderId}/status", new JsonObject { ["status"] = status }.ToJsonString(), ifMatch);

    public Task<Answer> DeleteAsync(string orderId, string? ifMatch) =>
        SendAsync(HttpMethod.Delete, $"/orders/{orderId}", ifMatch: ifMatch);

    public async Task<string> CreatedAsync(string status = "created", string? customerId = null)
    {
        var created = await CreateAsync(SampleOrder(customerId: customerId));
        Assert.Equal(HttpStatusCode.Created, created.Status);
        var orderId = created.Json["order_id"]!.GetValue<string>();
        if (status == "delivered")
        {
            Assert.Equal(HttpStatusCode.OK, (await ChangeStatusAsync(orderId, "shipped", "*")).Status);
        }

        if (status != "created")
        {
            Assert.Equal(HttpStatusCode.OK, (await ChangeStatusAsync(orderId, status, "*")).Status);
        }

        return orderId;
    }

    public static JsonObject SampleOrder(string? orderId = null, string? customerId = null) => new()
    {
        ["order_id"] = orderId ?? Guid.NewGuid().ToString("N"),
        ["merchant_id"] = "shop-1",
        ["customer"] = new JsonObject
        {
            ["customer_id"] = customerId ?? "customer-1",
            ["name"] = "João da Silva 😀",
            ["email"] = "joao@example.org",
            ["document"] = "123.456.789-09",
            ["city"] = "São Paulo",
            ["state"] = "SP",
        },
        ["currency"] = "BRL",
        ["items"] = new JsonArray(
            new JsonObject { ["product_id"] = "p-1", ["seller_id"] = "s-1", ["quantity"] = 3, ["unit_price"] = 19.99m, ["freight"] = 7.1m },
            new JsonObject { ["product_id"] = "p-2", ["seller_id"] = "s-2", ["quantity"] = 1, ["unit_price"] = 100, ["freight"] = 0 }),
        ["payments"] = new JsonArray(new JsonObject { ["method"] = "pix", ["installments"] = 1, ["amount"] = 167.07m }),
    };
}

/// <summary>An HTTP answer, read.</summary>
public sealed record Answer(HttpStatusCode Status, string Body, string? ContentType, string? ETag, string? Location, string? RetryAfter, bool IsReplay)
{
    public JsonNode Json => JsonNode.Parse(Body)!;

    /// <summary>Holds that this is a problem of this status and type.</summary>
    public JsonNode Problem(HttpStatusCode status, string type)
    {
        Assert.Equal(status, Status);
        Assert.Equal("application/problem+json", ContentType);
        Assert.Equal($"urn:order-pipeline:problem:{type}", Json["type"]!.GetValue<string>());
        Assert.Equal((int)status, Json["status"]!.GetValue<int>());
        Assert.DoesNotContain("   at ", Body, StringComparison.Ordinal);
        return Json;
    }

    /// <summary>Holds that this is a 400 whose errors name exactly these places.</summary>
    public void Invalid(params string[] places)
    {
        var errors = Problem(HttpStatusCode.BadRequest, "invalid-request")["errors"]!.AsArray();
        Assert.Equal(places, errors.Select(error => (error!["pointer"] ?? error["parameter"] ?? error["header"])!.GetValue<string>()));
        Assert.All(errors, error => Assert.NotEmpty(error!["detail"]!.GetValue<string>()));
    }
}

/// <summary>A network that does to a call of DynamoDB what <see cref="OnCall"/> says.</summary>
public sealed class FaultyNetwork : HttpClientFactory, IDisposable
{
    private readonly SocketsHttpHandler _sockets = new();

    /// <summary>The operation (PutItem …) and how to really send it; null sends it.</summary>
    public Func<string, Func<Task<HttpResponseMessage>>, Task<HttpResponseMessage>>? OnCall { get; set; }

    public override HttpClient CreateHttpClient(IClientConfig clientConfig) =>
        new(new Handler(this) { InnerHandler = _sockets }, disposeHandler: false);

    // One client for the factory's whole life, which is that of the SDK's client.
    public override bool DisposeHttpClientsAfterUse(IClientConfig clientConfig) => false;

    public void Dispose() => _sockets.Dispose();

    /// <summary>The next call of this operation is done, but its answer never comes.</summary>
    public void LoseAnswerOf(string operation)
    {
        var lost = false;
        OnCall = async (called, send) =>
        {
            if (called != operation || lost)
            {
                return await send();
            }

            lost = true;
            (await send()).Dispose();
            throw new HttpRequestException("The answer was lost.");
        };
    }

    private sealed class Handler(FaultyNetwork network) : DelegatingHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            var operation = request.Headers.GetValues("X-Amz-Target").Single().Split('.')[^1];
            var send = () => base.SendAsync(request, cancellationToken);
            return network.OnCall is { } fault ? fault(operation, send) : send();
        }
    }
}
