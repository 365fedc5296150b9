using System.Net;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Time.Testing;

namespace Pipeline.OrdersApi.Tests;

public sealed class BatchTests(OrdersDatabase database) : IAsyncLifetime
{
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 5, 4, 12, 0, 0, TimeSpan.Zero));
    private OrdersApi _api = null!;

    public ValueTask InitializeAsync() => (_api = new OrdersApi(database) { Time = _time }).InitializeAsync();

    public ValueTask DisposeAsync() => _api.DisposeAsync();

    [Fact]
    public async Task A_hundred_orders_are_created_each_as_if_it_had_been_sent_alone()
    {
        var answer = await BatchAsync(Enumerable.Range(0, 100).Select(n => OrdersApi.SampleOrder($"order-{n}")));

        Assert.Equal((HttpStatusCode.OK, 100, 0), (answer.Status, Number(answer, "created"), Number(answer, "refused")));
        Assert.Equal(
            Enumerable.Range(0, 100).Select(n => $$"""{"index":{{n}},"status":201,"order_id":"order-{{n}}","version":1}"""),
            answer.Json["results"]!.AsArray().Select(result => result!.ToJsonString()));
        var alone = await _api.CreateAsync(OrdersApi.SampleOrder("alone"));
        var ofBatch = (await _api.GetAsync("order-42")).Json;
        ofBatch["order_id"] = "alone";
        ofBatch["trace_parent"] = alone.Json["trace_parent"]!.DeepClone();
        Assert.Equal(alone.Json.ToJsonString(), ofBatch.ToJsonString());
    }

    [Fact]
    public async Task What_is_wrong_with_one_order_is_told_at_its_place_and_keeps_none_of_the_others_out()
    {
        await _api.CreateAsync(OrdersApi.SampleOrder("taken"));
        var wrong = OrdersApi.SampleOrder("wrong");
        wrong["currency"] = "ZZZ";
        wrong["items"]![0]!["quantity"] = 0;
        var anothers = OrdersApi.SampleOrder("anothers");
        anothers["merchant_id"] = "shop-2";

        var answer = await BatchAsync([OrdersApi.SampleOrder("a"), wrong, OrdersApi.SampleOrder("taken"), JsonValue.Create(7), anothers, OrdersApi.SampleOrder("a"), OrdersApi.SampleOrder("b")]);

        Assert.Equal((HttpStatusCode.OK, 2, 5), (answer.Status, Number(answer, "created"), Number(answer, "refused")));
        Assert.Equal(
            [
                "0 201 a ", "1 400  urn:order-pipeline:problem:invalid-request", "2 409 taken urn:order-pipeline:problem:order-exists",
                "3 400  urn:order-pipeline:problem:invalid-request", "4 403 anothers urn:order-pipeline:problem:another-merchant",
                "5 409 a urn:order-pipeline:problem:order-exists", "6 201 b ",
            ],
            answer.Json["results"]!.AsArray().Select(result => $"{result!["index"]} {result["status"]} {result["order_id"]} {result["problem"]?["type"]}"));
        Assert.Equal(
            ["#/orders/1/currency", "#/orders/1/items/0/quantity"],
            answer.Json["results"]![1]!["problem"]!["errors"]!.AsArray().Select(error => error!["pointer"]!.GetValue<string>()));
        Assert.Equal(3, (await _api.AllItemsAsync()).Length);
    }

    [Theory]
    [InlineData("""{"orders":[]}""", "#/orders")]
    [InlineData("""{"orders":{}}""", "#/orders")]
    [InlineData("""{}""", "#/orders")]
    [InlineData("""[]""", "#")]
    [InlineData("""{"orders":[{}],"mode":"fast"}""", "#/mode")]
    public async Task A_body_that_is_no_batch_is_refused_whole(string body, string place)
    {
        (await _api.SendAsync(HttpMethod.Post, "/orders/batch", body)).Invalid(place);
        Assert.Empty(await _api.AllItemsAsync());
    }

    [Fact]
    public async Task More_than_100_orders_or_4_MB_are_refused_whole()
    {
        (await BatchAsync(Enumerable.Range(0, 101).Select(n => OrdersApi.SampleOrder($"order-{n}")))).Invalid("#/orders");
        var text = $$"""{"orders":[{{OrdersApi.SampleOrder().ToJsonString()}}]{{new string(' ', 4 * 1024 * 1024)}}}""";
        (await _api.SendAsync(HttpMethod.Post, "/orders/batch", text)).Problem(HttpStatusCode.RequestEntityTooLarge, "body-too-large");
        Assert.Empty(await _api.AllItemsAsync());

        text = $$"""{"orders":[{{OrdersApi.SampleOrder().ToJsonString()}}]{{new string(' ', 3 * 1024 * 1024)}}}""";
        Assert.Equal(HttpStatusCode.OK, (await _api.SendAsync(HttpMethod.Post, "/orders/batch", text)).Status);
    }

    [Fact]
    public async Task A_repeated_batch_gets_the_first_answer_to_the_byte_and_creates_nothing()
    {
        await _api.CreateAsync(OrdersApi.SampleOrder("taken"));
        JsonNode[] orders = [WithoutId(), WithoutId(), OrdersApi.SampleOrder("taken"), JsonValue.Create(7), OrdersApi.SampleOrder("a")];
        var first = await BatchAsync(orders, "key-1");
        await _api.DeleteAsync("taken", "*");
        await _api.DeleteAsync("a", "*");
        _time.Advance(TimeSpan.FromHours(24));

        var second = await BatchAsync(orders, "key-1");

        Assert.Equal((HttpStatusCode.OK, 3, false), (first.Status, Number(first, "created"), first.IsReplay));
        Assert.Equal(first with { IsReplay = true }, second);
        Assert.Equal(2, (await _api.AllItemsAsync()).Length);
    }

    [Theory]
    [InlineData("one more")]
    [InlineData("one less")]
    [InlineData("another order")]
    [InlineData("an invalid one that differs")]
    [InlineData("a single order")]
    public async Task A_key_that_is_used_for_something_else_is_refused_with_422_and_nothing_is_written(string what)
    {
        JsonNode[] orders = [WithoutId(), OrdersApi.SampleOrder("a"), JsonValue.Create(7)];
        await BatchAsync(orders, "key-1");
        var (before, records) = (await _api.AllItemsAsync(), await _api.AllItemsAsync(_api.IdempotencyTableName));

        var answer = what switch
        {
            "one more" => await BatchAsync([.. orders, WithoutId()], "key-1"),
            "one less" => await BatchAsync(orders[..^1], "key-1"),
            "another order" => await BatchAsync([orders[0], OrdersApi.SampleOrder("b"), orders[2]], "key-1"),
            "an invalid one that differs" => await BatchAsync([orders[0], orders[1], JsonValue.Create(8)], "key-1"),
            _ => await _api.CreateAsync(OrdersApi.SampleOrder("a"), "key-1"),
        };

        answer.Problem(HttpStatusCode.UnprocessableEntity, "idempotency-key-reused");
        Assert.Equal(before, await _api.AllItemsAsync());
        Assert.Equal(records, await _api.AllItemsAsync(_api.IdempotencyTableName));
        await _api.CreateAsync(WithoutId(), "key-2");
        (await BatchAsync([WithoutId()], "key-2")).Problem(HttpStatusCode.UnprocessableEntity, "idempotency-key-reused");
    }

    [Fact]
    public async Task Where_one_order_ends_and_the_next_begins_is_part_of_what_a_key_stands_for()
    {
        await BatchAsync([JsonValue.Create(12), JsonValue.Create(3)], "key-1");

        (await BatchAsync([JsonValue.Create(1), JsonValue.Create(23)], "key-1")).Problem(HttpStatusCode.UnprocessableEntity, "idempotency-key-reused");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(20)]
    [InlineData(21)]
    [InlineData(22)]
    public async Task A_batch_that_was_cut_off_after_any_of_its_writes_is_finished_by_the_repeated_one(int writes)
    {
        // Twenty orders: one record for the batch, twenty transactions, and the batch's results.
        JsonNode[] orders = [.. Enumerable.Range(0, 20).Select(_ => WithoutId())];
        var done = 0;
        _api.Network.OnCall = (_, send) => Interlocked.Increment(ref done) <= writes ? send() : throw new HttpRequestException("The process died");
        var cutOff = await BatchAsync(orders, "key-1");
        _api.Network.OnCall = null;
        var created = (await _api.AllItemsAsync()).Length;
        Assert.Equal(Math.Clamp(writes - 1, 0, 20), created);
        Assert.Equal(writes == 22 ? HttpStatusCode.OK : writes is 0 or 1 or 21 ? HttpStatusCode.ServiceUnavailable : HttpStatusCode.OK, cutOff.Status);

        var repeated = await BatchAsync(orders, "key-1");

        Assert.Equal((HttpStatusCode.OK, 20, writes == 22), (repeated.Status, Number(repeated, "created"), repeated.IsReplay));
        Assert.Equal(repeated with { IsReplay = true }, await BatchAsync(orders, "key-1"));
        var ids = repeated.Json["results"]!.AsArray().Select(result => result!["order_id"]!.GetValue<string>()).ToList();
        Assert.Equal(ids.Order(), (await _api.AllItemsAsync()).Select(item => JsonNode.Parse(item)!["order_id"]!.GetValue<string>()).Order());
    }

    [Fact]
    public async Task An_order_that_the_table_did_not_serve_has_status_503_and_the_batch_is_not_kept()
    {
        var calls = 0;
        _api.Network.OnCall = (operation, send) => operation == "TransactWriteItems" && Interlocked.Increment(ref calls) > 3 ? throw new HttpRequestException("Connection refused") : send();
        JsonNode[] orders = [.. Enumerable.Range(0, 40).Select(_ => WithoutId())];

        var first = await BatchAsync(orders, "key-1");
        _api.Network.OnCall = null;

        Assert.Equal((3, 37), (Number(first, "created"), Number(first, "refused")));
        Assert.Equal(37, first.Json["results"]!.AsArray().Count(result => result!["status"]!.GetValue<int>() == 503));
        // The first that is not served keeps the others from being tried: three attempts each for those on their way.
        Assert.InRange(calls, 4, 3 + (3 * 8));
        Assert.Equal(40, Number(await BatchAsync(orders, "key-1"), "created"));
        Assert.Equal(40, (await _api.AllItemsAsync()).Length);
    }

    [Fact]
    public async Task Of_many_equal_batches_at_once_in_two_processes_each_order_comes_to_be_once()
    {
        await using var other = _api.Sibling();
        await other.InitializeAsync();
        JsonNode[] orders = [.. Enumerable.Range(0, 20).Select(_ => WithoutId())];

        var answers = await Task.WhenAll(Enumerable.Range(0, 8).Select(n => BatchAsync(orders, "key-1", n % 2 == 0 ? _api : other)));
        var last = await BatchAsync(orders, "key-1");

        // One process runs a batch once; of two, each may run it, and then both tell of each order what they saw.
        Assert.All(answers, answer =>
        {
            if (answer.Status != HttpStatusCode.OK)
            {
                answer.Problem(HttpStatusCode.Conflict, "request-in-progress");
                return;
            }

            Assert.All(
                answer.Json["results"]!.AsArray(),
                result => Assert.Contains(
                    $"{result!["status"]} {result["problem"]?["type"]}", (IEnumerable<string>)["201 ", "409 urn:order-pipeline:problem:request-in-progress"]));
        });
        Assert.Contains(answers, answer => answer.Status == HttpStatusCode.OK);

        Assert.Equal(20, Number(last, "created"));
        Assert.Equal(20, (await _api.AllItemsAsync()).Length);
    }

    [Fact]
    public async Task A_record_of_a_batch_and_those_of_its_orders_end_at_the_same_second()
    {
        JsonNode[] orders = [WithoutId(), WithoutId()];
        _api.Network.OnCall = (operation, send) =>
        {
            _time.Advance(TimeSpan.FromMinutes(1));
            return send();
        };

        await BatchAsync(orders, "key-1");

        var ends = (await _api.AllItemsAsync(_api.IdempotencyTableName)).Select(record => JsonNode.Parse(record)!["expires_at"]!.GetValue<long>()).ToList();
        Assert.Equal(3, ends.Count);
        Assert.Single(ends.Distinct());
    }

    [Fact]
    public async Task A_merchant_that_goes_too_fast_gets_429_and_another_one_does_not()
    {
        await using var slow = new OrdersApi(database) { RequestsPerSecond = 100 };
        await slow.InitializeAsync();
        JsonNode[] Orders(string merchant) => [.. Enumerable.Range(0, 100).Select(_ =>
        {
            var order = WithoutId();
            order["merchant_id"] = merchant;
            return order;
        })];

        // The bucket holds 200 tokens and gets 100 a second: of five batches of 100 at once some must wait.
        var answers = await Task.WhenAll(Enumerable.Range(0, 5).Select(_ => BatchAsync(Orders(OrdersApi.Merchant), api: slow)));
        var others = await slow.SendAsAsync("shop-2", HttpMethod.Post, "/orders/batch", new JsonObject { ["orders"] = new JsonArray(Orders("shop-2")) });

        var refused = answers.Where(answer => answer.Status != HttpStatusCode.OK).ToList();
        Assert.NotEmpty(refused);
        Assert.All(refused, answer => answer.Problem(HttpStatusCode.TooManyRequests, "too-many-requests"));
        Assert.All(refused, answer => Assert.InRange(int.Parse(answer.RetryAfter!, System.Globalization.CultureInfo.InvariantCulture), 1, 2));
        Assert.Equal(100, Number(others, "created"));
    }

    private static JsonObject WithoutId()
    {
        var order = OrdersApi.SampleOrder();
        order.Remove("order_id");
        return order;
    }

    private static int Number(Answer answer, string member) => answer.Json[member]!.GetValue<int>();

    private Task<Answer> BatchAsync(IEnumerable<JsonNode> orders, string? key = null, OrdersApi? api = null) =>
        (api ?? _api).SendAsAsync(
            OrdersApi.Merchant, HttpMethod.Post, "/orders/batch",
            new JsonObject { ["orders"] = new JsonArray([.. orders.Select(order => order.DeepClone())]) },
            key is null ? [] : [("Idempotency-Key", key)]);
}
