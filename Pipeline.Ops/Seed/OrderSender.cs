using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text.Json;
using Pipeline.Core;

namespace Pipeline.Ops.Seed;

/// <summary>What came of one order.</summary>
internal enum Sent
{
    /// <summary>All of its plan is done, some of it now.</summary>
    Complete,

    /// <summary>All of its plan had been done before.</summary>
    CompleteBefore,

    /// <summary>The API refused it: the plan or the API is wrong.</summary>
    Refused,

    /// <summary>Somebody else has the order, changed it meanwhile, or the API answered what it should not.</summary>
    Failed,
}

/// <param name="Outcome">What came of the order.</param>
/// <param name="Why">The reason, without personal data, when it is not complete.</param>
internal readonly record struct SentOrder(Sent Outcome, string? Why = null);

/// <summary>The API gave no usable answer for as long as we are willing to wait.</summary>
internal sealed class ApiUnreachableException(string message, Exception? inner) : Exception(message, inner);

/// <summary>
/// Sends an order's plan, one request after the other. A request whose answer is lost is sent again: a creation with its
/// Idempotency-Key, and a change whose If-Match is then refused is looked at: the order's trace_parent says which
/// request wrote it, and all requests of one <see cref="SendAsync"/> share a trace id that nobody else has. So the
/// accepted writes are counted exactly.
/// </summary>
internal sealed class OrderSender(HttpClient http, ApiTokens tokens, SeedCounters counters, TimeProvider time)
{
    /// <summary>How long the API may be away, restarting say, before the run is given up.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(60);

    private ApiTokens Tokens { get; } = tokens;

    // An answer takes milliseconds; the API itself gives up on the table after 9 s.
    private static readonly TimeSpan AttemptTimeout = TimeSpan.FromSeconds(15);

    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(2);

    /// <exception cref="ApiUnreachableException">The API was away for longer than <see cref="Patience"/>.</exception>
    public async Task<SentOrder> SendAsync(PlannedOrder plan, CancellationToken cancellationToken)
    {
        // The HTTP client sends the current activity's ids as traceparent.
        using var activity = new Activity("seed order").SetIdFormat(ActivityIdFormat.W3C);
        activity.ActivityTraceFlags = ActivityTraceFlags.Recorded;
        activity.Start();

        var path = $"/orders/{plan.Order.OrderId}";
        var send = new Requests(this, plan.Order.MerchantId, $"{activity.TraceId}");
        var created = await send.PostAsync(() => JsonContent.Create(plan.Order, SeedJsonContext.Default.NewOrder), cancellationToken);
        var existed = false;
        OrderStatus status;
        string etag;
        switch (created.Status)
        {
            case HttpStatusCode.Created:
                if (created.IsReplay)
                {
                    counters.AcceptedUnheard(Write.Create);
                }
                else
                {
                    counters.Accepted(Write.Create);
                }

                (status, etag) = (OrderStatus.Created, created.ETag!);
                break;
            case HttpStatusCode.Conflict:
                var found = await send.ReadAsync(path, cancellationToken);
                if (found is not { Order: { } order })
                {
                    return new(Sent.Failed, "another merchant has its order_id, or it was removed meanwhile");
                }

                if (!IsSame(order, plan.Order))
                {
                    return new(Sent.Failed, "another order has its order_id");
                }

                existed = true;
                (status, etag) = (order.Status, found.ETag!);
                break;
            default:
                return Unexpected(created);
        }

        var next = plan.Statuses.ToList().IndexOf(status) + 1;
        if (next == 0 && status != OrderStatus.Created)
        {
            return new(Sent.Failed, $"it stands at {status}, which is not in its plan");
        }

        foreach (var target in plan.Statuses.Skip(next))
        {
            var changed = await send.ChangeAsync(
                HttpMethod.Put, path + "/status", etag, () => JsonContent.Create(new StatusChange(target), SeedJsonContext.Default.StatusChange), cancellationToken);
            if (changed.Status == HttpStatusCode.OK)
            {
                counters.Accepted(Write.ChangeStatus);
                etag = changed.ETag!;
                continue;
            }

            if (changed.Status != HttpStatusCode.PreconditionFailed)
            {
                return Unexpected(changed);
            }

            var found = await send.ReadAsync(path, cancellationToken);
            if (found.Order is not { } order || order.Status != target || !IsOurs(order, activity))
            {
                return new(Sent.Failed, "somebody else changed it meanwhile");
            }

            counters.AcceptedUnheard(Write.ChangeStatus);
            etag = found.ETag!;
        }

        if (plan.Remove)
        {
            var removed = await send.ChangeAsync(HttpMethod.Delete, path, etag, () => null, cancellationToken);
            switch (removed.Status)
            {
                case HttpStatusCode.NoContent:
                    counters.Accepted(Write.Remove);
                    break;
                case HttpStatusCode.NotFound:
                    // It was there at this version a moment ago: the answer to our own removal was lost, here or
                    // between the API and the table.
                    counters.AcceptedUnheard(Write.Remove);
                    break;
                default:
                    return Unexpected(removed);
            }
        }

        var nothingToDo = existed && next == plan.Statuses.Count && !plan.Remove;
        if (existed && !nothingToDo)
        {
            counters.Resumed();
        }

        return new(nothingToDo ? Sent.CompleteBefore : Sent.Complete);
    }

    /// <summary>One request, sent again while the API is away, or asks to come again.</summary>
    private async Task<Answer> RequestAsync(Func<HttpRequestMessage> create, CancellationToken cancellationToken)
    {
        var began = time.GetTimestamp();
        for (var pause = FirstPause; ; pause = pause * 2 < LongestPause ? pause * 2 : LongestPause)
        {
            cancellationToken.ThrowIfCancellationRequested();
            string trouble;
            Exception? cause = null;
            // Once on its way a request is waited for even when the run is interrupted: what it writes must be counted.
            using var timeout = new CancellationTokenSource(AttemptTimeout, time);
            try
            {
                using var request = create();
                using var response = await http.SendAsync(request, timeout.Token);
                var body = await response.Content.ReadAsByteArrayAsync(timeout.Token);
                if (response.StatusCode is HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden)
                {
                    throw new ApiUnreachableException($"The API at {http.BaseAddress} answers {(int)response.StatusCode}: the token is not good for it.", null);
                }

                // A conflict that is over in a moment says when to come again.
                var isOver = response.StatusCode is not (HttpStatusCode.ServiceUnavailable or HttpStatusCode.BadGateway or HttpStatusCode.GatewayTimeout or HttpStatusCode.TooManyRequests)
                    && !(response.StatusCode == HttpStatusCode.Conflict && response.Headers.RetryAfter is not null);
                if (isOver)
                {
                    return new Answer(response.StatusCode, response.Headers.ETag?.ToString(), body, response.Headers.Contains("Idempotent-Replayed"));
                }

                trouble = $"it answers {(int)response.StatusCode}";
                pause = response.Headers.RetryAfter?.Delta is { } asked && asked > pause ? asked : pause;
            }
            catch (Exception error) when (error is HttpRequestException or IOException or OperationCanceledException)
            {
                (trouble, cause) = (error.Message, error);
            }

            if (time.GetElapsedTime(began) > Patience)
            {
                throw new ApiUnreachableException(
                    string.Create(CultureInfo.InvariantCulture, $"The API at {http.BaseAddress} has not served for {Patience.TotalSeconds:0} s: {trouble}."), cause);
            }

            counters.Retried();
            // Spread, so that all orders in flight do not come back at the same instant.
            await Task.Delay(pause * (0.5 + (Random.Shared.NextDouble() / 2)), time, cancellationToken);
        }
    }

    private static bool IsOurs(Order order, Activity activity) =>
        ActivityContext.TryParse(order.TraceParent, null, out var written) && written.TraceId == activity.TraceId;

    /// <summary>What the API keeps of a new order is what we would send now.</summary>
    private static bool IsSame(Order order, NewOrder planned) =>
        order.MerchantId == planned.MerchantId
        && order.Customer == planned.Customer
        && order.Currency == planned.Currency
        && order.Items.Select(item => new NewItem(item.ProductId, item.SellerId, item.Quantity, item.UnitPrice, item.Freight)).SequenceEqual(planned.Items)
        && order.Payments.Select(payment => new NewPayment(payment.Method, payment.Installments, payment.Amount)).SequenceEqual(planned.Payments);

    private static SentOrder Unexpected(Answer answer) => new(
        answer.Status is HttpStatusCode.BadRequest or HttpStatusCode.Conflict or HttpStatusCode.RequestEntityTooLarge ? Sent.Refused : Sent.Failed,
        answer.ProblemText());

    /// <summary>The requests of one order, in its merchant's name.</summary>
    private readonly struct Requests(OrderSender sender, string merchant, string key)
    {
        public Task<Answer> PostAsync(Func<HttpContent?> content, CancellationToken cancellationToken) =>
            SendAsync(HttpMethod.Post, "/orders", ("Idempotency-Key", key), content, cancellationToken);

        public Task<Answer> ChangeAsync(HttpMethod method, string path, string etag, Func<HttpContent?> content, CancellationToken cancellationToken) =>
            SendAsync(method, path, ("If-Match", etag), content, cancellationToken);

        public async Task<Answer> ReadAsync(string path, CancellationToken cancellationToken)
        {
            var answer = await SendAsync(HttpMethod.Get, path, null, () => null, cancellationToken);
            return answer.Status is HttpStatusCode.OK or HttpStatusCode.NotFound
                ? answer
                : throw new ApiUnreachableException($"GET {path} answers {(int)answer.Status}.", null);
        }

        private Task<Answer> SendAsync(HttpMethod method, string path, (string Name, string Value)? header, Func<HttpContent?> content, CancellationToken cancellationToken)
        {
            var (from, tokens) = (merchant, sender.Tokens);
            return sender.RequestAsync(
                () =>
                {
                    var request = new HttpRequestMessage(method, path) { Content = content() };
                    request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", tokens.Of(from));
                    if (header is { } given)
                    {
                        request.Headers.TryAddWithoutValidation(given.Name, given.Value);
                    }

                    return request;
                },
                cancellationToken);
        }
    }

    private sealed record Answer(HttpStatusCode Status, string? ETag, byte[] Body, bool IsReplay)
    {
        public Order? Order => Status == HttpStatusCode.OK ? JsonSerializer.Deserialize(Body, OrderJsonContext.Default.Order) : null;

        /// <summary>The problem's title and its places, without what was sent.</summary>
        public string ProblemText()
        {
            try
            {
                using var problem = JsonDocument.Parse(Body);
                var title = problem.RootElement.TryGetProperty("title", out var text) ? text.GetString() : null;
                var places = problem.RootElement.TryGetProperty("errors", out var errors)
                    ? errors.EnumerateArray().Select(error => $"{error.GetProperty("pointer").GetString()} {error.GetProperty("detail").GetString()}")
                    : [];
                return string.Join("; ", [$"{(int)Status} {title}", .. places]);
            }
            catch (JsonException)
            {
                return $"{(int)Status}";
            }
        }
    }
}
