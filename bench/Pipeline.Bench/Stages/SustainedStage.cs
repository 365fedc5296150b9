using System.Diagnostics;
using System.Globalization;
using Amazon.DynamoDBv2.Model;

namespace Pipeline.Bench;

/// <summary>
/// The real orders' mix through the whole pipeline as fast as the writers can, for ten minutes, against what DynamoDB Local alone takes
/// in from as many writers, measured before and after. Backlog and memory are looked at all the time.
/// </summary>
internal static class SustainedStage
{
    private const int RoundsEachSide = Rounds.Min / 2;

    public static Stage Stage { get; } = new(
        "sustained",
        "Ten minutes of the real orders' mix through the whole pipeline, against the put rate of DynamoDB Local; memory and backlog as a curve.",
        QuickSeconds: 20,
        FullSeconds: 650,
        RunAsync);

    /// <param name="Seconds">Since the writers began.</param>
    /// <param name="Accepted">Writes that the API has acknowledged.</param>
    /// <param name="Loaded">Those in the warehouse.</param>
    /// <param name="Megabytes">Of each process.</param>
    private sealed record Point(double Seconds, long Accepted, long Loaded, IReadOnlyList<double> Megabytes)
    {
        public double Backlog => Accepted - Loaded;
    }

    private static async Task RunAsync(StageContext context, CancellationToken cancellationToken)
    {
        context.Progress("starting the pipeline", 0);
        var servers = await context.ServersAsync(cancellationToken);
        using var dynamo = OrderTables.Client(servers, "puts");
        await OrderTables.CreateAsync(dynamo, cancellationToken);
        await using var pipeline = await PipelineUnderTest.StartAsync(context, "sustained", isBaseline: false, cancellationToken);
        using var writer = new OrderWriter(pipeline.Api, context.Inputs);
        var names = pipeline.Services.ToDictionary(service => service.Id, service => service.Name);

        // 1. What DynamoDB Local takes in by itself: the same images, from as many writers. One round more is kept by nobody.
        using var images = context.Inputs.ItemChanges().Select(change => change.NewImage).OfType<Dictionary<string, AttributeValue>>().GetEnumerator();
        await PutRateAsync();
        var usedByPuts = -ServerSeconds();
        var puts = new List<double>();
        for (var round = 1; round <= RoundsEachSide; round++)
        {
            context.Progress("puts without the pipeline", 0.03 * round / RoundsEachSide);
            puts.Add(await PutRateAsync());
        }

        usedByPuts += ServerSeconds();

        // 2. The pipeline, watched while the writers are at work, and until it has loaded all of it.
        var (duration, count) = (TimeSpan.FromSeconds(context.IsQuick ? 8 : 600), context.IsQuick ? 8 : 40);
        context.Progress("warming up", 0.03);
        await pipeline.SeenAsync(await writer.WriteAsync(OrderTables.Writers, writes => writes < (context.IsQuick ? 200 : 2_000), _ => { }, cancellationToken), cancellationToken);
        var loadedBefore = await LoadedAsync(pipeline, cancellationToken);
        var accepted = 0L;
        var points = new List<Point>();
        var usedBefore = ProcessorUse.Read(names);
        var watch = Stopwatch.StartNew();
        var writing = writer.WriteAsync(OrderTables.Writers, _ => watch.Elapsed < duration, _ => Interlocked.Increment(ref accepted), cancellationToken);
        while (points.Count < count)
        {
            var pause = ((points.Count + 1) * duration / count) - watch.Elapsed;
            await Task.WhenAny(writing, Task.Delay(pause > TimeSpan.Zero ? pause : TimeSpan.Zero, cancellationToken));
            if (writing.IsFaulted || writing.IsCanceled)
            {
                break;
            }

            foreach (var service in pipeline.Services)
            {
                service.ThrowIfEnded();
            }

            // The loaded ones first: those that are accepted in between are backlog.
            var loaded = await LoadedAsync(pipeline, cancellationToken) - loadedBefore;
            points.Add(new Point(
                watch.Elapsed.TotalSeconds, Interlocked.Read(ref accepted), loaded, [.. pipeline.Services.Select(service => service.ResidentBytes / 1e6)]));
            context.Progress("writing through the whole pipeline", 0.03 + (0.94 * points.Count / count));
        }

        var usedAfter = ProcessorUse.Read(names);
        var used = ProcessorUse.Shares(usedBefore, usedAfter, watch.Elapsed);
        var usedByWrites = usedAfter.GetValueOrDefault(ProcessorUse.DynamoDbLocal) - usedBefore.GetValueOrDefault(ProcessorUse.DynamoDbLocal);
        var last = await writing;
        watch.Restart();
        await pipeline.SeenAsync(last, cancellationToken);
        var drained = watch.Elapsed;

        // 3. DynamoDB Local again.
        usedByPuts -= ServerSeconds();
        for (var round = 0; round < RoundsEachSide; round++)
        {
            context.Progress("puts without the pipeline", 0.97 + (0.03 * round / RoundsEachSide));
            puts.Add(await PutRateAsync());
        }

        usedByPuts += ServerSeconds();
        var rates = points.Zip(points.Skip(1), (before, after) => (after.Loaded - before.Loaded) / (after.Seconds - before.Seconds)).ToList();
        var length = context.IsQuick ? $"{duration.TotalSeconds:F0} seconds" : $"{duration.TotalMinutes:F0} minutes";
        context.Add(new Row
        {
            Stage = $"sustained end to end, {length}, {(context.Inputs.AreReal ? "real" : "generated")} orders' mix",
            Against = "what DynamoDB Local itself takes in (puts of the bare SDK, before and after)",
            Unit = "writes/s",
            Ours = new Sample(rates),
            Other = new Sample(puts),
            Goal = Goal.AtLeast(0.9),
            Note = string.Create(CultureInfo.InvariantCulture, $"{points[^1].Accepted:N0} writes through the API from {OrderTables.Writers} clients that do not wait; {drained.TotalSeconds:F1} s after the last one all were in the warehouse. ")
                + $"Of all processors' time: {used}. The puts have these processors for DynamoDB Local and the client, but for an idle pipeline's polls; here the whole pipeline, the servers and the clients share them. "
                + (usedAfter.Count == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $"A write costs DynamoDB Local {1000 * usedByWrites / points[^1].Accepted:F2} ms of a processor, its stream's readers included, and a bare put {1000 * usedByPuts / (puts.Count * PutsOfRound(context)):F2}.")),
        });
        context.Add(new Row
        {
            Stage = "largest backlog under sustained load, in the time that the pipeline needs for it",
            Against = "the figure itself",
            Unit = "s",
            Ours = Sample.Of(points.Max(point => point.Backlog) / new Sample(rates).Median),
            Goal = Goal.AtMost(10),
            Note = string.Create(CultureInfo.InvariantCulture, $"At most {points.Max(point => point.Backlog):N0} of {points[^1].Accepted:N0} acknowledged writes were not in the warehouse when it was looked at. It is looked at {count} times; what is behind lies in the stream and in the bucket."),
        });
        AddMemory(context, points, pipeline.Services);
        context.Add(new Curve(
            "Under sustained load: backlog and memory",
            ["s", "accepted, writes", "backlog, writes", .. pipeline.Services.Select(service => $"{service.Name}, MB")],
            [.. points.Select(point => (IReadOnlyList<double>)[point.Seconds, point.Accepted, point.Backlog, .. point.Megabytes])]));

        async Task<double> PutRateAsync()
        {
            var round = new List<Dictionary<string, AttributeValue>>();
            for (; round.Count < PutsOfRound(context); round.Add(images.Current))
            {
                images.MoveNext();
            }

            return round.Count / await Rounds.MillisecondsAsync(() => OrderTables.EachAsync(
                round, image => dynamo.PutItemAsync(OrderTables.Orders, image, cancellationToken))) * 1000;
        }
    }

    private static int PutsOfRound(StageContext context) => context.IsQuick ? 200 : 2_000;

    private static double ServerSeconds() => ProcessorUse.Read(new Dictionary<int, string>()).GetValueOrDefault(ProcessorUse.DynamoDbLocal);

    /// <summary>What grows with every write is in the last quarter of the run 2.3 times what it is in the second one.</summary>
    private static void AddMemory(StageContext context, List<Point> points, IReadOnlyList<ServiceUnderTest> services)
    {
        // Some seconds tell of the start and of nothing else.
        if (context.IsQuick)
        {
            return;
        }

        for (var n = 0; n < services.Count; n++)
        {
            var which = n;
            context.Add(new Row
            {
                Stage = $"memory of the {services[n].Name} under sustained load, last quarter of the run",
                Against = "its second quarter",
                Unit = "MB",
                Ours = Quarter(4),
                Other = Quarter(2),
                Goal = Goal.AtMost(1.15),
                Note = string.Create(CultureInfo.InvariantCulture, $"{PerMinute(points.Skip(points.Count / 3), which):+0.00;-0.00} MB a minute over the last two thirds of the run (least squares)."),
            });

            Sample Quarter(int number) => new([.. points.Skip((number - 1) * points.Count / 4).Take(points.Count / 4).Select(point => point.Megabytes[which])]);
        }
    }

    private static double PerMinute(IEnumerable<Point> points, int service)
    {
        var of = points.Select(point => (Minutes: point.Seconds / 60, Memory: point.Megabytes[service])).ToList();
        var (minutes, memory) = (of.Average(one => one.Minutes), of.Average(one => one.Memory));
        return of.Sum(one => (one.Minutes - minutes) * (one.Memory - memory)) / of.Sum(one => Math.Pow(one.Minutes - minutes, 2));
    }

    /// <summary>From the ledger: a row for each file, so that looking costs little beside the load.</summary>
    private static async Task<long> LoadedAsync(PipelineUnderTest pipeline, CancellationToken cancellationToken)
    {
        await using var query = pipeline.Warehouse.CreateCommand("SELECT coalesce(sum(rows), 0)::bigint FROM load_ledger");
        return (long)(await query.ExecuteScalarAsync(cancellationToken))!;
    }
}
