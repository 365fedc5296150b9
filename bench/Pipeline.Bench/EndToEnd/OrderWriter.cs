using System.Diagnostics;
using System.Globalization;
using System.Net.Http.Headers;
using System.Text.Json;
using Pipeline.Ops.Seed;

namespace Pipeline.Bench;

/// <summary>
/// Clients of the API: each order with all that becomes of it, one write after the other. Orders are those of the input under ids
/// of their own, spread over some merchants, since the API bounds each one's rate.
/// </summary>
internal sealed class OrderWriter : IDisposable
{
    private const int Merchants = 16;

    /// <summary>Orders that are at work at a time in a paced run, so that the writes of one are some time apart.</summary>
    private const int OrdersAtOnce = 100;

    private readonly HttpClient _http;
    private readonly IReadOnlyList<(string Id, AuthenticationHeaderValue Token)> _merchants;
    private readonly IEnumerator<PlannedOrder> _orders;
    private readonly Lock _lock = new();
    private int _taken;

    public OrderWriter(ApiUnderTest api, Inputs inputs)
    {
        _http = new HttpClient(new SocketsHttpHandler { MaxConnectionsPerServer = OrdersAtOnce }) { BaseAddress = api.Url };
        _merchants = [.. Enumerable.Range(0, Merchants).Select(n => string.Create(CultureInfo.InvariantCulture, $"merchant-{n}")).Select(id => (id, api.TokenOf(id)))];
        _orders = inputs.Orders().GetEnumerator();
    }

    /// <summary>As fast as so many clients at a time can.</summary>
    /// <param name="clients">How many.</param>
    /// <param name="goesOn">Asked before each order, with the number of writes so far.</param>
    /// <param name="onWrite">Told each write, of any client.</param>
    /// <param name="cancellationToken">Ends it between two writes.</param>
    /// <returns>The last write of each order.</returns>
    public async Task<IReadOnlyCollection<Written>> WriteAsync(int clients, Func<long, bool> goesOn, Action<Written> onWrite, CancellationToken cancellationToken)
    {
        long writes = 0;
        var last = new List<Written>();
        await Task.WhenAll(Enumerable.Range(0, clients).Select(_ => Task.Run(
            async () =>
            {
                while (goesOn(Interlocked.Read(ref writes)))
                {
                    var order = Next();
                    Written written = default;
                    for (var step = 0; step <= order.Plan.Statuses.Count; step++)
                    {
                        written = await SendAsync(order, step, cancellationToken);
                        Interlocked.Increment(ref writes);
                        onWrite(written);
                    }

                    lock (last)
                    {
                        last.Add(written);
                    }
                }
            },
            cancellationToken)));
        return last;
    }

    /// <summary>At a given rate, whether the answers keep up or not.</summary>
    /// <param name="writes">How many, and those that complete the last orders.</param>
    /// <param name="perSecond">Writes a second.</param>
    /// <param name="cancellationToken">Ends it between two writes.</param>
    /// <returns>The last write of each order.</returns>
    public async Task<IReadOnlyCollection<Written>> WriteAtRateAsync(int writes, double perSecond, CancellationToken cancellationToken)
    {
        var orders = new List<(PlannedOrder Plan, int Merchant)>();
        for (var planned = 0; planned < writes; planned += orders[^1].Plan.Statuses.Count + 1)
        {
            orders.Add(Next());
        }

        var sent = new Dictionary<string, Task<Written>>(StringComparer.Ordinal);
        var started = Stopwatch.StartNew();
        var place = 0;
        foreach (var some in orders.Chunk(OrdersAtOnce))
        {
            for (var step = 0; some.Any(order => step <= order.Plan.Statuses.Count); step++)
            {
                foreach (var order in some.Where(order => step <= order.Plan.Statuses.Count))
                {
                    var pause = TimeSpan.FromSeconds(place++ / perSecond) - started.Elapsed;
                    if (pause > TimeSpan.Zero)
                    {
                        await Task.Delay(pause, cancellationToken);
                    }

                    var (which, before) = (step, sent.GetValueOrDefault(order.Plan.Order.OrderId));
                    sent[order.Plan.Order.OrderId] = Task.Run(
                        async () =>
                        {
                            await (before ?? Task.CompletedTask);
                            return await SendAsync(order, which, cancellationToken);
                        },
                        cancellationToken);
                }
            }
        }

        return await Task.WhenAll(sent.Values);
    }

    public void Dispose()
    {
        _http.Dispose();
        _orders.Dispose();
    }

    private (PlannedOrder Plan, int Merchant) Next()
    {
        lock (_lock)
        {
            _orders.MoveNext();
            var merchant = _taken++ % Merchants;
            var planned = _orders.Current;
            return (planned with { Order = planned.Order with { OrderId = Guid.CreateVersion7().ToString("N"), MerchantId = _merchants[merchant].Id } }, merchant);
        }
    }

    /// <param name="order">Whose.</param>
    /// <param name="step">0 creates it, each further one is a change of its status.</param>
    /// <param name="cancellationToken">Ends the wait for the answer.</param>
    private async Task<Written> SendAsync((PlannedOrder Plan, int Merchant) order, int step, CancellationToken cancellationToken)
    {
        var (planned, id) = (order.Plan, order.Plan.Order.OrderId);
        using var request = step == 0
            ? new HttpRequestMessage(HttpMethod.Post, "/orders") { Content = Json(JsonSerializer.SerializeToUtf8Bytes(planned.Order, SeedJsonContext.Default.NewOrder)) }
            : new HttpRequestMessage(HttpMethod.Put, $"/orders/{id}/status")
            {
                Content = Json(JsonSerializer.SerializeToUtf8Bytes(new StatusChange(planned.Statuses[step - 1]), SeedJsonContext.Default.StatusChange)),
                Headers = { IfMatch = { new EntityTagHeaderValue(string.Create(CultureInfo.InvariantCulture, $"\"{step}\"")) } },
            };
        request.Headers.Authorization = _merchants[order.Merchant].Token;
        using var answer = await _http.SendAsync(request, cancellationToken);
        return answer.IsSuccessStatusCode
            ? new Written(id, step + 1, DateTimeOffset.UtcNow)
            : throw new InvalidOperationException($"{(int)answer.StatusCode}: {await answer.Content.ReadAsStringAsync(cancellationToken)}");
    }

    private static ByteArrayContent Json(byte[] body) => new(body) { Headers = { ContentType = new("application/json") } };
}
