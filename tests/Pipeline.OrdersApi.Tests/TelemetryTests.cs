using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OpenTelemetry.Trace;
using Pipeline.IntegrationTests;
using Pipeline.NativeServers;

namespace Pipeline.OrdersApi.Tests;

public sealed class TelemetryTests(OrdersDatabase database) : IAsyncLifetime
{
    private readonly Lines _lines = new();
    private OrdersApi _api = null!;

    public ValueTask InitializeAsync() => (_api = new OrdersApi(database) { Logs = _lines }).InitializeAsync();

    public async ValueTask DisposeAsync()
    {
        await _api.DisposeAsync();
        _lines.Dispose();
    }

    [Fact]
    public async Task The_logs_name_orders_and_versions_and_nobody()
    {
        string[] personal = ["João da Silva 😀", "joao@example.org", "123.456.789-09", "São Paulo"];
        var orderId = await _api.CreatedAsync();
        await _api.ChangeStatusAsync(orderId, "approved", "\"1\"");
        var bad = OrdersApi.SampleOrder("bad");
        bad["currency"] = "ZZZ";
        await _api.CreateAsync(bad);
        await _api.SendAsync(HttpMethod.Get, "/orders?customer_id=customer-1");
        _api.Network.OnCall = (_, _) => throw new HttpRequestException("Connection refused");
        await _api.CreateAsync(OrdersApi.SampleOrder());
        _api.Network.OnCall = null;
        // An item that cannot be read as an order, with a name in it: an error with all that the framework logs of it.
        await _api.PutItemAsync(new() { ["order_id"] = new("foreign"), ["merchant_id"] = new(OrdersApi.Merchant), ["customer"] = new() { M = new() { ["name"] = new("João da Silva 😀") } } });
        Assert.Equal(HttpStatusCode.InternalServerError, (await _api.GetAsync("foreign")).Status);

        var log = string.Join('\n', _lines.Written);
        Assert.Contains($"Order {orderId} created at version 1", log, StringComparison.Ordinal);
        Assert.Contains($"Order {orderId} approved at version 2", log, StringComparison.Ordinal);
        Assert.Contains("503", log, StringComparison.Ordinal);
        Assert.Contains("JsonException", log, StringComparison.Ordinal);
        Assert.All(personal, secret => Assert.DoesNotContain(secret, log, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Neither_a_log_nor_a_span_holds_a_persons_data_or_a_token_whatever_is_asked()
    {
        string[] secrets = ["João da Silva", "joao@example.org", "123.456.789-09", "São Paulo", "Nova Esperança", "joana@example.org", "Bearer ", "eyJ"];
        var spans = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = _ => true,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = spans.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        var patch = JsonNode.Parse("""{"customer":{"email":"joana@example.org","city":"Nova Esperança"}}""");
        var wrong = JsonNode.Parse("""{"customer":{"email":"João da Silva"}}""");

        foreach (var isBroken in (bool[])[false, true])
        {
            _api.Network.OnCall = isBroken ? (_, _) => throw new HttpRequestException("Connection refused") : null;
            await _api.CreateAsync(OrdersApi.SampleOrder("a"), "key-1");
            await _api.CreateAsync(OrdersApi.SampleOrder("a"), "key-1");
            await _api.CreateAsync(OrdersApi.SampleOrder("b"), "key-1");
            await _api.CreateAsync(OrdersApi.SampleOrder("a"));
            await _api.SendAsAsync(OrdersApi.Merchant, HttpMethod.Post, "/orders/batch", new JsonObject { ["orders"] = new JsonArray(OrdersApi.SampleOrder("c"), wrong!.DeepClone()) });
            await _api.SendAsAsync(OrdersApi.Merchant, HttpMethod.Patch, "/orders/a", patch, ("If-Match", "*"));
            await _api.SendAsAsync(OrdersApi.Merchant, HttpMethod.Patch, "/orders/a", patch, ("If-Match", "\"7\""));
            await _api.SendAsAsync(OrdersApi.Merchant, HttpMethod.Patch, "/orders/a", wrong, ("If-Match", "*"));
            await _api.SendAsAsync(OrdersApi.Merchant, HttpMethod.Get, "/orders?customer_id=customer-1");
            await _api.SendAsAsync(OrdersApi.Merchant, HttpMethod.Get, "/orders?status=created&name=Jo%C3%A3o%20da%20Silva");
            await _api.SendAsAsync("shop-2", HttpMethod.Get, "/orders/a");
            await _api.ChangeStatusAsync("a", "delivered", "*");
            await _api.DeleteAsync("a", "*");
            using var badToken = new HttpRequestMessage(HttpMethod.Get, "/orders/a") { Headers = { Authorization = new("Bearer", OrdersApi.TokenOf(OrdersApi.Merchant).Parameter + "x") } };
            await _api.SendAsync(badToken);
        }

        var log = string.Join('\n', _lines.Written);
        var trace = string.Join('\n', spans.Select(Everything));
        Assert.Contains("Order a created at version 1", log, StringComparison.Ordinal);
        Assert.Contains("TransactWriteItems", trace, StringComparison.Ordinal);
        Assert.Contains("/orders/{order_id}", trace, StringComparison.Ordinal);
        Assert.All(secrets, secret =>
        {
            Assert.DoesNotContain(secret, log, StringComparison.Ordinal);
            Assert.DoesNotContain(secret, Uri.UnescapeDataString(trace), StringComparison.Ordinal);
        });

        static string Everything(Activity span) => string.Join(
            ' ',
            [
                span.DisplayName, span.StatusDescription ?? "",
                .. span.TagObjects.Concat(span.Baggage.Select(entry => KeyValuePair.Create(entry.Key, (object?)entry.Value)))
                    .Concat(span.Events.SelectMany(one => one.Tags.Prepend(KeyValuePair.Create("event", (object?)one.Name)))).Select(tag => $"{tag.Key}={tag.Value}"),
            ]);
    }

    [Fact]
    public async Task A_request_is_one_trace_down_to_the_call_of_the_table_and_health_makes_none()
    {
        var spans = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name is "Microsoft.AspNetCore" or "System.Net.Http",
            ActivityStopped = spans.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        using var caller = new Activity("the caller").SetIdFormat(ActivityIdFormat.W3C);
        caller.ActivityTraceFlags = ActivityTraceFlags.Recorded;
        caller.Start();

        var created = await _api.CreateAsync(OrdersApi.SampleOrder());
        await _api.SendAsync(HttpMethod.Get, "/health");
        // A call of SQS, as far as its header goes.
        using var toQueue = new HttpRequestMessage(HttpMethod.Post, "/nowhere") { Headers = { { "X-Amz-Target", "AmazonSQS.SendMessage" } } };
        await _api.SendAsync(toQueue);

        // The server's span ends after the answer has left: it is waited for.
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        deadline.CancelAfter(TimeSpan.FromSeconds(10));
        while (!spans.Any(span => Is(span, "POST /orders")))
        {
            Assert.False(deadline.IsCancellationRequested, string.Join(", ", spans.Select(span => $"{span.Source.Name} {span.DisplayName}")));
            await Task.Delay(10, CancellationToken.None);
        }

        var request = Assert.Single(spans, span => Is(span, "POST /orders"));
        var call = Assert.Single(spans, span => Is(span, "DynamoDB.PutItem"));
        Assert.Equal(request.SpanId, call.ParentSpanId);
        // The conventions of OpenTelemetry for calls of AWS and of a database.
        Assert.Equal(
            ["aws-api", "DynamoDB", "PutItem", "aws.dynamodb", "PutItem"],
            ((string[])["rpc.system", "rpc.service", "rpc.method", "db.system.name", "db.operation.name"]).Select(tag => call.GetTagItem(tag)));
        Assert.Equal(("SQS", "SendMessage"), (Assert.Single(spans, span => Is(span, "SQS.SendMessage")) is var send ? send.GetTagItem("rpc.service") : null, send.GetTagItem("rpc.method")));
        Assert.Equal(created.Json["trace_parent"]!.GetValue<string>(), request.Id);
        Assert.DoesNotContain(spans, span => span.Recorded && Is(span, "GET /health"));

        bool Is(Activity span, string name) => span.TraceId == caller.TraceId && span.DisplayName.TrimEnd('/') == name;
    }

    [Theory]
    [InlineData("0", false)]
    [InlineData("1", true)]
    public async Task How_much_is_traced_is_bounded_by_the_standard_setting(string share, bool isTraced)
    {
        // In a process of its own: within one, every tracer has a say in what is recorded.
        var address = new Uri($"http://127.0.0.1:{LoopbackPorts.Free()}");
        var environment = new Dictionary<string, string>(_api.Settings)
        {
            ["OTEL_TRACES_SAMPLER_ARG"] = share,
            ["AWS_REGION"] = "us-east-1",
            ["AWS_ACCESS_KEY_ID"] = OrdersDatabase.AccessKey,
            ["AWS_SECRET_ACCESS_KEY"] = OrdersDatabase.AccessKey,
            ["AWS_ENDPOINT_URL_DYNAMODB"] = database.Url,
            ["ASPNETCORE_URLS"] = address.ToString(),
        };
        await using var process = new ServiceProcess("Pipeline.OrdersApi", [], environment, new Uri(address, "/health"));
        await process.StartAsync(TestContext.Current.CancellationToken);
        // It sends no traceparent, so the API decides.
        using var http = new HttpClient(new SocketsHttpHandler { ActivityHeadersPropagator = null });
        http.DefaultRequestHeaders.Authorization = OrdersApi.TokenOf(OrdersApi.Merchant);

        using var answer = await http.PostAsJsonAsync(new Uri(address, "/orders"), OrdersApi.SampleOrder(), TestContext.Current.CancellationToken);
        var order = await answer.Content.ReadFromJsonAsync<JsonNode>(TestContext.Current.CancellationToken);

        // The last two digits of a traceparent say whether the trace is recorded.
        Assert.EndsWith(isTraced ? "-01" : "-00", order!["trace_parent"]!.GetValue<string>(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_batch_is_recorded_with_any_of_its_requests_whatever_the_share()
    {
        var builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings { ApplicationName = "a service with batches" });
        builder.Configuration["OTEL_TRACES_SAMPLER_ARG"] = "0";
        builder.ConfigureOpenTelemetry();
        using var host = builder.Build();
        _ = host.Services.GetRequiredService<TracerProvider>();
        using var source = new ActivitySource("a service with batches");

        Assert.True(IsRecorded(ActivityTraceFlags.None, ActivityTraceFlags.Recorded));
        Assert.False(IsRecorded(ActivityTraceFlags.None, ActivityTraceFlags.None));
        Assert.False(IsRecorded());

        bool IsRecorded(params ActivityTraceFlags[] requests)
        {
            Activity.Current = null;
            using var batch = source.StartActivity(
                "load", ActivityKind.Consumer, default(ActivityContext),
                links: requests.Select(flags => new ActivityLink(new ActivityContext(ActivityTraceId.CreateRandom(), ActivitySpanId.CreateRandom(), flags, isRemote: true))));
            return batch?.Recorded == true;
        }
    }

    [Fact]
    public async Task A_share_that_is_none_stops_the_start()
    {
        await using var api = new OrdersApi(database) { TracedShare = "5%" };

        var error = await Assert.ThrowsAnyAsync<Exception>(async () => await api.InitializeAsync());

        Assert.Contains("OTEL_TRACES_SAMPLER_ARG is 5%", error.ToString(), StringComparison.Ordinal);
    }

    private sealed class Lines : ILoggerProvider, ILogger
    {
        public ConcurrentQueue<string> Written { get; } = new();

        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull
        {
            Written.Enqueue($"{state}");
            return null;
        }

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Written.Enqueue($"{formatter(state, exception)} {exception}");

        public void Dispose()
        {
        }
    }
}
