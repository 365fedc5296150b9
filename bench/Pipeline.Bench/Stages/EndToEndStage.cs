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

        // 1. How much B can take. The first time its code is not compiled yet, and neither is ours.
        context.Progress("looking for the baseline's saturation", 0.1);
        var many = context.IsQuick ? 200 : 3_000;
        await SaturateAsync(ours, toOurs, many, cancellationToken);
        await SaturateAsync(baseline, toBaseline, many, cancellationToken);
        var saturation = await SaturateAsync(baseline, toBaseline, many, cancellationToken);

        // 2. Rounds at half of that.
        var rate = saturation / 2;
        var writes = Math.Max((int)(rate * (context.IsQuick ? 0.5 : 4)), WritesMin);
        var (ofOurs, ofBaseline) = (new List<IReadOnlyList<Seen>>(), new List<IReadOnlyList<Seen>>());
        var pairs = await Rounds.RunAsync(
            Rounds.Min,
            () => RoundAsync(ours, toOurs, ofOurs),
            () => RoundAsync(baseline, toBaseline, ofBaseline),
            share => context.Progress("at half of the baseline's saturation", 0.3 + (0.7 * share)),
            cancellationToken);

        // The first round is kept by nobody.
        var (all, others) = (ofOurs.Skip(1).SelectMany(round => round).ToList(), ofBaseline.Skip(1).SelectMany(round => round).ToList());
        var note = FormattableString.Invariant(
            $"A round is {writes:N0} writes at {rate:F0} a second, half of the {saturation:F0} that B takes with {Clients} clients that do not wait; for each order the last of its writes is timed, by the commit times of PostgreSQL. ")
            + $"Over all rounds: ours {Percentiles(all)}; B {Percentiles(others)}. "
            + string.Create(CultureInfo.InvariantCulture, $"Of ours, {Median(all, seen => seen.LoadBegan!.Value - seen.Write.AcknowledgedAt):F0} ms (median) go by until the load begins (stream, function, PUT, discovery) and {Median(all, seen => seen.VisibleAt - seen.LoadBegan!.Value):F0} ms in the load.");
        context.Add(new Row { Stage = Visible, Against = "the figure itself", Unit = "ms", Ours = pairs.Ours, Goal = Goal.AtMost(1_000), Note = note });
        context.Add(Row.Of(
            Visible, "B end to end", "ms", pairs, Goal.AtMost(0.1),
            "B has the same API, emulator and S3 server, its loader upserts a file at a time and looks for files as often as ours, each 200 ms, and half of "
            + "its saturation leaves it time: so it waits for the same polls of the stream and of the bucket, which are most of the time on both sides, and a tenth of its p99 is less than those polls. "
            + "The goal is one against a loader that falls behind or that is started by a schedule."));

        async Task<double> RoundAsync(PipelineUnderTest pipeline, OrderWriter writer, List<IReadOnlyList<Seen>> rounds)
        {
            rounds.Add(await pipeline.SeenAsync(await writer.WriteAtRateAsync(writes, rate, cancellationToken), cancellationToken));
            return new Sample([.. rounds[^1].Select(Milliseconds)]).At(0.99);
        }
    }

    /// <returns>Writes a second, from the first request to the commit that shows the last one.</returns>
    private static async Task<double> SaturateAsync(PipelineUnderTest pipeline, OrderWriter writer, int writes, CancellationToken cancellationToken)
    {
        long sent = 0;
        var started = DateTimeOffset.UtcNow;
        var last = await writer.WriteAsync(Clients, soFar => soFar < writes, _ => Interlocked.Increment(ref sent), cancellationToken);
        var seen = await pipeline.SeenAsync(last, cancellationToken);
        return sent / (seen.Max(one => one.VisibleAt) - started).TotalSeconds;
    }

    private static double Milliseconds(Seen seen) => (seen.VisibleAt - seen.Write.AcknowledgedAt).TotalMilliseconds;

    private static double Median(List<Seen> all, Func<Seen, TimeSpan> of) => new Sample([.. all.Select(seen => of(seen).TotalMilliseconds)]).Median;

    private static string Percentiles(List<Seen> all)
    {
        var sample = new Sample([.. all.Select(Milliseconds)]);
        return string.Create(CultureInfo.InvariantCulture, $"p50 {sample.Median:F0} ms, p95 {sample.At(0.95):F0} ms, p99 {sample.At(0.99):F0} ms of {all.Count:N0} orders");
    }
}
