using System.Diagnostics;
using System.Globalization;
using System.Net;
using Pipeline.Core;
using Pipeline.Ops;
using Pipeline.Ops.Seed;

namespace Pipeline.OrdersApi.Tests;

public sealed class SeedRunTests(OrdersDatabase database) : IAsyncLifetime
{
    private readonly OrdersApi _api = new(database);
    private readonly UnreliableNetwork _network = new();

    public ValueTask InitializeAsync() => _api.InitializeAsync();

    public async ValueTask DisposeAsync()
    {
        _network.Dispose();
        await _api.DisposeAsync();
    }

    [Fact]
    public async Task Every_planned_order_comes_to_its_end_and_every_write_is_counted()
    {
        var plan = GeneratedPlan.Of(80, seed: 3).Select((order, index) => order with { Remove = index % 10 == 0 }).ToList();

        var report = await RunAsync(plan);

        Assert.True(report.IsClean);
        Assert.Equal((80, 0, 0), (report.Complete, report.CompleteBefore, report.NotFinished));
        Assert.Equal(
            (80, plan.Sum(order => order.Statuses.Count), 8),
            (report.Created, report.StatusChanges, report.Removed));
        await TableIsAsPlannedAsync(plan);
    }

    [Fact]
    public async Task Whatever_is_lost_on_the_way_nothing_is_done_twice_and_the_count_of_accepted_writes_is_exact()
    {
        var plan = GeneratedPlan.Of(120, seed: 4).Select((order, index) => order with { Remove = index % 4 == 0 }).ToList();
        var chance = new Random(20260504);
        var accepted = 0;
        _network.OnRequest = async (_, send) =>
        {
            double lot;
            lock (chance)
            {
                lot = chance.NextDouble();
            }

            if (lot < 0.1)
            {
                throw new HttpRequestException("Connection refused");
            }

            if (lot < 0.15)
            {
                return new HttpResponseMessage(HttpStatusCode.ServiceUnavailable);
            }

            var answer = await send();
            if (answer.RequestMessage!.Method != HttpMethod.Get && answer.IsSuccessStatusCode && !answer.Headers.Contains("Idempotent-Replayed"))
            {
                Interlocked.Increment(ref accepted);
            }

            return lot switch
            {
                < 0.25 => throw new HttpRequestException("The connection was reset"),
                < 0.3 => new HttpResponseMessage(HttpStatusCode.ServiceUnavailable),
                < 0.35 => throw new TaskCanceledException("The answer took too long"),
                _ => answer,
            };
        };

        var report = await RunAsync(plan);

        Assert.True(report.IsClean, string.Join(' ', report.Failed.Concat(report.Refused).Select(tally => tally.What)));
        Assert.Equal(plan.Count + plan.Sum(order => order.Statuses.Count + (order.Remove ? 1 : 0)), report.AcceptedWrites);
        Assert.Equal(accepted, report.AcceptedWrites);
        Assert.InRange(report.AnswersLost, 50, 300);
        await TableIsAsPlannedAsync(plan);
    }

    [Fact]
    public async Task A_second_run_finds_all_done_and_writes_nothing()
    {
        var plan = GeneratedPlan.Of(30, seed: 5).Select(order => order with { Remove = false }).ToList();
        await RunAsync(plan);
        var before = await _api.AllItemsAsync();

        var report = await RunAsync(plan);

        Assert.True(report.IsClean);
        Assert.Equal((0, 30, 0), (report.Complete, report.CompleteBefore, report.AcceptedWrites));
        Assert.Equal(before, await _api.AllItemsAsync());
    }

    [Fact]
    public async Task A_run_that_was_interrupted_goes_on_where_each_order_stands()
    {
        // Without removals: an order that is gone again cannot be told from one that never was.
        var plan = GeneratedPlan.Of(40, seed: 6).Where(order => !order.Remove).ToList();
        var whole = plan.Count + plan.Sum(order => order.Statuses.Count);
        using var interrupt = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        _network.OnRequest = async (number, send) =>
        {
            if (number == 60)
            {
                await interrupt.CancelAsync();
            }

            // What is on its way at the interruption is accepted, and must be counted.
            return await send();
        };
        var first = await RunAsync(plan, interrupt.Token);
        _network.OnRequest = null;
        var kept = (await _api.AllItemsAsync()).Length;

        var second = await RunAsync(plan);

        Assert.False(first.IsClean);
        Assert.Equal("It was interrupted.", first.GivenUp);
        Assert.InRange(first.NotFinished, 1, plan.Count - 1);
        Assert.True(second.IsClean);
        Assert.InRange(second.Resumed, 1, plan.Count - 1);
        Assert.Equal(plan.Count, second.Complete + second.CompleteBefore);
        Assert.Equal(whole, first.AcceptedWrites + second.AcceptedWrites);
        Assert.Equal(plan.Count - kept, second.Created);
        await TableIsAsPlannedAsync(plan);
    }

    [Fact]
    public async Task An_order_of_an_earlier_run_is_not_counted_again_though_the_first_attempt_went_wrong()
    {
        var plan = new[] { Planned("o-1", OrderStatus.Approved) };
        await RunAsync(plan);
        _network.OnRequest = (number, send) => number == 1 ? throw new HttpRequestException("Connection refused") : send();

        var report = await RunAsync(plan);

        Assert.Equal((1, 0, 1), (report.CompleteBefore, report.AcceptedWrites, report.Retries));
    }

    [Theory]
    [InlineData(OrdersApi.Merchant, "another order has its order_id")]
    [InlineData("shop-2", "another merchant has its order_id, or it was removed meanwhile")]
    public async Task An_order_that_is_somebody_elses_is_left_alone(string merchant, string why)
    {
        await _api.CreateAsync(OrdersApi.SampleOrder("taken"));
        var before = await _api.AllItemsAsync();
        var planned = Planned("taken", OrderStatus.Approved);

        var report = await RunAsync([planned with { Order = planned.Order with { MerchantId = merchant } }]);

        Assert.Equal((why, 1), Single(report.Failed));
        Assert.Equal(0, report.AcceptedWrites);
        Assert.Equal(before, await _api.AllItemsAsync());
    }

    [Fact]
    public async Task A_change_by_somebody_else_in_between_ends_the_order_as_failed()
    {
        _network.OnRequest = async (number, send) =>
        {
            if (number == 2)
            {
                // Somebody else has another trace.
                var ours = Activity.Current;
                Activity.Current = null;
                Assert.Equal(HttpStatusCode.OK, (await _api.ChangeStatusAsync("contested", "approved", "*")).Status);
                Activity.Current = ours;
            }

            return await send();
        };

        var report = await RunAsync([Planned("contested", OrderStatus.Approved, OrderStatus.Shipped)]);

        Assert.Equal(("somebody else changed it meanwhile", 1), Single(report.Failed));
        Assert.Equal((1, 0), (report.Created, report.StatusChanges));
    }

    [Fact]
    public async Task What_the_API_refuses_is_told_with_its_reason_and_the_others_go_on()
    {
        var bad = Planned("bad");
        bad = bad with { Order = bad.Order with { Currency = "ZZZ" } };

        var report = await RunAsync([bad, Planned("illegal", OrderStatus.Delivered), Planned("good", OrderStatus.Approved)]);

        Assert.False(report.IsClean);
        Assert.Equal(1, report.Complete);
        Assert.Equal(
            ["400 The request is not valid.; #/currency must be the code of a currency in ISO 4217, three upper-case letters", "409 The order cannot take this status."],
            report.Refused.Select(tally => tally.What).Order());
    }

    [Fact]
    public async Task An_API_that_stays_away_ends_the_run_and_what_was_not_sent_is_counted()
    {
        var plan = GeneratedPlan.Of(20, seed: 9).ToList();
        _network.OnRequest = (number, send) => number > 30 ? throw new HttpRequestException("Connection refused") : send();

        var report = await RunAsync(plan, patience: TimeSpan.FromMilliseconds(200));

        Assert.False(report.IsClean);
        Assert.Contains("Connection refused", report.GivenUp, StringComparison.Ordinal);
        Assert.InRange(report.NotFinished, 1, 20);
        Assert.Equal(20, report.NotFinished + report.Complete);
    }

    private const int Concurrency = 8;

    private async Task<SeedReport> RunAsync(IReadOnlyList<PlannedOrder> plan, CancellationToken? cancellationToken = null, TimeSpan? patience = null)
    {
        _network.Requests = 0;
        using var http = new HttpClient(_network, disposeHandler: false) { BaseAddress = _api.Http.BaseAddress };
        return await SeedRun.RunAsync(
            new SeedPlan(plan, []), http, new ApiTokens(OrdersApi.Issuer), new SeedCounters(), Concurrency, TimeProvider.System, cancellationToken ?? TestContext.Current.CancellationToken, patience);
    }

    private async Task TableIsAsPlannedAsync(IReadOnlyList<PlannedOrder> plan)
    {
        foreach (var order in plan)
        {
            var item = await _api.ItemAsync(order.Order.OrderId);
            if (order.Remove)
            {
                Assert.Null(item);
                continue;
            }

            Assert.Equal((order.Statuses.Count + 1).ToString(CultureInfo.InvariantCulture), item!["version"].N);
            Assert.Equal(order.Statuses.LastOrDefault(OrderStatus.Created).ToString().ToLowerInvariant(), item["status"].S);
        }
    }

    private static PlannedOrder Planned(string orderId, params OrderStatus[] statuses)
    {
        var order = GeneratedPlan.Of(1, seed: 1).Single();
        return order with { Order = order.Order with { OrderId = orderId, MerchantId = OrdersApi.Merchant }, Statuses = statuses, Remove = false };
    }

    private static (string What, int Orders) Single(IReadOnlyList<Tally> tallies)
    {
        var tally = Assert.Single(tallies);
        return (tally.What, tally.Orders);
    }

    /// <summary>Between the seeder and the API: does to the n-th request what a test says.</summary>
    private sealed class UnreliableNetwork : DelegatingHandler
    {
        private int _requests;

        public UnreliableNetwork()
            : base(new SocketsHttpHandler())
        {
        }

        public int Requests { set => _requests = value; }

        public Func<int, Func<Task<HttpResponseMessage>>, Task<HttpResponseMessage>>? OnRequest { get; set; }

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            var number = Interlocked.Increment(ref _requests);
            // Once on its way a request arrives, whether or not the sender still waits for the answer.
            return OnRequest is { } fault ? fault(number, () => base.SendAsync(request, CancellationToken.None)) : base.SendAsync(request, cancellationToken);
        }
    }
}
