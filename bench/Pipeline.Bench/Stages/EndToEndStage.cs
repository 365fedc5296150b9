using System.Globalization;

namespace Pipeline.Bench;

/// <summary>
/// From a write that the API has acknowledged to the order in the warehouse, at half of what baseline B can take: ours against B
/// end to end. Both run all the time; in each round one of them is written to.
/// </summary>
internal static class EndToEndStage
{
    private const string Visible = "write acknowledged by the API → visible in `orders`, p99";

    /// <summary>That find B's saturation: more do not make it take more on a small machine.</summary>
    private const int Clients = 16;

    /// <summary>Of a round: on a machine that is very slow, too.</summary>
    private const int WritesMin = 40;

    public static Stage Stage { get; } = new(
        "end-to-end",
        "Write acknowledged by the API → visible in the warehouse, at half of the baseline's saturation, against the baseline end to end.",
        QuickSeconds: 40,
        FullSeconds: 160,
        RunAsync);

    private static async Task RunAsync(StageContext context, CancellationToken cancellationToken)
    {
        context.Progress("starting both pipelines", 0);
        await using var ours = await PipelineUnderTest.StartAsync(context, "ours", isBaseline: false, cancellationToken);
        await using var baseline = await PipelineUnderTest.StartAsync(context, "baseline", isBaseline: true, cancellationToken);
        using var toOurs = new OrderWriter(ours.Api, context.Inputs);
        using var toBaseline = new OrderWriter(baseline.Api, context.Inputs);

        // 1. How much B can take, when its code and ours are compiled for good: that takes some ten thousand requests.
        context.Progress("warming both up", 0.05);
        var (warming, many) = context.IsQuick ? (200, 200) : (10_000, 5_000);
        await SaturateAsync(ours, toOurs, warming, cancellationToken);
        await SaturateAsync(baseline, toBaseline, warming, cancellationToken);
        context.Progress("looking for the baseline's saturation", 0.25);
        var (saturation, lag) = await SaturateAsync(baseline, toBaseline, many, cancellationToken);

        // 2. Rounds at half of that.
        var rate = saturation / 2;
        var writes = Math.Max((int)(rate * (context.IsQuick ? 0.5 : 4)), WritesMin);
        var (ofOurs, ofBaseline) = (new List<IReadOnlyList<Seen>>(), new List<IReadOnlyList<Seen>>());
        var pairs = await Rounds.RunAsync(
            Rounds.Min,
            () => RoundAsync(ours, toOurs, ofOurs),
            () => RoundAsync(baseline, toBaseline, ofBaseline),
            share => context.Progress("at half of the baseline's saturation", 0.35 + (0.65 * share)),
            cancellationToken);

        // The first round is kept by nobody.
        var (all, others) = (ofOurs.Skip(1).SelectMany(round => round).ToList(), ofBaseline.Skip(1).SelectMany(round => round).ToList());
        var note = FormattableString.Invariant(
            $"A round is {writes:N0} writes at {rate:F0} a second, half of the {saturation:F0} that arrive in B's warehouse when {Clients} clients do not wait (the last one could be seen {lag.TotalMilliseconds:F0} ms after it was acknowledged: API, function, loader and servers share the processors, and are at their limit together); for each order the last of its writes is timed, by the commit times of PostgreSQL. ")
            + $"Over all rounds: ours {Percentiles(all)}; B {Percentiles(others)}. "
            + string.Create(CultureInfo.InvariantCulture, $"Of ours, {Parts(all)}.");
        context.Add(new Row
        {
            Stage = $"{Visible} of all rounds",
            Against = "the figure itself",
            Unit = "ms",
            Ours = Sample.Of(new Sample([.. all.Select(Milliseconds)]).At(0.99)),
            Goal = Goal.AtMost(1_000),
            Note = note,
        });
        context.Add(Row.Of(
            $"{Visible} of a round", "B end to end", "ms", pairs, Goal.AtMost(0.1),
            string.Create(CultureInfo.InvariantCulture, $"B has the same API, emulator and S3 server, and its loader looks for files as often as ours, each 200 ms: of B, {Parts(others)}. ")
            + "What comes before the load is the polls of the stream and of the bucket and the function, and at half of its saturation B's loader has no backlog that would add to it: the goal is one against a loader that falls behind, or that a schedule starts."));

        async Task<double> RoundAsync(PipelineUnderTest pipeline, OrderWriter writer, List<IReadOnlyList<Seen>> rounds)
        {
            rounds.Add(await pipeline.SeenAsync(await writer.WriteAtRateAsync(writes, rate, cancellationToken), cancellationToken));
            return new Sample([.. rounds[^1].Select(Milliseconds)]).At(0.99);
        }
    }

    /// <returns>Writes a second, from the first request to the commit that shows the last one, and how long after its acknowledgement that was.</returns>
    private static async Task<(double PerSecond, TimeSpan Lag)> SaturateAsync(PipelineUnderTest pipeline, OrderWriter writer, int writes, CancellationToken cancellationToken)
    {
        long sent = 0;
        var started = DateTimeOffset.UtcNow;
        var last = await writer.WriteAsync(Clients, soFar => soFar < writes, _ => Interlocked.Increment(ref sent), cancellationToken);
        var seen = await pipeline.SeenAsync(last, cancellationToken);
        var end = seen.Max(one => one.VisibleAt);
        return (sent / (end - started).TotalSeconds, end - seen.Max(one => one.Write.AcknowledgedAt));
    }

    private static double Milliseconds(Seen seen) => (seen.VisibleAt - seen.Write.AcknowledgedAt).TotalMilliseconds;

    /// <summary>Medians.</summary>
    private static string Parts(List<Seen> all) => string.Create(
        CultureInfo.InvariantCulture,
        $"{Median(all, seen => seen.LoadBegan - seen.Write.AcknowledgedAt):F0} ms (median) go by until the load begins (stream, function, PUT, discovery) and {Median(all, seen => seen.VisibleAt - seen.LoadBegan):F0} ms in the load");

    private static double Median(List<Seen> all, Func<Seen, TimeSpan> of) => new Sample([.. all.Select(seen => of(seen).TotalMilliseconds)]).Median;

    private static string Percentiles(List<Seen> all)
    {
        var sample = new Sample([.. all.Select(Milliseconds)]);
        return string.Create(CultureInfo.InvariantCulture, $"p50 {sample.Median:F0} ms, p95 {sample.At(0.95):F0} ms, p99 {sample.At(0.99):F0} ms of {all.Count:N0} orders");
    }
}
