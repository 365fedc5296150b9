using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Time.Testing;
using Pipeline.OrdersApi.Orders;

namespace Pipeline.OrdersApi.Tests;

public sealed class IdempotencyTests(OrdersDatabase database) : IAsyncLifetime
{
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 5, 4, 12, 0, 0, TimeSpan.Zero));
    private OrdersApi _api = null!;

    public ValueTask InitializeAsync() => (_api = new OrdersApi(database) { Time = _time }).InitializeAsync();

    public ValueTask DisposeAsync() => _api.DisposeAsync();

    [Fact]
    public async Task A_repeated_request_gets_the_first_answer_to_the_byte_and_creates_nothing()
    {
        var first = await _api.CreateAsync(WithoutId(), "key-1");
        _time.Advance(TimeSpan.FromHours(24));

        var second = await _api.CreateAsync(WithoutId(), "key-1");

        Assert.Equal(HttpStatusCode.Created, first.Status);
        Assert.Equal(first with { IsReplay = true }, second);
        Assert.Equal($"/orders/{first.Json["order_id"]}", second.Location);
        Assert.Equal("\"1\"", second.ETag);
        Assert.Equal(first.Body, (await _api.GetAsync(first.Json["order_id"]!.GetValue<string>())).Body);
        Assert.Single(await _api.AllItemsAsync());
    }

    [Fact]
    public async Task Without_a_key_or_with_another_one_the_same_body_is_another_order()
    {
        await _api.CreateAsync(WithoutId());
        await _api.CreateAsync(WithoutId());
        await _api.CreateAsync(WithoutId(), "key-1");
        await _api.CreateAsync(WithoutId(), "KEY-1");

        Assert.Equal(4, (await _api.AllItemsAsync()).Length);
    }

    [Fact]
    public async Task The_same_order_written_differently_is_the_same_request()
    {
        var first = await _api.CreateAsync(WithoutId(), "key-1");
        var same = new JsonObject(WithoutId().Reverse().Select(field => KeyValuePair.Create(field.Key, field.Value?.DeepClone()))) { ["order_id"] = null };
        same["items"]![0]!["unit_price"] = JsonNode.Parse("1.9990e1");

        var second = await _api.CreateAsync(same, "key-1");

        Assert.Equal(first with { IsReplay = true }, second);
    }

    /// <summary>
    /// Records live for two days, so a deployment finds those of the version before it: what an order's fingerprint is made
    /// of may not change with the order's fields or its serializer, or honest repetitions are refused with 422. Should it
    /// have to, the operation's name is what tells old records from new ones.
    /// </summary>
    [Fact]
    public void The_same_request_has_the_same_fingerprint_in_every_version_of_the_API()
    {
        var order = OrdersApi.SampleOrder("order-1");
        order["items"]![1]!["quantity"] = 2;
        var canonical = NewOrder.Canonical(NewOrder.Decode(JsonElement.Parse(order.ToJsonString()), OrdersApi.Merchant));

        Assert.Equal("4b8d8e7a250798d60a3a5144e1d9d8a73f115ababee5d2bc26b01a32b8225de9", OrderCreation.Fingerprint("create_order", canonical));
        Assert.Equal("253a28053c65a9d1870a7e7ca2e942f958ba0f0a0efe68cbb567aff086a92dbd", OrderCreation.Fingerprint("create_orders", canonical, canonical));
    }

    [Theory]
    [InlineData("order_id", "\"other\"")]
    [InlineData("currency", "\"EUR\"")]
    [InlineData("payments", "[]")]
    [InlineData("customer", """{"customer_id":"customer-1"}""")]
    public async Task A_key_that_is_used_for_something_else_is_refused_with_422_and_nothing_is_written(string field, string value)
    {
        await _api.CreateAsync(WithoutId(), "key-1");
        var (orders, records) = (await _api.AllItemsAsync(), await _api.AllItemsAsync(_api.IdempotencyTableName));
        var other = WithoutId();
        other[field] = JsonNode.Parse(value);

        (await _api.CreateAsync(other, "key-1")).Problem(HttpStatusCode.UnprocessableEntity, "idempotency-key-reused");

        Assert.Equal(orders, await _api.AllItemsAsync());
        Assert.Equal(records, await _api.AllItemsAsync(_api.IdempotencyTableName));
    }

    [Fact]
    public async Task One_merchants_key_is_not_anothers()
    {
        var other = WithoutId();
        other["merchant_id"] = "shop-2";

        Assert.Equal(HttpStatusCode.Created, (await _api.CreateAsync(WithoutId(), "key-1")).Status);
        Assert.Equal(HttpStatusCode.Created, (await _api.SendAsAsync("shop-2", HttpMethod.Post, "/orders", other, ("Idempotency-Key", "key-1"))).Status);

        Assert.Equal(2, (await _api.AllItemsAsync()).Length);
    }

    [Fact]
    public async Task A_refusal_is_an_outcome_too_and_stays_one_when_its_reason_is_gone()
    {
        await _api.CreateAsync(OrdersApi.SampleOrder("taken"));

        var first = await _api.CreateAsync(OrdersApi.SampleOrder("taken"), "key-1");
        await _api.DeleteAsync("taken", "*");
        var second = await _api.CreateAsync(OrdersApi.SampleOrder("taken"), "key-1");

        first.Problem(HttpStatusCode.Conflict, "order-exists");
        Assert.Equal(first with { IsReplay = true }, second);
        Assert.Empty(await _api.AllItemsAsync());
    }

    [Fact]
    public async Task A_body_that_breaks_a_rule_does_not_use_up_its_key()
    {
        var wrong = WithoutId();
        wrong["currency"] = "ZZZ";
        (await _api.CreateAsync(wrong, "key-1")).Invalid("#/currency");

        Assert.Equal(HttpStatusCode.Created, (await _api.CreateAsync(WithoutId(), "key-1")).Status);
    }

    [Fact]
    public async Task An_outcome_is_replayed_for_48_hours_and_not_a_second_longer_though_its_record_is_still_there()
    {
        var first = await _api.CreateAsync(WithoutId(), "key-1");

        _time.Advance(TimeSpan.FromHours(48) - TimeSpan.FromSeconds(1));
        Assert.Equal(first.Body, (await _api.CreateAsync(WithoutId(), "key-1")).Body);
        _time.Advance(TimeSpan.FromSeconds(1));
        var anew = await _api.CreateAsync(WithoutId(), "key-1");

        Assert.Equal((HttpStatusCode.Created, false), (anew.Status, anew.IsReplay));
        Assert.NotEqual(first.Body, anew.Body);
        Assert.Equal(anew with { IsReplay = true }, await _api.CreateAsync(WithoutId(), "key-1"));
        Assert.Equal(2, (await _api.AllItemsAsync()).Length);
        var record = JsonNode.Parse(Assert.Single(await _api.AllItemsAsync(_api.IdempotencyTableName)))!;
        Assert.Equal(_time.GetUtcNow().AddHours(48).ToUnixTimeSeconds(), record["expires_at"]!.GetValue<long>());
    }

    [Fact]
    public async Task A_duplicate_while_the_first_request_is_at_work_is_told_so_with_409_and_a_time_to_come_again()
    {
        var reached = new TaskCompletionSource();
        var goOn = new TaskCompletionSource();
        _api.Network.OnCall = async (_, send) =>
        {
            reached.SetResult();
            await goOn.Task;
            return await send();
        };
        var first = _api.CreateAsync(WithoutId(), "key-1");
        await reached.Task;

        var duplicate = await _api.CreateAsync(WithoutId(), "key-1");
        _api.Network.OnCall = null;
        var otherKey = await _api.CreateAsync(WithoutId(), "key-2");
        goOn.SetResult();

        duplicate.Problem(HttpStatusCode.Conflict, "request-in-progress");
        Assert.Equal("1", duplicate.RetryAfter);
        Assert.Equal(HttpStatusCode.Created, otherKey.Status);
        Assert.Equal(HttpStatusCode.Created, (await first).Status);
        Assert.Equal(await first with { IsReplay = true }, await _api.CreateAsync(WithoutId(), "key-1"));
        Assert.Equal(2, (await _api.AllItemsAsync()).Length);
    }

    [Fact]
    public async Task A_transaction_that_meets_another_processs_is_answered_with_409_and_the_key_stays_free()
    {
        _api.Network.OnCall = (_, _) => CanceledAsync("TransactionConflict", "None");
        (await _api.CreateAsync(WithoutId(), "key-1")).Problem(HttpStatusCode.Conflict, "request-in-progress");
        _api.Network.OnCall = null;

        Assert.Equal(HttpStatusCode.Created, (await _api.CreateAsync(WithoutId(), "key-1")).Status);
    }

    [Fact]
    public async Task Of_64_duplicates_at_once_one_creates_the_order_and_all_that_are_answered_get_its_bytes()
    {
        var answers = await Task.WhenAll(Enumerable.Range(0, 64).Select(_ => _api.CreateAsync(WithoutId(), "key-1")));

        Assert.All(answers, answer => Assert.Contains(answer.Status, (HttpStatusCode[])[HttpStatusCode.Created, HttpStatusCode.Conflict]));
        Assert.Single(answers, answer => answer.Status == HttpStatusCode.Created && !answer.IsReplay);
        Assert.Single(answers.Where(answer => answer.Status == HttpStatusCode.Created).Select(answer => answer.Body).Distinct());
        Assert.All(answers.Where(answer => answer.Status == HttpStatusCode.Conflict), answer => answer.Problem(HttpStatusCode.Conflict, "request-in-progress"));
        Assert.Single(await _api.AllItemsAsync());
    }

    [Fact]
    public async Task A_creation_whose_answer_from_the_table_is_lost_is_a_201_and_no_replay()
    {
        _api.Network.LoseAnswerOf("TransactWriteItems");

        var created = await _api.CreateAsync(WithoutId(), "key-1");

        Assert.Equal((HttpStatusCode.Created, false), (created.Status, created.IsReplay));
        Assert.Equal(created with { IsReplay = true }, await _api.CreateAsync(WithoutId(), "key-1"));
        Assert.Single(await _api.AllItemsAsync());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Whether_a_request_died_before_or_after_its_transaction_the_repeated_one_leaves_one_order(bool after)
    {
        _api.Network.OnCall = async (_, send) =>
        {
            if (after)
            {
                (await send()).Dispose();
            }

            throw new HttpRequestException("The connection was reset");
        };
        (await _api.CreateAsync(WithoutId(), "key-1")).Problem(HttpStatusCode.ServiceUnavailable, "table-unavailable");
        _api.Network.OnCall = null;
        Assert.Equal(after ? 1 : 0, (await _api.AllItemsAsync()).Length);

        var repeated = await _api.CreateAsync(WithoutId(), "key-1");

        Assert.Equal((HttpStatusCode.Created, after), (repeated.Status, repeated.IsReplay));
        Assert.Equal(repeated.Body, (await _api.GetAsync(repeated.Json["order_id"]!.GetValue<string>())).Body);
        Assert.Single(await _api.AllItemsAsync());
    }

    [Fact]
    public async Task A_request_that_died_before_its_refusal_was_kept_begins_anew()
    {
        await _api.CreateAsync(OrdersApi.SampleOrder("taken"));
        _api.Network.OnCall = (operation, send) => operation == "PutItem" ? throw new HttpRequestException("The connection was reset") : send();
        (await _api.CreateAsync(OrdersApi.SampleOrder("taken"), "key-1")).Problem(HttpStatusCode.ServiceUnavailable, "table-unavailable");
        _api.Network.OnCall = null;

        var repeated = await _api.CreateAsync(OrdersApi.SampleOrder("taken"), "key-1");

        repeated.Problem(HttpStatusCode.Conflict, "order-exists");
        Assert.False(repeated.IsReplay);
    }

    [Fact]
    public async Task A_refusal_that_comes_too_late_gives_way_to_the_outcome_that_is_there()
    {
        await _api.CreateAsync(OrdersApi.SampleOrder("taken"));
        Answer? meanwhile = null;
        _api.Network.OnCall = async (operation, send) =>
        {
            if (operation == "PutItem" && meanwhile is null)
            {
                // Another process had the order removed, and then created it with this key.
                _api.Network.OnCall = null;
                await _api.DeleteAsync("taken", "*");
                await using var other = _api.Sibling();
                await other.InitializeAsync();
                meanwhile = await other.CreateAsync(OrdersApi.SampleOrder("taken"), "key-1");
            }

            return await send();
        };

        var late = await _api.CreateAsync(OrdersApi.SampleOrder("taken"), "key-1");

        Assert.Equal(HttpStatusCode.Created, meanwhile!.Status);
        Assert.Equal(meanwhile with { IsReplay = true }, late);
    }

    [Theory]
    [InlineData("ThrottlingError")]
    [InlineData("ProvisionedThroughputExceeded")]
    public async Task A_throttled_transaction_is_a_503_that_says_when_to_come_again(string reason)
    {
        _api.Network.OnCall = (_, _) => CanceledAsync("None", reason);

        var answer = await _api.CreateAsync(WithoutId(), "key-1");

        answer.Problem(HttpStatusCode.ServiceUnavailable, "table-unavailable");
        Assert.Equal("1", answer.RetryAfter);
    }

    [Fact]
    public async Task A_key_takes_up_to_255_printable_characters()
    {
        var longest = string.Concat(Enumerable.Range(' ' + 1, '~' - ' ').Select(c => (char)c)).PadRight(255, '#');

        Assert.Equal(HttpStatusCode.Created, (await _api.CreateAsync(WithoutId(), longest)).Status);
        Assert.True((await _api.CreateAsync(WithoutId(), longest)).IsReplay);

        (await _api.CreateAsync(WithoutId(), longest + "x")).Invalid("Idempotency-Key");
        (await _api.CreateAsync(WithoutId(), "")).Invalid("Idempotency-Key");
        (await _api.CreateAsync(WithoutId(), "a\tb")).Invalid("Idempotency-Key");
        Assert.Single(await _api.AllItemsAsync());
    }

    private static JsonObject WithoutId()
    {
        var order = OrdersApi.SampleOrder();
        order.Remove("order_id");
        return order;
    }

    private static Task<HttpResponseMessage> CanceledAsync(string record, string order) => Task.FromResult(new HttpResponseMessage(HttpStatusCode.BadRequest)
    {
        Content = new StringContent(
            $$"""
            {"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"Transaction cancelled",
             "CancellationReasons":[{"Code":"{{record}}"},{"Code":"{{order}}"}]}
            """,
            Encoding.UTF8,
            "application/x-amz-json-1.0"),
    });
}
