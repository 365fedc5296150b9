using System.Net;
using System.Net.Http.Json;
using System.Text.Json.Nodes;

namespace Pipeline.OrdersApi.Tests;

/// <summary>The client in docs/api.md: what stands there is what is run here.</summary>
public sealed class DocumentedClientTests(OrdersDatabase database) : IAsyncLifetime
{
    private readonly OrdersApi _api = new(database);

    public ValueTask InitializeAsync() => _api.InitializeAsync();

    public ValueTask DisposeAsync() => _api.DisposeAsync();

    [Fact]
    public async Task It_creates_an_order_once_though_answers_are_lost_and_changes_it_though_others_do()
    {
        using var http = new HttpClient { BaseAddress = _api.Http.BaseAddress };
        var client = new OrdersClient(http, OrdersApi.TokenOf(OrdersApi.Merchant).Parameter!);
        var calls = 0;
        _api.Network.OnCall = async (operation, send) =>
        {
            var answer = await send();
            // The first transaction is done, and neither it nor the SDK's next two attempts are answered.
            return operation == "TransactWriteItems" && Interlocked.Increment(ref calls) <= 3 ? throw new HttpRequestException("The answer was lost") : answer;
        };

        var order = await client.CreateAsync(OrdersApi.SampleOrder("documented"), TestContext.Current.CancellationToken);
        var others = Enumerable.Range(0, 8).Select(n => _api.SendAsAsync(
            OrdersApi.Merchant, HttpMethod.Patch, "/orders/documented", new JsonObject { ["customer"] = new JsonObject { ["city"] = $"city {n}" } }, ("If-Match", "*")));
        var changed = client.ChangeStatusAsync("documented", "approved", TestContext.Current.CancellationToken);
        await Task.WhenAll([.. others, changed]);

        Assert.Equal("created", order["status"]!.GetValue<string>());
        Assert.Equal("approved", (await changed)["status"]!.GetValue<string>());
        Assert.Equal("\"10\"", (await _api.GetAsync("documented")).ETag);
        Assert.Single(await _api.AllItemsAsync());
    }

    [Fact]
    public async Task A_gateways_429_that_does_not_say_when_to_come_again_is_waited_for_all_the_same()
    {
        using var gateway = new HastyGateway { InnerHandler = new SocketsHttpHandler() };
        using var http = new HttpClient(gateway) { BaseAddress = _api.Http.BaseAddress };
        var client = new OrdersClient(http, OrdersApi.TokenOf(OrdersApi.Merchant).Parameter!);

        var order = await client.CreateAsync(OrdersApi.SampleOrder("throttled"), TestContext.Current.CancellationToken);

        Assert.Equal(("created", 2), (order["status"]!.GetValue<string>(), gateway.Requests));
    }

    [Fact]
    public void It_is_the_one_in_the_documentation()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory.FullName, "Pipeline.sln")))
        {
            directory = directory.Parent!;
        }

        var source = File.ReadAllText(Path.Combine(directory.FullName, "tests", "Pipeline.OrdersApi.Tests", "DocumentedClientTests.cs")).ReplaceLineEndings("\n");
        // At the start of a line: the text looked for stands here, too.
        var client = source[(source.LastIndexOf("\ninternal sealed class OrdersClient(", StringComparison.Ordinal) + 1)..].TrimEnd();
        Assert.Contains($"```csharp\n{client}\n```", File.ReadAllText(Path.Combine(directory.FullName, "docs", "api.md")).ReplaceLineEndings("\n"), StringComparison.Ordinal);
    }

    /// <summary>Refuses the first request as API Gateway does: without Retry-After.</summary>
    private sealed class HastyGateway : DelegatingHandler
    {
        public int Requests { get; private set; }

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
            ++Requests == 1 ? new HttpResponseMessage(HttpStatusCode.TooManyRequests) : await base.SendAsync(request, cancellationToken);
    }
}

internal sealed class OrdersClient(HttpClient http, string token)
{
    // Each attempt has the client's own timeout; after these the caller hears of it.
    private const int AttemptsMax = 10;

    public Task<JsonNode> CreateAsync(JsonNode order, CancellationToken cancellationToken)
    {
        // One key for one order, made before the first attempt: with it, an attempt may be repeated.
        var key = Guid.NewGuid().ToString();
        return SendAsync(
            () =>
            {
                var request = new HttpRequestMessage(HttpMethod.Post, "/orders") { Content = JsonContent.Create(order) };
                request.Headers.Add("Idempotency-Key", key);
                return request;
            },
            cancellationToken);
    }

    public async Task<JsonNode> ChangeStatusAsync(string orderId, string status, CancellationToken cancellationToken)
    {
        for (var attempt = 1; ; attempt++)
        {
            var order = await SendAsync(() => new HttpRequestMessage(HttpMethod.Get, $"/orders/{orderId}"), cancellationToken);
            if (order["status"]!.GetValue<string>() == status)
            {
                return order;
            }

            try
            {
                return await SendAsync(
                    () =>
                    {
                        var request = new HttpRequestMessage(HttpMethod.Put, $"/orders/{orderId}/status") { Content = JsonContent.Create(new { status }) };
                        request.Headers.Add("If-Match", $"\"{order["version"]}\"");
                        return request;
                    },
                    cancellationToken);
            }
            catch (HttpRequestException error) when (error.StatusCode == HttpStatusCode.PreconditionFailed && attempt < AttemptsMax)
            {
                // Somebody changed it since it was read: look again whether the change is still to be made.
            }
        }
    }

    private async Task<JsonNode> SendAsync(Func<HttpRequestMessage> create, CancellationToken cancellationToken)
    {
        for (var attempt = 1; ; attempt++)
        {
            using var request = create();
            request.Headers.Authorization = new("Bearer", token);
            using var response = await http.SendAsync(request, cancellationToken);
            // 503, 429 and 409 request-in-progress say when to come again (a gateway's own 429 does not); everything else is an answer.
            var pause = response.Headers.RetryAfter?.Delta ?? (response.StatusCode == HttpStatusCode.TooManyRequests ? TimeSpan.FromSeconds(1) : null);
            if (pause is null || attempt == AttemptsMax)
            {
                response.EnsureSuccessStatusCode();
                return (await response.Content.ReadFromJsonAsync<JsonNode>(cancellationToken))!;
            }

            await Task.Delay(pause.Value, cancellationToken);
        }
    }
}
