using System.Buffers.Text;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Time.Testing;

namespace Pipeline.OrdersApi.Tests;

public sealed class ListOrdersTests(OrdersDatabase database) : IAsyncLifetime
{
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 5, 4, 12, 0, 0, TimeSpan.Zero));
    private OrdersApi _api = null!;

    public ValueTask InitializeAsync() => (_api = new OrdersApi(database) { Time = _time }).InitializeAsync();

    public ValueTask DisposeAsync() => _api.DisposeAsync();

    [Fact]
    public async Task A_customers_orders_come_newest_first_and_nobody_elses()
    {
        var orders = await CreateAsync("ann", 5);
        await CreateAsync("bob", 2);

        var (page, next) = await ListAsync("customer_id=ann");

        Assert.Equal(orders.Reverse(), page.Select(order => order["order_id"]!.GetValue<string>()));
        Assert.Null(next);
        Assert.Equal((await _api.GetAsync(orders[^1])).Body, page[0].ToJsonString(Relaxed));
        Assert.Empty((await ListAsync("customer_id=nobody")).Page);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(6)]
    [InlineData(7)]
    [InlineData(100)]
    public async Task Pages_of_any_size_show_each_order_once_and_the_last_page_has_no_cursor(int limit)
    {
        // Three of them at the same instant: the index's order must still be one.
        var orders = await CreateAsync("ann", 3);
        orders = [.. orders, .. await CreateAsync("ann", 3, TimeSpan.Zero)];

        var pages = await AllPagesAsync($"customer_id=ann&limit={limit}");

        Assert.Equal((orders.Length + limit - 1) / limit, pages.Count);
        Assert.All(pages, page => Assert.InRange(page.Count, 1, limit));
        Assert.Equal(orders.Order(), pages.SelectMany(page => page).Order());
    }

    [Fact]
    public async Task The_pages_stay_the_same_while_orders_come_and_go()
    {
        var orders = await CreateAsync("ann", 6);

        var (first, next) = await ListAsync("customer_id=ann&limit=2");
        await CreateAsync("ann", 3);
        // The order at which the page ended: its place stays.
        Assert.Equal(HttpStatusCode.NoContent, (await _api.DeleteAsync(orders[4], "*")).Status);
        var (second, _) = await ListAsync($"customer_id=ann&limit=2&cursor={next}");

        Assert.Equal([orders[5], orders[4]], first.Select(Id));
        Assert.Equal([orders[3], orders[2]], second.Select(Id));
    }

    [Theory]
    [InlineData("", "customer_id")]
    [InlineData("customer_id=", "customer_id")]
    [InlineData("customer_id=a%20b", "customer_id")]
    [InlineData("customer_id=ann&customer_id=bob", "customer_id")]
    [InlineData("status=", "status")]
    [InlineData("status=Created", "status")]
    [InlineData("status=0", "status")]
    [InlineData("customer_id=ann&status=created", "status")]
    [InlineData("customer_id=ann&sort=asc", "sort")]
    [InlineData("customer_id=ann&limit=0", "limit")]
    [InlineData("customer_id=ann&limit=101", "limit")]
    [InlineData("customer_id=ann&limit=ten", "limit")]
    [InlineData("customer_id=ann&limit=-1", "limit")]
    [InlineData("customer_id=ann&limit=1e1", "limit")]
    [InlineData("customer_id=ann&limit=99999999999", "limit")]
    [InlineData("customer_id=ann&limit=", "limit")]
    public async Task A_wrong_query_is_a_400_that_names_the_parameter(string query, string parameter) =>
        (await _api.SendAsync(HttpMethod.Get, $"/orders?{query}")).Invalid(parameter);

    [Fact]
    public async Task Every_fault_of_a_query_is_told_at_once() =>
        (await _api.SendAsync(HttpMethod.Get, "/orders?customer_id=%00&limit=x&cursor=x")).Invalid("customer_id", "limit");

    [Fact]
    public async Task A_cursor_that_was_touched_or_made_up_is_a_400()
    {
        await CreateAsync("ann", 3);
        var (_, next) = await ListAsync("customer_id=ann&limit=1");
        Assert.Equal(200, (int)(await _api.SendAsync(HttpMethod.Get, $"/orders?customer_id=ann&limit=2&cursor={next}")).Status);
        var bytes = Base64Url.DecodeFromChars(next);

        // Each byte of it, the signature's and the position's, and the last bits of Base64 that mean nothing.
        var touched = Enumerable.Range(0, bytes.Length).Select(n =>
        {
            var changed = bytes.ToArray();
            changed[n] ^= 1;
            return Base64Url.EncodeToString(changed);
        });
        string[] madeUp =
        [
            "", "x", "!!!!", next + "A", next![..^1], next.ToUpperInvariant(),
            Base64Url.EncodeToString(bytes.AsSpan(32)), Base64Url.EncodeToString(new byte[32]), Base64Url.EncodeToString([.. new byte[32], .. bytes.AsSpan(32)]),
            new string('A', 4000),
        ];
        foreach (var cursor in touched.Concat(madeUp))
        {
            (await _api.SendAsync(HttpMethod.Get, $"/orders?customer_id=ann&cursor={Uri.EscapeDataString(cursor)}")).Invalid("cursor");
        }
    }

    [Fact]
    public async Task A_cursor_is_good_for_its_own_list_and_merchant_alone()
    {
        await CreateAsync("ann", 3);
        var (_, ofAnn) = await ListAsync("customer_id=ann&limit=1");
        var (_, ofCreated) = await ListAsync("status=created&limit=1");
        // A customer with the name of a status: the same value in two lists.
        await CreateAsync("created", 2);
        var (_, ofCustomerCreated) = await ListAsync("customer_id=created&limit=1");

        foreach (var (query, cursor) in ((string, string?)[])[
            ("customer_id=bob", ofAnn), ("status=created", ofAnn), ("status=approved", ofCreated), ("customer_id=ann", ofCreated),
            ("customer_id=created", ofCreated), ("status=created", ofCustomerCreated)])
        {
            (await _api.SendAsync(HttpMethod.Get, $"/orders?{query}&cursor={cursor}")).Invalid("cursor");
        }

        (await _api.SendAsAsync("shop-2", HttpMethod.Get, $"/orders?customer_id=ann&cursor={ofAnn}")).Invalid("cursor");
    }

    [Fact]
    public async Task Orders_with_a_status_come_newest_first_and_leave_the_list_with_it()
    {
        var orders = await CreateAsync("ann", 3);
        await CreateAsync("bob", 1);
        await _api.ChangeStatusAsync(orders[0], "approved", "*");
        await _api.ChangeStatusAsync(orders[2], "approved", "*");

        Assert.Equal([orders[2], orders[0]], (await ListAsync("status=approved")).Page.Select(Id));
        Assert.Equal(2, (await ListAsync("status=created")).Page.Count);
        Assert.Empty((await ListAsync("status=delivered")).Page);

        await _api.ChangeStatusAsync(orders[2], "canceled", "*");
        await _api.DeleteAsync(orders[0], "*");
        Assert.Empty((await ListAsync("status=approved")).Page);
        Assert.Equal([orders[2]], (await ListAsync("status=canceled")).Page.Select(Id));
    }

    [Fact]
    public async Task What_changed_between_the_index_and_the_read_is_shown_as_it_is_or_not_at_all()
    {
        var orders = await CreateAsync("ann", 4);
        _api.Network.OnCall = async (operation, send) =>
        {
            if (operation == "BatchGetItem")
            {
                _api.Network.OnCall = null;
                await _api.ChangeStatusAsync(orders[3], "approved", "*");
                await _api.DeleteAsync(orders[2], "*");
                await _api.SendAsAsync(OrdersApi.Merchant, HttpMethod.Patch, $"/orders/{orders[1]}", JsonNode.Parse("""{"customer":{"city":"Olinda"}}"""), ("If-Match", "*"));
            }

            return await send();
        };

        var (page, next) = await ListAsync("status=created&limit=3");

        Assert.Equal([orders[1]], page.Select(Id));
        Assert.Equal("Olinda", page[0]["customer"]!["city"]!.GetValue<string>());
        Assert.Equal([orders[0]], (await ListAsync($"status=created&limit=3&cursor={next}")).Page.Select(Id));
    }

    [Fact]
    public async Task An_order_whose_id_was_removed_and_taken_by_another_merchant_is_not_shown()
    {
        var orders = await CreateAsync("ann", 1);
        _api.Network.OnCall = async (operation, send) =>
        {
            if (operation == "BatchGetItem")
            {
                _api.Network.OnCall = null;
                await _api.DeleteAsync(orders[0], "*");
                var anothers = OrdersApi.SampleOrder(orders[0], "ann");
                anothers["merchant_id"] = "shop-2";
                Assert.Equal(HttpStatusCode.Created, (await _api.SendAsAsync("shop-2", HttpMethod.Post, "/orders", anothers)).Status);
            }

            return await send();
        };

        Assert.Empty((await ListAsync("customer_id=ann")).Page);
    }

    [Fact]
    public async Task Orders_that_the_table_leaves_out_for_now_are_asked_for_again_after_a_while_and_then_it_is_a_503()
    {
        var orders = await CreateAsync("ann", 3);
        var reads = new List<DateTimeOffset>();
        var leaveOut = 1;
        _api.Network.OnCall = async (operation, send) =>
        {
            if (operation != "BatchGetItem")
            {
                return await send();
            }

            reads.Add(_time.GetUtcNow());
            if (reads.Count > leaveOut)
            {
                return await send();
            }

            var unread = new JsonArray([.. orders.Select(order => new JsonObject { ["order_id"] = new JsonObject { ["S"] = order } })]);
            var answer = new JsonObject
            {
                ["Responses"] = new JsonObject(),
                ["UnprocessedKeys"] = new JsonObject { [_api.TableName] = new JsonObject { ["Keys"] = unread, ["ConsistentRead"] = true } },
            };
            return new HttpResponseMessage(HttpStatusCode.OK)
            {
                Content = new StringContent(answer.ToJsonString(), Encoding.UTF8, "application/x-amz-json-1.0"),
            };
        };

        Assert.Equal(3, (await PassingAsync(ListAsync("customer_id=ann"))).Page.Count);
        reads.Clear();
        leaveOut = int.MaxValue;
        (await PassingAsync(_api.SendAsync(HttpMethod.Get, "/orders?customer_id=ann"))).Problem(HttpStatusCode.ServiceUnavailable, "table-unavailable");
        Assert.Equal(3, reads.Count);
        Assert.All(reads.Zip(reads.Skip(1), (read, next) => next - read), pause => Assert.True(pause >= TimeSpan.FromMilliseconds(50), $"{pause}"));

        async Task<T> PassingAsync<T>(Task<T> answer)
        {
            while (!answer.IsCompleted)
            {
                _time.Advance(TimeSpan.FromMilliseconds(5));
                await Task.Delay(TimeSpan.FromMilliseconds(5), TestContext.Current.CancellationToken);
            }

            return await answer;
        }
    }

    private static readonly System.Text.Json.JsonSerializerOptions Relaxed = new()
    {
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    private static string Id(JsonNode order) => order["order_id"]!.GetValue<string>();

    private async Task<string[]> CreateAsync(string customerId, int count, TimeSpan? apart = null)
    {
        var orders = new List<string>();
        for (var i = 0; i < count; i++)
        {
            orders.Add(await _api.CreatedAsync(customerId: customerId));
            _time.Advance(apart ?? TimeSpan.FromSeconds(1));
        }

        return [.. orders];
    }

    private async Task<(IReadOnlyList<JsonNode> Page, string? Next)> ListAsync(string query)
    {
        var answer = await _api.SendAsync(HttpMethod.Get, $"/orders?{query}");
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        return ([.. answer.Json["orders"]!.AsArray().Select(order => order!)], answer.Json["next_cursor"]?.GetValue<string>());
    }

    private async Task<List<List<string>>> AllPagesAsync(string query)
    {
        var pages = new List<List<string>>();
        string? next = null;
        do
        {
            (var page, next) = await ListAsync(next is null ? query : $"{query}&cursor={next}");
            pages.Add([.. page.Select(Id)]);
        }
        while (next is not null);

        return pages;
    }
}
