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
        (await _api.SendAsync(HttpMethod.Get, "/orders?customer_id=%00&limit=x&cursor=x")).Invalid("customer_id", "limit", "cursor");

    [Fact]
    public async Task A_cursor_of_another_customer_or_one_that_was_touched_is_a_400()
    {
        await CreateAsync("ann", 3);
        var (_, next) = await ListAsync("customer_id=ann&limit=1");
        var json = Encoding.UTF8.GetString(Base64Url.DecodeFromChars(next));
        Assert.Equal(200, (int)(await _api.SendAsync(HttpMethod.Get, $"/orders?customer_id=ann&cursor={next}")).Status);

        string[] touched =
        [
            "",
            "x",
            "!!!!",
            next + "A",
            next!.ToUpperInvariant(),
            Encode("null"),
            Encode("{}"),
            Encode("[1]"),
            Encode(json + " "),
            Encode(json.Replace("ann", "bob", StringComparison.Ordinal)),
            Encode(json.Replace("2026-05-04T12:00:02.000Z", "yesterday", StringComparison.Ordinal)),
            Encode(json.Replace("\"order_id\":\"", "\"order_id\":\"?", StringComparison.Ordinal)),
            Encode(json.Replace("}", ",\"more\":1}", StringComparison.Ordinal)),
        ];
        foreach (var cursor in touched)
        {
            (await _api.SendAsync(HttpMethod.Get, $"/orders?customer_id=ann&cursor={Uri.EscapeDataString(cursor)}")).Invalid("cursor");
        }

        (await _api.SendAsync(HttpMethod.Get, $"/orders?customer_id=bob&cursor={next}")).Invalid("cursor");
    }

    private static readonly System.Text.Json.JsonSerializerOptions Relaxed = new()
    {
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    private static string Encode(string json) => Base64Url.EncodeToString(Encoding.UTF8.GetBytes(json));

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
