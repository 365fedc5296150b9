using System.Net;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Time.Testing;
using Npgsql;
using Pipeline.Core;
using Pipeline.IntegrationTests;
using Pipeline.Loader.Tests;
using Pipeline.NativeServers;
using Pipeline.OrdersApi.Orders;

namespace Pipeline.OrdersApi.Tests;

/// <summary>GET /orders/{order_id}/warehouse: the API on a warehouse with the loader's tables, in which a test writes what is loaded.</summary>
public sealed class WarehouseTests(OrdersDatabase database, PostgresFixture postgres) : IAsyncLifetime
{
    private static readonly DateTimeOffset Created = new(2026, 11, 24, 8, 0, 0, TimeSpan.Zero);

    // In the precision that an order's times have.
    private readonly FakeTimeProvider _time = new(DateTimeOffset.FromUnixTimeMilliseconds(DateTimeOffset.UtcNow.ToUnixTimeMilliseconds()));
    private NpgsqlDataSource _warehouse = null!;
    private OrdersApi _api = null!;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _warehouse = await postgres.CreateDatabaseAsync();
        _api = new OrdersApi(database) { Warehouse = _warehouse.ConnectionString, Time = _time };
        await _api.InitializeAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _api.DisposeAsync();
        await _warehouse.DisposeAsync();
    }

    [Fact]
    public async Task A_version_is_visible_from_its_load_on()
    {
        var orderId = await _api.CreatedAsync();

        Assert.Equal($$"""{"order_id":"{{orderId}}","min_version":1,"visible":false,"removed":false,"waited_ms":0}""", await AskAsync(orderId, 1));

        await LoadAsync(orderId, 1, _time.GetUtcNow(), tookMs: 640);
        await LoadAsync(orderId, 2, _time.GetUtcNow(), tookMs: 710);
        Assert.Equal($$"""{"order_id":"{{orderId}}","min_version":1,"visible":true,"version":2,"removed":false,"took_ms":640,"waited_ms":0}""", await AskAsync(orderId, 1));
        Assert.Equal($$"""{"order_id":"{{orderId}}","min_version":2,"visible":true,"version":2,"removed":false,"took_ms":710,"waited_ms":0}""", await AskAsync(orderId, 2));
        Assert.Equal($$"""{"order_id":"{{orderId}}","min_version":3,"visible":false,"version":2,"removed":false,"waited_ms":0}""", await AskAsync(orderId, 3));
    }

    [Fact]
    public async Task Whoever_waits_is_answered_once_the_version_is_loaded()
    {
        var orderId = await _api.CreatedAsync();
        var created = _time.GetUtcNow();
        var answer = AskAsync(orderId, 1, waitMs: 5_000);
        await Eventually.TrueAsync(HasLookedAsync, TimeSpan.FromSeconds(30), () => "the API has looked and found nothing", Cancelled);

        await LoadAsync(orderId, 1, created, tookMs: 900);
        await PassAsync(until: () => answer.IsCompleted);

        var told = JsonNode.Parse(await answer)!;
        Assert.True((bool)told["visible"]!);
        Assert.InRange((long)told["waited_ms"]!, 100, 4_900);
    }

    [Fact]
    public async Task Nobody_waits_longer_than_asked()
    {
        var orderId = await _api.CreatedAsync();
        var answer = AskAsync(orderId, 1, waitMs: 350);

        await PassAsync(until: () => answer.IsCompleted);

        var told = JsonNode.Parse(await answer)!;
        Assert.False((bool)told["visible"]!);
        // And a look more, which takes long on a machine that is busy.
        Assert.InRange((long)told["waited_ms"]!, 350, 2_000);
    }

    [Fact]
    public async Task A_merchant_that_waits_for_many_versions_at_once_gets_429_and_another_one_is_answered()
    {
        var orderId = await _api.CreatedAsync();
        var order = OrdersApi.SampleOrder("of-another");
        order["merchant_id"] = "shop-2";
        await _api.SendAsAsync("shop-2", HttpMethod.Post, "/orders", order);

        // Time stands still, so nobody's patience ends: the first to be answered is the one that is too many.
        var waiting = Enumerable.Range(0, MerchantLimits.WarehouseQuestionsMax + 1)
            .Select(_ => _api.SendAsync(HttpMethod.Get, $"/orders/{orderId}/warehouse?min_version=1&wait_ms=200")).ToList();
        var first = await Task.WhenAny(waiting);
        waiting.Remove(first);
        var refused = await first;
        var others = await _api.SendAsAsync("shop-2", HttpMethod.Get, "/orders/of-another/warehouse?min_version=1");

        refused.Problem(HttpStatusCode.TooManyRequests, "too-many-requests");
        Assert.Equal(("1", HttpStatusCode.OK), (refused.RetryAfter, others.Status));
        Assert.DoesNotContain(waiting, answer => answer.IsCompleted);
        await PassAsync(until: () => waiting.TrueForAll(answer => answer.IsCompleted));
        Assert.All(await Task.WhenAll(waiting), answer => Assert.Equal(HttpStatusCode.OK, answer.Status));
        await AskAsync(orderId, 1);
    }

    [Fact]
    public async Task What_was_loaded_of_an_earlier_life_does_not_count()
    {
        var yesterday = _time.GetUtcNow().AddDays(-1);
        var orderId = await _api.CreatedAsync();
        await LoadAsync(orderId, 7, yesterday, tookMs: 300);
        Assert.Equal($$"""{"order_id":"{{orderId}}","min_version":1,"visible":false,"removed":false,"waited_ms":0}""", await AskAsync(orderId, 1));

        await LoadAsync(orderId, 1, _time.GetUtcNow(), tookMs: 640);
        Assert.Equal($$"""{"order_id":"{{orderId}}","min_version":1,"visible":true,"version":1,"removed":false,"took_ms":640,"waited_ms":0}""", await AskAsync(orderId, 1));
    }

    [Fact]
    public async Task A_removed_order_is_known_to_its_own_merchant_alone()
    {
        await LoadAsync("gone", 2, Created, tookMs: 500, isDeleted: true);

        Assert.Equal("""{"order_id":"gone","min_version":2,"visible":true,"version":2,"removed":true,"took_ms":500,"waited_ms":0}""", await AskAsync("gone", 2));
        (await _api.SendAsAsync("shop-2", HttpMethod.Get, "/orders/gone/warehouse?min_version=2")).Problem(HttpStatusCode.NotFound, "order-not-found");
        (await _api.SendAsync(HttpMethod.Get, "/orders/never/warehouse?min_version=1")).Problem(HttpStatusCode.NotFound, "order-not-found");
    }

    [Fact]
    public async Task Another_merchants_order_is_not_there_though_the_warehouse_has_it()
    {
        var orderId = await _api.CreatedAsync();
        await LoadAsync(orderId, 1, _time.GetUtcNow(), tookMs: 500);

        (await _api.SendAsAsync("shop-2", HttpMethod.Get, $"/orders/{orderId}/warehouse?min_version=1")).Problem(HttpStatusCode.NotFound, "order-not-found");
    }

    [Fact]
    public async Task A_warehouse_that_does_not_answer_is_a_503_and_the_orders_are_served()
    {
        await using var api = new OrdersApi(database) { Warehouse = $"Host=127.0.0.1;Port={LoopbackPorts.Free()};Username=postgres;Database=warehouse" };
        await api.InitializeAsync();
        var orderId = await api.CreatedAsync();

        var answer = await api.SendAsync(HttpMethod.Get, $"/orders/{orderId}/warehouse?min_version=1&wait_ms=5000");

        answer.Problem(HttpStatusCode.ServiceUnavailable, "warehouse-unavailable");
        Assert.Equal("1", answer.RetryAfter);
        Assert.Equal(HttpStatusCode.OK, (await api.GetAsync(orderId)).Status);
    }

    [Fact]
    public async Task An_API_that_does_not_know_the_warehouse_says_so()
    {
        await using var api = new OrdersApi(database);
        await api.InitializeAsync();
        var orderId = await api.CreatedAsync();

        (await api.SendAsync(HttpMethod.Get, $"/orders/{orderId}/warehouse?min_version=1&wait_ms=5000")).Problem(HttpStatusCode.NotImplemented, "warehouse-not-configured");
    }

    [Theory]
    [InlineData("", "min_version")]
    [InlineData("min_version=0", "min_version")]
    [InlineData("min_version=1.0", "min_version")]
    [InlineData("min_version=%2B1", "min_version")]
    [InlineData("min_version=1&min_version=1", "min_version")]
    [InlineData("min_version=1000000001", "min_version")]
    [InlineData("min_version=1&wait_ms=5001", "wait_ms")]
    [InlineData("min_version=1&wait_ms=-1", "wait_ms")]
    [InlineData("min_version=1&wait_ms=", "wait_ms")]
    [InlineData("min_version=1&wait=1", "wait")]
    [InlineData("wait_ms=a", "min_version wait_ms")]
    public async Task Bad_parameters_are_named(string query, string faults) =>
        (await _api.SendAsync(HttpMethod.Get, $"/orders/o-1/warehouse?{query}")).Invalid(faults.Split(' '));

    [Fact]
    public async Task An_id_that_is_none_is_404() =>
        (await _api.SendAsync(HttpMethod.Get, "/orders/a.b/warehouse?min_version=1")).Problem(HttpStatusCode.NotFound, "order-not-found");

    [Fact]
    public void A_connection_string_that_is_none_is_refused_and_not_shown()
    {
        var error = Assert.Throws<InvalidOperationException>(() => WarehouseView.Of("Hots=x;Password=hunter2"));

        Assert.DoesNotContain("hunter2", error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void The_version_asked_for_or_a_later_one_is_visible()
    {
        Assert.Equal((false, 1L, null), Seen(2, Order(2), Shown(1)));
        Assert.Equal((true, 2L, 500L), Seen(2, Order(2), Shown(2, tookMs: 500)));
        Assert.Equal((true, 3L, 500L), Seen(2, Order(3), Shown(3, tookMs: 500)));
        Assert.Equal((false, null, null), Seen(1, Order(1), null));
    }

    [Fact]
    public void A_clock_ahead_of_the_warehouses_gives_no_time_below_zero() => Assert.Equal((true, 1L, 0L), Seen(1, Order(1), Shown(1, tookMs: -3)));

    [Fact]
    public void What_is_shown_of_an_earlier_life_does_not_count()
    {
        Assert.Equal((false, null, null), Seen(1, Order(1), Shown(7, tookMs: 500) with { CreatedAt = Created.AddDays(-1) }));
        Assert.Equal((false, null, null), Seen(1, Order(1), Shown(7) with { IsDeleted = true }));
    }

    [Fact]
    public void Of_a_removed_order_the_removal_is_told()
    {
        var before = WarehouseEndpoint.Of("o-1", 2, null, Shown(2, tookMs: 500), TimeSpan.FromMilliseconds(30));
        var after = WarehouseEndpoint.Of("o-1", 2, null, Shown(2, tookMs: 500) with { IsDeleted = true }, TimeSpan.FromMilliseconds(30));

        Assert.Equal(new Visibility { OrderId = "o-1", MinVersion = 2, Visible = true, Version = 2, Removed = false, TookMs = 500, WaitedMs = 30 }, before);
        Assert.Equal(before with { Removed = true }, after);
    }

    private async Task<string> AskAsync(string orderId, long minVersion, int waitMs = 0)
    {
        var answer = await _api.SendAsync(HttpMethod.Get, $"/orders/{orderId}/warehouse?min_version={minVersion}&wait_ms={waitMs}");
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        return answer.Body;
    }

    private async Task<bool> HasLookedAsync()
    {
        await using var query = _warehouse.CreateCommand(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'orders-api' AND state = 'idle' AND query LIKE '%order_changes%'");
        return (bool)(await query.ExecuteScalarAsync(Cancelled))!;
    }

    /// <summary>The API's time goes on, in steps shorter than its pauses, and no faster than ours: it also passes while a look takes its time.</summary>
    private async Task PassAsync(Func<bool> until)
    {
        while (!until())
        {
            _time.Advance(TimeSpan.FromMilliseconds(20));
            await Task.Delay(TimeSpan.FromMilliseconds(20), Cancelled);
        }
    }

    /// <summary>As the loader does: the change, and the order's row.</summary>
    private async Task LoadAsync(string orderId, long version, DateTimeOffset createdAt, int tookMs, bool isDeleted = false)
    {
        await using var load = _warehouse.CreateCommand("""
            INSERT INTO order_changes (order_id, version, sequence_number, event_id, operation, changed_at, merchant_id, created_at, updated_at, document, loaded_at)
            VALUES ($1, $2, $3, $3, 'modify', $4, 'shop-1', $4, $4, '{}', $5);
            """);
        await using var merge = _warehouse.CreateCommand("""
            INSERT INTO orders (order_id, version, sequence_number, is_deleted, changed_at, merchant_id, created_at, updated_at, document, loaded_at)
            VALUES ($1, $2, $3, $6, $4, 'shop-1', $4, $4, '{}', $5)
            ON CONFLICT (order_id) DO UPDATE SET version = excluded.version, created_at = excluded.created_at, is_deleted = excluded.is_deleted
            """);
        foreach (var command in (NpgsqlCommand[])[load, merge])
        {
            object[] values = [orderId, version, $"{version:D40}", createdAt, createdAt.AddMilliseconds(tookMs), isDeleted];
            foreach (var value in values.Take(command == load ? 5 : 6))
            {
                command.Parameters.Add(new NpgsqlParameter { Value = value });
            }

            await command.ExecuteNonQueryAsync(Cancelled);
        }
    }

    private static (bool Visible, long? Version, long? TookMs) Seen(long minVersion, Order order, ShownOrder? shown)
    {
        var visibility = WarehouseEndpoint.Of("o-1", minVersion, order, shown, TimeSpan.Zero);
        return (visibility.Visible, visibility.Version, visibility.TookMs);
    }

    private static ShownOrder Shown(long version, long? tookMs = null) => new(
        version, IsDeleted: false, OrdersApi.Merchant, Created, tookMs is { } took ? new LoadedChange(Created, Created.AddMilliseconds(took)) : null);

    private static Order Order(long version) => new()
    {
        OrderId = "o-1",
        MerchantId = OrdersApi.Merchant,
        CustomerId = "c-1",
        Customer = new Customer { CustomerId = "c-1" },
        Status = OrderStatus.Created,
        Currency = "BRL",
        Items = [],
        Payments = [],
        TotalAmount = 0,
        CreatedAt = Created,
        UpdatedAt = Created,
        Version = version,
    };
}
