using System.Buffers.Text;
using System.Net;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Options;
using Pipeline.IntegrationTests;
using Pipeline.NativeServers;
using Pipeline.OrdersApi.Orders;

namespace Pipeline.OrdersApi.Tests;

public sealed class AccessTests(OrdersApi api, OrdersDatabase database) : IClassFixture<OrdersApi>
{
    private static readonly string[] ReadScopes = ["profile", "orders:read"];
    private static readonly string[] TwoMerchants = ["shop-1", "shop-2"];

    public static TheoryData<string> BadTokens =>
    [
        "none at all", "another scheme", "no JWT", "alg none", "alg none, signature kept", "another key", "signature cut off", "claims changed",
        "expired", "without an end", "not yet valid", "another audience", "no audience", "another issuer", "no issuer", "signed with the public name of the key",
    ];

    [Theory]
    [MemberData(nameof(BadTokens))]
    public async Task Whoever_has_no_valid_token_gets_401_everywhere_and_nothing_is_written(string what)
    {
        foreach (var line in await RequestsAsync())
        {
            var answer = await SendAsync(line, Bad(what));

            answer.Problem(HttpStatusCode.Unauthorized, "unauthenticated");
        }

        Assert.Empty(await api.AllItemsAsync());
    }

    [Fact]
    public async Task Only_health_answers_whoever_asks()
    {
        foreach (var path in (string[])["/health", "/alive"])
        {
            Assert.Equal(HttpStatusCode.OK, (await SendAsync($"GET {path}", null)).Status);
        }

        foreach (var path in (string[])["/", "/orders/", "/metrics", "/health/x"])
        {
            (await SendAsync($"GET {path}", null)).Problem(HttpStatusCode.Unauthorized, "unauthenticated");
        }
    }

    [Fact]
    public async Task With_an_authority_tokens_are_held_against_its_published_keys_and_no_key_that_everybody_knows_signs_one()
    {
        await using var provider = new OpenIdProvider();
        await using var other = new OpenIdProvider();
        await using var ofAuthority = new OrdersApi(database) { IssuerSettings = provider.ApiSettings };
        await ofAuthority.InitializeAsync();

        Assert.Equal(HttpStatusCode.NotFound, await StatusAsync(ofAuthority, provider.Token("shop-1")));
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync(ofAuthority, other.Token("shop-1")));
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync(ofAuthority, other.Token("shop-1", issuer: provider.Url)));
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync(ofAuthority, provider.Token("shop-1", issuer: "https://login.example.com")));
        // HS256 with the public key as its secret: the confusion of algorithms.
        var claims = new Dictionary<string, object>
        {
            ["iss"] = provider.Url,
            ["aud"] = OpenIdProvider.Audience,
            ["exp"] = DateTimeOffset.UtcNow.AddHours(1).ToUnixTimeSeconds(),
            ["scope"] = "orders:read",
            ["merchant_id"] = "shop-1",
        };
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync(ofAuthority, new LocalIssuer(provider.PublicKey).Sign(claims)));
        Assert.Equal(HttpStatusCode.Unauthorized, await StatusAsync(ofAuthority, OrdersApi.TokenOf("shop-1").Parameter!));
    }

    [Theory]
    [InlineData("Authentication__Schemes__Bearer__ValidAudiences__0", "No audience is configured")]
    [InlineData("Authentication__Schemes__Bearer__Authority", "Nobody is configured to issue tokens")]
    [InlineData("Authentication__", "Nobody is configured to issue tokens")]
    public async Task An_API_that_is_told_too_little_about_its_issuer_does_not_start(string missing, string message)
    {
        await using var provider = new OpenIdProvider();
        var settings = provider.ApiSettings;
        foreach (var name in settings.Keys.Where(name => name.StartsWith(missing, StringComparison.Ordinal)).ToList())
        {
            settings.Remove(name);
        }

        var builder = WebApplication.CreateBuilder();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Configuration.AddInMemoryCollection(settings.Select(setting => KeyValuePair.Create(setting.Key.Replace("__", ":", StringComparison.Ordinal), (string?)setting.Value)));
        builder.AddAccess();
        await using var untold = builder.Build();

        var error = await Assert.ThrowsAsync<OptionsValidationException>(() => untold.StartAsync(TestContext.Current.CancellationToken));

        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task In_production_the_description_asks_for_a_token_and_there_is_no_page()
    {
        await using var production = api.Sibling("Production");
        await production.InitializeAsync();

        using var anonymous = await production.Http.GetAsync("/openapi/v1.json", TestContext.Current.CancellationToken);
        Assert.Equal(HttpStatusCode.Unauthorized, anonymous.StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await production.SendAsync(HttpMethod.Get, "/openapi/v1.json")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await production.SendAsync(HttpMethod.Get, "/docs")).Status);
    }

    [Fact]
    public async Task On_a_developers_machine_the_page_shows_the_description_and_takes_its_parts_from_this_program()
    {
        using var page = await api.Http.GetAsync("/docs/", TestContext.Current.CancellationToken);
        var html = await page.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);

        Assert.Equal(HttpStatusCode.OK, page.StatusCode);
        Assert.Contains("openapi/v1.json", html, StringComparison.Ordinal);
        Assert.DoesNotContain("https://cdn", html, StringComparison.Ordinal);
        Assert.Contains("script-src 'self'", Assert.Single(page.Headers.GetValues("Content-Security-Policy")), StringComparison.Ordinal);
        foreach (var source in html.Split("src=\"")[1..].Select(rest => rest[..rest.IndexOf('"', StringComparison.Ordinal)]))
        {
            using var part = await api.Http.GetAsync(new Uri(new Uri(api.Http.BaseAddress!, "/docs/"), source), TestContext.Current.CancellationToken);
            Assert.Equal(HttpStatusCode.OK, part.StatusCode);
        }
    }

    [Theory]
    [InlineData("orders:read", 5)]
    [InlineData("orders:write", 3)]
    [InlineData("orders:readx orders:WRITE Orders:read", 8)]
    [InlineData("", 8)]
    public async Task A_scope_that_is_missing_is_a_403_that_names_it(string scopes, int refused)
    {
        var requests = (await RequestsAsync()).Where(line => !scopes.Split(' ').Contains(Needed(line))).ToList();
        Assert.Equal(refused, requests.Count);
        foreach (var line in requests)
        {
            using var request = Request(line, Token(claims => claims["scope"] = scopes));
            using var response = await api.Http.SendAsync(request, TestContext.Current.CancellationToken);

            Assert.Equal(HttpStatusCode.Forbidden, response.StatusCode);
            Assert.Contains("urn:order-pipeline:problem:forbidden", await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
            Assert.Equal($"error=\"insufficient_scope\", scope=\"{Needed(line)}\"", Assert.Single(response.Headers.WwwAuthenticate).Parameter);
        }

        Assert.Empty(await api.AllItemsAsync());

        static string Needed(string line) => line.StartsWith("GET", StringComparison.Ordinal) ? "orders:read" : "orders:write";
    }

    [Theory]
    [InlineData("one string")]
    [InlineData("a list")]
    public async Task Scopes_are_one_string_or_a_list(string form)
    {
        var token = Token(claims => claims["scope"] = form == "a list" ? ReadScopes : "profile orders:read");

        (await SendAsync("GET /orders/any", token)).Problem(HttpStatusCode.NotFound, "order-not-found");
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("a b")]
    [InlineData("shop#1")]
    public async Task A_token_without_a_merchant_is_a_403(string? merchant)
    {
        var token = Token(claims =>
        {
            claims.Remove("merchant_id");
            if (merchant is not null)
            {
                claims["merchant_id"] = merchant;
            }
        });

        (await SendAsync("GET /orders/any", token)).Problem(HttpStatusCode.Forbidden, "forbidden");
        (await SendAsync("GET /orders/any", Token(claims => claims["merchant_id"] = TwoMerchants))).Problem(HttpStatusCode.Forbidden, "forbidden");
    }

    [Fact]
    public async Task Another_merchants_order_is_404_whatever_is_asked_of_it_and_stays_as_it_is()
    {
        var orderId = await api.CreatedAsync(customerId: "shared");
        var before = await api.AllItemsAsync();
        var patch = JsonNode.Parse("""{"customer":{"city":"Olinda"}}""");
        var status = JsonNode.Parse("""{"status":"approved"}""");

        foreach (var ifMatch in (string[])["*", "\"1\"", "\"7\""])
        {
            Answer[] answers =
            [
                await api.SendAsAsync("shop-2", HttpMethod.Get, $"/orders/{orderId}"),
                await api.SendAsAsync("shop-2", HttpMethod.Get, $"/orders/{orderId}", null, ("If-None-Match", ifMatch)),
                await api.SendAsAsync("shop-2", HttpMethod.Patch, $"/orders/{orderId}", patch, ("If-Match", ifMatch)),
                await api.SendAsAsync("shop-2", HttpMethod.Put, $"/orders/{orderId}/status", status, ("If-Match", ifMatch)),
                await api.SendAsAsync("shop-2", HttpMethod.Delete, $"/orders/{orderId}", null, ("If-Match", ifMatch)),
            ];
            // What an order is answered with that never was.
            var never = await api.SendAsAsync("shop-2", HttpMethod.Get, "/orders/never-there");
            Assert.All(answers, answer => Assert.Equal(
                never with { Body = WithoutTrace(never).Replace("never-there", orderId, StringComparison.Ordinal) }, answer with { Body = WithoutTrace(answer) }));
        }

        Assert.Empty((await api.SendAsAsync("shop-2", HttpMethod.Get, "/orders?customer_id=shared")).Json["orders"]!.AsArray());
        Assert.Empty((await api.SendAsAsync("shop-2", HttpMethod.Get, "/orders?status=created")).Json["orders"]!.AsArray());
        Assert.Equal(before, await api.AllItemsAsync());
        Assert.Equal(HttpStatusCode.NoContent, (await api.DeleteAsync(orderId, "*")).Status);
    }

    [Fact]
    public async Task An_order_is_the_tokens_merchants_and_cannot_be_made_anothers()
    {
        var order = OrdersApi.SampleOrder();
        order.Remove("merchant_id");
        var created = await api.SendAsAsync("shop-3", HttpMethod.Post, "/orders", order);
        Assert.Equal("shop-3", created.Json["merchant_id"]!.GetValue<string>());
        Assert.Equal(HttpStatusCode.NoContent, (await api.SendAsAsync("shop-3", HttpMethod.Delete, created.Location!, null, ("If-Match", "*"))).Status);

        (await api.SendAsAsync("shop-3", HttpMethod.Post, "/orders", OrdersApi.SampleOrder())).Problem(HttpStatusCode.Forbidden, "another-merchant");
        Assert.Empty(await api.AllItemsAsync());
    }

    [Fact]
    public async Task An_order_id_of_another_merchants_order_is_taken_and_tells_nothing_else()
    {
        var orderId = await api.CreatedAsync();
        var order = OrdersApi.SampleOrder(orderId);
        order.Remove("merchant_id");

        var refused = await api.SendAsAsync("shop-2", HttpMethod.Post, "/orders", order);

        refused.Problem(HttpStatusCode.Conflict, "order-exists");
        Assert.DoesNotContain(OrdersApi.Merchant, refused.Body, StringComparison.Ordinal);
        await api.DeleteAsync(orderId, "*");
    }

    [Fact]
    public async Task Every_answer_has_the_headers_that_keep_browsers_and_caches_from_harm()
    {
        var orderId = await api.CreatedAsync();
        foreach (var (line, caching) in ((string, string)[])[
            ($"GET /orders/{orderId}", "no-cache, private"), ("GET /orders?customer_id=c", "no-store"), ("GET /orders/none", "no-store"),
            ("POST /orders", "no-store"), ("GET /nowhere", "no-store"), ("GET /health", "no-store, no-cache")])
        {
            using var request = Request(line, OrdersApi.TokenOf(OrdersApi.Merchant));
            request.Headers.Add("X-Forwarded-Proto", "https");
            using var response = await api.Http.SendAsync(request, TestContext.Current.CancellationToken);

            Assert.Equal(
                (
                    "nosniff", "DENY", "no-referrer", "default-src 'none'; frame-ancestors 'none'", "max-age=31536000; includeSubDomains"),
                (
                    Header("X-Content-Type-Options"), Header("X-Frame-Options"), Header("Referrer-Policy"), Header("Content-Security-Policy"), Header("Strict-Transport-Security")));
            Assert.Equal(caching, string.Join(", ", response.Headers.GetValues("Cache-Control")));
            Assert.False(response.Headers.Contains("Server"));

            string Header(string name) => Assert.Single(response.Headers.GetValues(name));
        }

        await api.DeleteAsync("any", "*");
        await api.DeleteAsync(orderId, "*");
    }

    private static async Task<HttpStatusCode> StatusAsync(OrdersApi api, string token)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/orders/any") { Headers = { Authorization = new("Bearer", token) } };
        using var response = await api.Http.SendAsync(request, TestContext.Current.CancellationToken);
        return response.StatusCode;
    }

    private static string WithoutTrace(Answer answer)
    {
        var problem = answer.Json.AsObject();
        problem.Remove("trace_id");
        return problem.ToJsonString();
    }

    private static AuthenticationHeaderValue? Bad(string what)
    {
        var good = Token(_ => { }).Parameter!;
        var (header, claims, signature) = good.Split('.') is [var a, var b, var c] ? (a, b, c) : throw new InvalidOperationException();
        var none = Part("""{"alg":"none","typ":"JWT"}""");
        return what switch
        {
            "none at all" => null,
            "another scheme" => new("Basic", Convert.ToBase64String("shop-1:secret"u8)),
            "no JWT" => Bearer("secret"),
            "alg none" => Bearer($"{none}.{claims}."),
            "alg none, signature kept" => Bearer($"{none}.{claims}.{signature}"),
            "another key" => Bearer(new LocalIssuer(RandomNumberGenerator.GetBytes(32)).Token("shop-1", TimeSpan.FromHours(1), LocalIssuer.AllScopes)),
            "signature cut off" => Bearer($"{header}.{claims}."),
            "claims changed" => Bearer($"{header}.{Part(Encoding.UTF8.GetString(Base64Url.DecodeFromChars(claims)).Replace("shop-1", "shop-2", StringComparison.Ordinal))}.{signature}"),
            "expired" => Token(all => all["exp"] = DateTimeOffset.UtcNow.AddMinutes(-1).ToUnixTimeSeconds()),
            "without an end" => Token(all => all.Remove("exp")),
            "not yet valid" => Token(all => all["nbf"] = DateTimeOffset.UtcNow.AddMinutes(1).ToUnixTimeSeconds()),
            "another audience" => Token(all => all["aud"] = "invoices-api"),
            "no audience" => Token(all => all.Remove("aud")),
            "another issuer" => Token(all => all["iss"] = "https://login.example.com"),
            "no issuer" => Token(all => all.Remove("iss")),
            "signed with the public name of the key" => Bearer(new LocalIssuer(Encoding.ASCII.GetBytes(LocalIssuer.Name.PadRight(32))).Token("shop-1", TimeSpan.FromHours(1), LocalIssuer.AllScopes)),
            _ => throw new ArgumentOutOfRangeException(nameof(what), what, "No such token."),
        };

        static AuthenticationHeaderValue Bearer(string token) => new("Bearer", token);

        static string Part(string json) => Base64Url.EncodeToString(Encoding.UTF8.GetBytes(json));
    }

    private static AuthenticationHeaderValue Token(Action<Dictionary<string, object>> change)
    {
        var claims = new Dictionary<string, object>
        {
            ["iss"] = LocalIssuer.Name,
            ["aud"] = LocalIssuer.Audience,
            ["exp"] = DateTimeOffset.UtcNow.AddHours(1).ToUnixTimeSeconds(),
            ["merchant_id"] = OrdersApi.Merchant,
            ["scope"] = "orders:read orders:write",
        };
        change(claims);
        return new("Bearer", OrdersApi.Issuer.Sign(claims));
    }

    /// <summary>Every operation that the API describes, as METHOD PATH.</summary>
    private async Task<IReadOnlyList<string>> RequestsAsync() =>
    [
        .. (await SendAsync("GET /openapi/v1.json", null)).Json["paths"]!.AsObject().SelectMany(path => path.Value!.AsObject().Select(operation =>
            $"{operation.Key.ToUpperInvariant()} {path.Key.Replace("{order_id}", "any", StringComparison.Ordinal)}")),
    ];

    private async Task<Answer> SendAsync(string line, AuthenticationHeaderValue? token)
    {
        using var request = Request(line, token);
        using var response = await api.Http.SendAsync(request, TestContext.Current.CancellationToken);
        return new Answer(
            response.StatusCode, await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken), response.Content.Headers.ContentType?.ToString(),
            null, null, null, false);
    }

    private static HttpRequestMessage Request(string line, AuthenticationHeaderValue? token)
    {
        var (method, path) = line.Split(' ') is [var verb, var target] ? (verb, target) : throw new ArgumentException("Not METHOD PATH.", nameof(line));
        var request = new HttpRequestMessage(HttpMethod.Parse(method), path) { Headers = { Authorization = token } };
        request.Headers.TryAddWithoutValidation("If-Match", "*");
        if (method is "POST" or "PATCH" or "PUT")
        {
            request.Content = new StringContent(OrdersApi.SampleOrder("any").ToJsonString(), Encoding.UTF8, "application/json");
        }

        return request;
    }
}
