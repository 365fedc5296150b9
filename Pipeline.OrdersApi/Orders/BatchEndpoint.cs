using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.Extensions.Options;
using Pipeline.Core;
using JsonOptions = Microsoft.AspNetCore.Http.Json.JsonOptions;

namespace Pipeline.OrdersApi.Orders;

internal sealed record BatchResponse(int Created, int Refused, IReadOnlyList<BatchResult> Results);

/// <summary>What came of one order of a batch: the status, and what POST /orders would have answered it with.</summary>
/// <param name="Index">The order's place in the request, from 0.</param>
/// <param name="Status">201, or the status of the problem.</param>
/// <param name="OrderId">Null for an order without one that was not created.</param>
/// <param name="Version">Of an order that was created.</param>
/// <param name="Problem">Of one that was not.</param>
internal sealed record BatchResult(int Index, int Status, string? OrderId = null, long? Version = null, JsonElement? Problem = null);

/// <summary>
/// POST /orders/batch: up to 100 orders, each created or refused by itself as if it had been sent alone. With an
/// Idempotency-Key the batch can be repeated as a whole; each of its orders is created once.
/// </summary>
internal static class BatchEndpoint
{
    // A hundred orders are written in a dozen turns, some tens of milliseconds; and one batch does not take all of the
    // client's 50 connections to DynamoDB.
    private const int WritesAtOnce = 8;

    public static async Task<IResult> CreateAsync(
        HttpContext http, OrderCreation creation, MerchantLimits limits, TimeProvider time, IOptions<JsonOptions> json)
    {
        var (body, problem) = await RequestJson.ReadAsync(http.Request, OrderSchemas.Batch, RequestJson.MaxBatchBytes);
        if (!IdempotencyKey.TryRead(http.Request, out var keyText, out var headerProblem) || problem is not null)
        {
            return Problems.Together(problem, headerProblem);
        }

        var merchant = http.Merchant();
        var entries = Read(body, merchant);
        // The request itself has taken one.
        if (entries.Count > 1 && limits.Take(merchant, entries.Count - 1) is { } seconds)
        {
            return Problems.TooMany(seconds);
        }

        var options = json.Value.SerializerOptions;
        var refused = entries.Where(entry => entry.Refusal is not null)
            .Select(entry => new BatchResult(
                entry.Index, entry.Refusal!.StatusCode, NullIfEmpty(entry.Sent?.OrderId), Problem: JsonSerializer.SerializeToElement(entry.Refusal.ProblemDetails, options)));
        var valid = entries.Where(entry => entry.Refusal is null).ToList();
        var now = OrdersEndpoints.Now(time);
        var traceParent = OrdersEndpoints.TraceParent();

        List<BatchResult> results;
        if (keyText is null)
        {
            results = await CreateAllAsync(valid, entry => creation.CreateAsync(NewOrder.Complete(entry.Sent!, now, traceParent), http.RequestAborted), options, http.RequestAborted);
        }
        else
        {
            var key = new IdempotencyKey(merchant, keyText);
            var fingerprint = OrderCreation.Fingerprint("create_orders", entries.Select(entry => entry.Canonical));
            // What a rule refuses is refused alike each time; kept is what the table said to the others.
            var (kept, isReplay, refusal) = await creation.CreateBatchAsync(key, fingerprint, async expiresAt =>
            {
                var all = await CreateAllAsync(
                    valid,
                    entry => creation.CreatePartAsync(NewOrder.Complete(entry.Sent!, now, traceParent), key with { Part = entry.Index + 1 }, fingerprint, expiresAt, http.RequestAborted),
                    options,
                    http.RequestAborted);
                return (JsonSerializer.Serialize(all, options), all.TrueForAll(IsFinal));
            }, http.RequestAborted);
            if (refusal is not null)
            {
                return refusal;
            }

            results = JsonSerializer.Deserialize<List<BatchResult>>(kept!, options)!;
            if (isReplay)
            {
                http.Response.Headers[Outcome.ReplayedHeader] = "true";
            }
        }

        if (entries.Count == results.Count(result => result.Status == StatusCodes.Status503ServiceUnavailable))
        {
            return Problems.NoOrderServed();
        }

        results = [.. results.Concat(refused).OrderBy(result => result.Index)];
        var created = results.Count(result => result.Status == StatusCodes.Status201Created);
        return TypedResults.Ok(new BatchResponse(created, results.Count - created, results));
    }

    private static List<Entry> Read(JsonElement body, string merchant)
    {
        var entries = new List<Entry>();
        var orderIds = new HashSet<string>();
        foreach (var (index, order) in body.GetProperty("orders").EnumerateArray().Index())
        {
            var faults = SchemaCheck.Faults(order, OrderSchemas.NewOrder, $"#/orders/{index}");
            if (faults.Count > 0)
            {
                entries.Add(new(index, null, Problems.Invalid(faults), JsonMarshal.GetRawUtf8Value(order).ToArray()));
                continue;
            }

            var sent = NewOrder.Decode(order, merchant);
            var refusal = sent.MerchantId != merchant ? Problems.AnotherMerchant()
                // The first one of the batch takes the id; it would, too, if they came one after the other.
                : sent.OrderId.Length > 0 && !orderIds.Add(sent.OrderId) ? Problems.Exists(sent.OrderId)
                : null;
            entries.Add(new(index, sent, refusal, NewOrder.Canonical(sent)));
        }

        return entries;
    }

    private static async Task<List<BatchResult>> CreateAllAsync(
        List<Entry> entries, Func<Entry, Task<Outcome>> create, JsonSerializerOptions json, CancellationToken cancellationToken)
    {
        var results = new BatchResult[entries.Count];
        // Once the table does not serve one, the others would only wait for the same.
        var isUnavailable = false;
        var parallel = new ParallelOptions { MaxDegreeOfParallelism = WritesAtOnce, CancellationToken = cancellationToken };
        await Parallel.ForAsync(0, entries.Count, parallel, async (n, _) =>
        {
            var entry = entries[n];
            Outcome outcome;
            try
            {
                outcome = Volatile.Read(ref isUnavailable) ? Unavailable(entry, json) : await create(entry);
            }
            catch (Exception error) when (TableUnavailableHandler.IsUnavailable(error) && !cancellationToken.IsCancellationRequested)
            {
                Volatile.Write(ref isUnavailable, true);
                outcome = Unavailable(entry, json);
            }

            results[n] = outcome.Status == StatusCodes.Status201Created
                ? new BatchResult(entry.Index, outcome.Status, outcome.OrderId, Version: 1)
                : new BatchResult(entry.Index, outcome.Status, NullIfEmpty(entry.Sent!.OrderId), Problem: JsonElement.Parse(outcome.Body));
        });
        return [.. results];
    }

    private static Outcome Unavailable(Entry entry, JsonSerializerOptions json) => Outcome.Refused(entry.Sent!.OrderId, Problems.Unavailable(), json);

    /// <summary>Whether sending the order again, under the same key, would change nothing.</summary>
    private static bool IsFinal(BatchResult result) =>
        result.Status == StatusCodes.Status201Created
        || (result.Status == StatusCodes.Status409Conflict && result.Problem!.Value.GetProperty("type").GetString() == Problems.ExistsType);

    private static string? NullIfEmpty(string? text) => text is { Length: > 0 } ? text : null;

    /// <param name="Index">The order's place in the request.</param>
    /// <param name="Sent">The order, if it breaks no rule.</param>
    /// <param name="Refusal">Why it is not even tried.</param>
    /// <param name="Canonical">What makes two of them the same.</param>
    private sealed record Entry(int Index, Order? Sent, ProblemHttpResult? Refusal, byte[] Canonical);
}
