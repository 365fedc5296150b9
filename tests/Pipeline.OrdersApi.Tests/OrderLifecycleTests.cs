using System.Diagnostics;
using System.Net;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Amazon.DynamoDBv2.DocumentModel;
using Microsoft.Extensions.Time.Testing;

namespace Pipeline.OrdersApi.Tests;

public sealed partial class OrderLifecycleTests(OrdersDatabase database) : IAsyncLifetime
{
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 5, 4, 12, 30, 15, TimeSpan.Zero).AddTicks(1_234_567));
    private OrdersApi _api = null!;

    public ValueTask InitializeAsync() => (_api = new OrdersApi(database) { Time = _time }).InitializeAsync();

    public ValueTask DisposeAsync() => _api.DisposeAsync();

    [Fact]
    public async Task A_new_order_is_answered_with_201_and_kept_as_it_is_shown()
    {
        var created = await _api.CreateAsync(OrdersApi.SampleOrder("order-1"));

        Assert.Equal(HttpStatusCode.Created, created.Status);
        Assert.Equal("/orders/order-1", created.Location);
        Assert.Equal("\"1\"", created.ETag);
        var traceParent = created.Json["trace_parent"]!.GetValue<string>();
        Assert.Matches(TraceParent(), traceParent);
        // Money as decimals without trailing zeros, names in snake_case, the customer's id at the top level too.
        const string Expected = """
            {"order_id":"order-1","merchant_id":"shop-1","customer_id":"customer-1",
             "customer":{"customer_id":"customer-1","name":"João da Silva 😀","email":"joao@example.org","document":"123.456.789-09","city":"São Paulo","state":"SP"},
             "status":"created","currency":"BRL",
             "items":[{"line":1,"product_id":"p-1","seller_id":"s-1","quantity":3,"unit_price":19.99,"freight":7.1},
                      {"line":2,"product_id":"p-2","seller_id":"s-2","quantity":1,"unit_price":100,"freight":0}],
             "payments":[{"sequence":1,"method":"pix","installments":1,"amount":167.07}],
             "total_amount":167.07,"created_at":"2026-05-04T12:30:15.123Z","updated_at":"2026-05-04T12:30:15.123Z","version":1}
            """;
        var expected = JsonNode.Parse(Expected)!;
        expected["trace_parent"] = traceParent;
        Assert.Equal(expected.ToJsonString(), created.Json.ToJsonString());

        var read = await _api.GetAsync("order-1");
        Assert.Equal((HttpStatusCode.OK, created.Body, "\"1\""), (read.Status, read.Body, read.ETag));
        var kept = JsonNode.Parse(Document.FromAttributeMap(await _api.ItemAsync("order-1")).ToJson());
        expected["customer_key"] = "shop-1#customer-1";
        expected["status_key"] = "shop-1#created";
        Assert.True(JsonNode.DeepEquals(expected, kept), kept!.ToJsonString());
    }

    [Fact]
    public async Task Numbers_written_differently_are_the_same_amount()
    {
        var body = OrdersApi.SampleOrder("amounts");
        var text = body.ToJsonString()
            .Replace("19.99", "1.9990e1", StringComparison.Ordinal)
            .Replace("\"freight\":7.1", "\"freight\":7.1000000000", StringComparison.Ordinal)
            .Replace("\"quantity\":3", "\"quantity\":3.0", StringComparison.Ordinal)
            .Replace("\"freight\":0", "\"freight\":-0.00", StringComparison.Ordinal);

        var created = await _api.SendAsync(HttpMethod.Post, "/orders", text);

        Assert.Equal(HttpStatusCode.Created, created.Status);
        Assert.Contains("""
            "quantity":3,"unit_price":19.99,"freight":7.1},
            """.Trim(), created.Body, StringComparison.Ordinal);
        var lines = (await _api.ItemAsync("amounts"))!["items"].L;
        Assert.Equal(["19.99", "7.1"], [lines[0].M["unit_price"].N, lines[0].M["freight"].N]);
        Assert.Equal("0", lines[1].M["freight"].N);
    }

    [Fact]
    public async Task The_largest_order_that_the_limits_allow_fits_an_item_and_keeps_every_digit()
    {
        var id = new string('x', 64);
        // Four bytes a character in UTF-8, the most there is.
        string Wide(int characters) => string.Concat(Enumerable.Repeat("😀", characters));
        var body = new JsonObject
        {
            ["order_id"] = new string('o', 64),
            ["merchant_id"] = id,
            ["customer"] = new JsonObject
            {
                ["customer_id"] = id,
                ["name"] = Wide(200),
                ["email"] = Wide(126) + "@" + Wide(127),
                ["document"] = new string('9', 32),
                ["city"] = Wide(100),
                ["state"] = Wide(100),
            },
            ["currency"] = "JPY",
            ["items"] = new JsonArray([.. Enumerable.Range(0, 200).Select(_ => new JsonObject
            {
                ["product_id"] = id,
                ["seller_id"] = id,
                ["quantity"] = 10_000,
                ["unit_price"] = 9_999_999.99m,
                ["freight"] = 9_999_999.99m,
            })]),
            ["payments"] = new JsonArray([.. Enumerable.Range(0, 50).Select(_ => new JsonObject
            {
                ["method"] = "not_defined",
                ["installments"] = 99,
                ["amount"] = 9_999_999.99m,
            })]),
        };

        var created = await _api.SendAsAsync(id, HttpMethod.Post, "/orders", body, ("Idempotency-Key", new string('k', 255)));

        Assert.Equal(HttpStatusCode.Created, created.Status);
        Assert.Equal("20001999979998", created.Json["total_amount"]!.ToJsonString());
        var read = await _api.SendAsAsync(id, HttpMethod.Get, $"/orders/{new string('o', 64)}");
        Assert.Equal(created.Body, read.Body);
        // The text of the item is larger than the item itself, whose limit is 400 KB.
        Assert.InRange(System.Text.Encoding.UTF8.GetByteCount(read.Body), 1, 100_000);
    }

    [Fact]
    public async Task An_order_may_have_no_items_no_payments_and_only_the_customers_id()
    {
        var body = OrdersApi.SampleOrder("empty");
        body["items"] = new JsonArray();
        body["payments"] = new JsonArray();
        body["customer"] = new JsonObject { ["customer_id"] = "c", ["name"] = null };

        var created = await _api.CreateAsync(body);

        Assert.Equal(HttpStatusCode.Created, created.Status);
        var read = await _api.GetAsync("empty");
        Assert.Equal(created.Body, read.Body);
        Assert.Equal("""{"customer_id":"c"}""", read.Json["customer"]!.ToJsonString());
        Assert.Equal("[]", read.Json["items"]!.ToJsonString());
        Assert.Equal("0", read.Json["total_amount"]!.ToJsonString());
    }

    [Fact]
    public async Task An_order_without_an_id_gets_a_UUID_of_version_7()
    {
        var body = OrdersApi.SampleOrder();
        body.Remove("order_id");

        var orderId = (await _api.CreateAsync(body)).Json["order_id"]!.GetValue<string>();

        Assert.Equal(7, Guid.ParseExact(orderId, "N").Version);
        Assert.Equal(HttpStatusCode.OK, (await _api.GetAsync(orderId)).Status);
    }

    [Fact]
    public async Task The_trace_of_the_caller_goes_on_in_the_order()
    {
        using var caller = new Activity("the caller").SetIdFormat(ActivityIdFormat.W3C).Start();

        Assert.Equal(HttpStatusCode.Created, (await _api.CreateAsync(OrdersApi.SampleOrder("traced"))).Status);

        var traceParent = (await _api.ItemAsync("traced"))!["trace_parent"].S;
        Assert.StartsWith($"00-{caller.TraceId}-", traceParent, StringComparison.Ordinal);
        Assert.DoesNotContain($"{caller.SpanId}", traceParent, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_status_change_writes_status_version_time_and_trace_and_nothing_else()
    {
        var created = await _api.CreateAsync(OrdersApi.SampleOrder("change"));
        _time.Advance(TimeSpan.FromSeconds(2));

        var changed = await _api.ChangeStatusAsync("change", "approved", created.ETag);

        Assert.Equal((HttpStatusCode.OK, "\"2\""), (changed.Status, changed.ETag));
        var expected = created.Json;
        expected["status"] = "approved";
        expected["version"] = 2;
        expected["updated_at"] = "2026-05-04T12:30:17.123Z";
        expected["trace_parent"] = changed.Json["trace_parent"]!.GetValue<string>();
        Assert.Equal(expected.ToJsonString(), changed.Json.ToJsonString());
        Assert.NotEqual(created.Json["trace_parent"]!.GetValue<string>(), changed.Json["trace_parent"]!.GetValue<string>());
        Assert.Equal(changed.Body, (await _api.GetAsync("change")).Body);
    }

    [Theory]
    [InlineData("*")]
    [InlineData("\"1\"")]
    [InlineData("\"7\", \"1\"")]
    [InlineData("W/\"1\", \"1\", \"unknown\"")]
    public async Task If_Match_takes_any_version_or_one_of_those_listed(string ifMatch)
    {
        var orderId = await _api.CreatedAsync();
        Assert.Equal("\"2\"", (await _api.ChangeStatusAsync(orderId, "shipped", ifMatch)).ETag);

        orderId = await _api.CreatedAsync();
        Assert.Equal(HttpStatusCode.NoContent, (await _api.DeleteAsync(orderId, ifMatch)).Status);
        Assert.Null(await _api.ItemAsync(orderId));
    }

    [Theory]
    [InlineData("\"2\"")]
    [InlineData("W/\"1\"")]
    [InlineData("\"01\"")]
    [InlineData("\"one\"")]
    [InlineData("\"\"")]
    [InlineData("\"99999999999999999999999999\"")]
    public async Task A_stale_If_Match_is_refused_with_412_and_nothing_is_written(string ifMatch)
    {
        var orderId = await _api.CreatedAsync();
        var before = await _api.AllItemsAsync();

        var change = await _api.ChangeStatusAsync(orderId, "approved", ifMatch);
        var delete = await _api.DeleteAsync(orderId, ifMatch);

        Assert.Equal(1, change.Problem(HttpStatusCode.PreconditionFailed, "stale-version")["version"]!.GetValue<int>());
        delete.Problem(HttpStatusCode.PreconditionFailed, "stale-version");
        Assert.Equal(before, await _api.AllItemsAsync());
    }

    [Theory]
    [InlineData("1")]
    [InlineData("\"1")]
    [InlineData("*, \"1\"")]
    [InlineData("\"1\" \"2\"")]
    [InlineData("")]
    [InlineData("\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\",\"14\",\"15\",\"16\",\"17\",\"18\",\"19\",\"20\",\"21\"")]
    public async Task A_malformed_If_Match_is_refused_with_400_and_nothing_is_written(string ifMatch)
    {
        var orderId = await _api.CreatedAsync();
        var before = await _api.AllItemsAsync();

        (await _api.ChangeStatusAsync(orderId, "approved", ifMatch)).Invalid("If-Match");
        (await _api.DeleteAsync(orderId, ifMatch)).Invalid("If-Match");

        Assert.Equal(before, await _api.AllItemsAsync());
    }

    [Fact]
    public async Task A_change_without_If_Match_is_refused_with_428_and_nothing_is_written()
    {
        var orderId = await _api.CreatedAsync();
        var before = await _api.AllItemsAsync();

        (await _api.ChangeStatusAsync(orderId, "approved", null)).Problem(HttpStatusCode.PreconditionRequired, "if-match-required");
        (await _api.DeleteAsync(orderId, null)).Problem(HttpStatusCode.PreconditionRequired, "if-match-required");

        Assert.Equal(before, await _api.AllItemsAsync());
    }

    [Theory]
    [InlineData("created", "created", "approved,processing,invoiced,shipped,canceled,unavailable")]
    [InlineData("created", "delivered", "approved,processing,invoiced,shipped,canceled,unavailable")]
    [InlineData("shipped", "approved", "delivered,canceled")]
    [InlineData("delivered", "canceled", "")]
    public async Task An_illegal_transition_is_refused_with_409_that_names_the_legal_ones(string from, string to, string allowed)
    {
        var orderId = await _api.CreatedAsync(from);
        var before = await _api.AllItemsAsync();

        var refused = await _api.ChangeStatusAsync(orderId, to, "*");

        var problem = refused.Problem(HttpStatusCode.Conflict, "illegal-transition");
        Assert.Equal(from, problem["order_status"]!.GetValue<string>());
        Assert.Equal(allowed, string.Join(',', problem["allowed"]!.AsArray().Select(status => status!.GetValue<string>())));
        Assert.Equal(before, await _api.AllItemsAsync());
    }

    [Fact]
    public async Task An_order_that_exists_is_refused_with_409_and_stays_as_it_is()
    {
        await _api.CreateAsync(OrdersApi.SampleOrder("twice"));
        var before = await _api.AllItemsAsync();
        var other = OrdersApi.SampleOrder("twice");
        other["currency"] = "EUR";

        var refused = await _api.CreateAsync(other);

        Assert.Equal("twice", refused.Problem(HttpStatusCode.Conflict, "order-exists")["order_id"]!.GetValue<string>());
        Assert.Equal(before, await _api.AllItemsAsync());
    }

    [Theory]
    [InlineData("missing")]
    [InlineData("not%20an%20id")]
    public async Task An_order_that_does_not_exist_is_404_and_none_comes_to_be(string orderId)
    {
        (await _api.GetAsync(orderId)).Problem(HttpStatusCode.NotFound, "order-not-found");
        (await _api.ChangeStatusAsync(orderId, "approved", "*")).Problem(HttpStatusCode.NotFound, "order-not-found");
        (await _api.ChangeStatusAsync(orderId, "approved", "\"1\"")).Problem(HttpStatusCode.NotFound, "order-not-found");
        (await _api.DeleteAsync(orderId, "*")).Problem(HttpStatusCode.NotFound, "order-not-found");
        (await _api.DeleteAsync(orderId, "\"1\"")).Problem(HttpStatusCode.NotFound, "order-not-found");
        Assert.Empty(await _api.AllItemsAsync());
    }

    [Fact]
    public async Task A_removed_order_is_gone_and_its_id_can_begin_a_new_life_at_version_1()
    {
        await _api.CreateAsync(OrdersApi.SampleOrder("again"));
        await _api.ChangeStatusAsync("again", "approved", "\"1\"");

        Assert.Equal(HttpStatusCode.NoContent, (await _api.DeleteAsync("again", "\"2\"")).Status);
        (await _api.GetAsync("again")).Problem(HttpStatusCode.NotFound, "order-not-found");
        Assert.Equal("\"1\"", (await _api.CreateAsync(OrdersApi.SampleOrder("again"))).ETag);
    }

    [Fact]
    public async Task An_item_that_something_else_wrote_is_a_500_that_tells_nothing()
    {
        await _api.PutItemAsync(new() { ["order_id"] = new("foreign"), ["merchant_id"] = new(OrdersApi.Merchant), ["note"] = new("secret") });

        var answer = await _api.GetAsync("foreign");

        Assert.Equal((HttpStatusCode.InternalServerError, "application/problem+json"), (answer.Status, answer.ContentType));
        Assert.DoesNotContain("secret", answer.Body, StringComparison.Ordinal);
        Assert.DoesNotContain("Exception", answer.Body, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("\"1\"", true)]
    [InlineData("W/\"1\"", true)]
    [InlineData("\"7\", \"1\"", true)]
    [InlineData("*", true)]
    [InlineData("\"2\"", false)]
    [InlineData("\"01\"", false)]
    public async Task A_read_of_a_version_that_the_caller_has_is_a_304_without_a_body(string ifNoneMatch, bool isKnown)
    {
        var orderId = await _api.CreatedAsync();

        var read = await _api.SendAsAsync(OrdersApi.Merchant, HttpMethod.Get, $"/orders/{orderId}", null, ("If-None-Match", ifNoneMatch));

        Assert.Equal((isKnown ? HttpStatusCode.NotModified : HttpStatusCode.OK, "\"1\""), (read.Status, read.ETag));
        Assert.Equal(isKnown ? "" : (await _api.GetAsync(orderId)).Body, read.Body);

        await _api.ChangeStatusAsync(orderId, "approved", "*");
        read = await _api.SendAsAsync(OrdersApi.Merchant, HttpMethod.Get, $"/orders/{orderId}", null, ("If-None-Match", "\"1\""));
        Assert.Equal((HttpStatusCode.OK, "\"2\""), (read.Status, read.ETag));
    }

    [Theory]
    [InlineData("1")]
    [InlineData("\"1")]
    [InlineData("\"1\" \"2\"")]
    public async Task A_malformed_If_None_Match_is_refused_with_400(string ifNoneMatch) =>
        (await _api.SendAsAsync(OrdersApi.Merchant, HttpMethod.Get, "/orders/any", null, ("If-None-Match", ifNoneMatch))).Invalid("If-None-Match");

    [Theory]
    [InlineData("application/json")]
    [InlineData("application/merge-patch+json")]
    public async Task A_patch_changes_the_details_that_it_names_takes_away_those_that_are_null_and_leaves_the_rest(string mediaType)
    {
        var created = await _api.CreateAsync(OrdersApi.SampleOrder("patched"));
        _time.Advance(TimeSpan.FromSeconds(2));

        var changed = await _api.SendAsync(
            HttpMethod.Patch, "/orders/patched", """{"customer":{"email":"j.silva@example.org","document":null,"city":"Olinda"}}""", "\"1\"", mediaType);

        Assert.Equal((HttpStatusCode.OK, "\"2\""), (changed.Status, changed.ETag));
        var expected = created.Json;
        expected["customer"] = JsonNode.Parse("""{"customer_id":"customer-1","name":"João da Silva 😀","email":"j.silva@example.org","city":"Olinda","state":"SP"}""");
        expected["version"] = 2;
        expected["updated_at"] = "2026-05-04T12:30:17.123Z";
        expected["trace_parent"] = changed.Json["trace_parent"]!.GetValue<string>();
        Assert.Equal(expected.ToJsonString(), changed.Json.ToJsonString());
        Assert.Equal(changed.Body, (await _api.GetAsync("patched")).Body);

        var last = await _api.SendAsync(HttpMethod.Patch, "/orders/patched", """{"customer":{"email":null}}""", "*", mediaType);
        Assert.Equal(["customer_id", "name", "city", "state"], last.Json["customer"]!.AsObject().Select(detail => detail.Key));
    }

    [Theory]
    [InlineData("""{}""", "#/customer")]
    [InlineData("""{"customer":{}}""", "#/customer")]
    [InlineData("""{"customer":null}""", "#/customer")]
    [InlineData("""{"customer":{"customer_id":"another"}}""", "#/customer/customer_id")]
    [InlineData("""{"customer":{"email":"nobody"}}""", "#/customer/email")]
    [InlineData("""{"customer":{"city":"a"},"status":"approved"}""", "#/status")]
    public async Task A_patch_of_anything_else_is_refused_with_400_and_nothing_is_written(string patch, string place)
    {
        var orderId = await _api.CreatedAsync();
        var before = await _api.AllItemsAsync();

        (await _api.SendAsync(HttpMethod.Patch, $"/orders/{orderId}", patch, "*")).Invalid(place);

        Assert.Equal(before, await _api.AllItemsAsync());
    }

    [Fact]
    public async Task A_patch_needs_If_Match_like_every_change()
    {
        var orderId = await _api.CreatedAsync("shipped");
        const string Patch = """{"customer":{"city":"Olinda"}}""";

        (await _api.SendAsync(HttpMethod.Patch, $"/orders/{orderId}", Patch)).Problem(HttpStatusCode.PreconditionRequired, "if-match-required");
        (await _api.SendAsync(HttpMethod.Patch, $"/orders/{orderId}", Patch, "\"1\"")).Problem(HttpStatusCode.PreconditionFailed, "stale-version");
        (await _api.SendAsync(HttpMethod.Patch, "/orders/missing", Patch, "*")).Problem(HttpStatusCode.NotFound, "order-not-found");
        Assert.Equal("\"3\"", (await _api.SendAsync(HttpMethod.Patch, $"/orders/{orderId}", Patch, "\"2\"")).ETag);
    }

    [GeneratedRegex("^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$")]
    private static partial Regex TraceParent();
}
