using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text.Json.Serialization;

namespace Pipeline.Ops.Seed;

/// <summary>How often something happened, with the first few orders that it happened to.</summary>
internal sealed record Tally(string What, int Orders, IReadOnlyList<string> Examples)
{
    private const int MaxExamples = 3;

    public static IReadOnlyList<Tally> Of(IEnumerable<(string What, string OrderId)> events) =>
    [
        .. events.GroupBy(one => one.What)
            .Select(group => new Tally(group.Key, group.Count(), [.. group.Select(one => one.OrderId).Order(StringComparer.Ordinal).Take(MaxExamples)]))
            .OrderByDescending(tally => tally.Orders).ThenBy(tally => tally.What, StringComparer.Ordinal),
    ];
}

/// <summary>A run's result, as the table at its end and --json show it.</summary>
internal sealed record SeedReport
{
    public required int Planned { get; init; }
    public required int Complete { get; init; }
    public required int CompleteBefore { get; init; }
    public required long Resumed { get; init; }
    public required int NotFinished { get; init; }

    /// <summary>Each is one change of the table, so one row of the warehouse's order_changes.</summary>
    public required long AcceptedWrites { get; init; }
    public required long Created { get; init; }
    public required long StatusChanges { get; init; }
    public required long Removed { get; init; }

    public required long Retries { get; init; }
    public required long AnswersLost { get; init; }
    public required double Seconds { get; init; }

    public required IReadOnlyList<Tally> Kept { get; init; }
    public required IReadOnlyList<Tally> StepsRejected { get; init; }
    public required IReadOnlyList<Tally> OrdersRejected { get; init; }
    public required IReadOnlyList<Tally> Refused { get; init; }
    public required IReadOnlyList<Tally> Failed { get; init; }

    /// <summary>Why the run was given up, if it was.</summary>
    public string? GivenUp { get; init; }

    /// <summary>
    /// Steps that our transitions do not know are part of the data; an order that was not sent, that the API refused
    /// or that did not come to its end is not.
    /// </summary>
    public bool IsClean => OrdersRejected.Count + Refused.Count + Failed.Count + NotFinished == 0 && GivenUp is null;
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, WriteIndented = true)]
[JsonSerializable(typeof(SeedReport))]
internal sealed partial class SeedReportJsonContext : JsonSerializerContext;

/// <summary>Sends a plan: one order's requests strictly one after the other, different orders at the same time.</summary>
internal static class SeedRun
{
    public static async Task<SeedReport> RunAsync(
        SeedPlan plan, HttpClient http, ApiTokens tokens, SeedCounters counters, int concurrency, TimeProvider time, CancellationToken cancellationToken, TimeSpan? patience = null)
    {
        var sender = patience is { } given ? new OrderSender(http, tokens, counters, time) { Patience = given } : new OrderSender(http, tokens, counters, time);
        var results = new ConcurrentBag<(SentOrder Sent, string OrderId)>();
        string? givenUp = null;
        var watch = Stopwatch.StartNew();
        using var giveUp = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        try
        {
            var options = new ParallelOptions { MaxDegreeOfParallelism = concurrency, CancellationToken = giveUp.Token };
            await Parallel.ForEachAsync(plan.Orders, options, async (order, token) =>
            {
                try
                {
                    results.Add((await sender.SendAsync(order, token), order.Order.OrderId));
                    counters.OrderDone();
                }
                catch (ApiUnreachableException error)
                {
                    // The others would only wait for the same.
                    givenUp = error.Message;
                    await giveUp.CancelAsync();
                }
            });
        }
        catch (OperationCanceledException) when (giveUp.IsCancellationRequested)
        {
            givenUp ??= "It was interrupted.";
        }

        return new SeedReport
        {
            Planned = plan.Orders.Count,
            Complete = results.Count(result => result.Sent.Outcome == Sent.Complete),
            CompleteBefore = results.Count(result => result.Sent.Outcome == Sent.CompleteBefore),
            Resumed = counters.ResumedOrders,
            NotFinished = plan.Orders.Count - results.Count,
            AcceptedWrites = counters.AcceptedWrites,
            Created = counters.AcceptedOf(Write.Create),
            StatusChanges = counters.AcceptedOf(Write.ChangeStatus),
            Removed = counters.AcceptedOf(Write.Remove),
            Retries = counters.Retries,
            AnswersLost = counters.Unheard,
            Seconds = Math.Round(watch.Elapsed.TotalSeconds, 3),
            Kept = OfKind(FindingKind.Kept),
            StepsRejected = OfKind(FindingKind.StepRejected),
            OrdersRejected = OfKind(FindingKind.OrderRejected),
            Refused = OfOutcome(Sent.Refused),
            Failed = OfOutcome(Sent.Failed),
            GivenUp = givenUp,
        };

        IReadOnlyList<Tally> OfKind(FindingKind kind) =>
            Tally.Of(plan.Findings.Where(finding => finding.Kind == kind).Select(finding => (finding.What, finding.OrderId)));

        IReadOnlyList<Tally> OfOutcome(Sent outcome) =>
            Tally.Of(results.Where(result => result.Sent.Outcome == outcome).Select(result => (result.Sent.Why!, result.OrderId)));
    }
}
