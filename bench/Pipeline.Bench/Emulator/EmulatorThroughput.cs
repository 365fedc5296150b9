using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Amazon.DynamoDBv2;
using Amazon.Lambda.Core;
using Amazon.Lambda.RuntimeSupport;
using Amazon.Runtime;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.Bench;

/// <summary>
/// Records a second through the emulator: from the scripted stream to a function that does nothing, over the Runtime
/// API, with checkpoints. Beside it, in the same run, the same stream read bare.
/// </summary>
internal static class EmulatorThroughput
{
    private const double RecordsPerSecondMin = 20_000;

    /// <summary>The peak with the large backlog over that with the small one. Heaps differ from run to run; a backlog in memory would be many times as much.</summary>
    private const double PeakRatioMax = 1.5;

    private static readonly TimeSpan NoProgress = TimeSpan.FromSeconds(60);

    private sealed record Moved(double RecordsPerSecond, long PeakBytes);

    public static Command Command()
    {
        var small = new Option<int>("--small") { Description = "Records of the small backlog.", DefaultValueFactory = _ => 50_000 };
        var large = new Option<int>("--large") { Description = "Records of the large backlog.", DefaultValueFactory = _ => 1_000_000 };
        var batchSize = new Option<int>("--batch-size") { Description = "The mapping's BatchSize.", DefaultValueFactory = _ => 1000 };
        var rounds = new Option<int>("--rounds") { Description = "How often bare reading and emulator take turns; the medians are told.", DefaultValueFactory = _ => 3 };
        var command = new Command("emulator", $"Records a second through the Lambda emulator (target: {RecordsPerSecondMin:N0}), and its memory with a small and a large backlog.")
        {
            Options = { small, large, batchSize, rounds },
        };
        command.SetAction((parsed, ct) => RunAsync(
            parsed.GetValue(small), parsed.GetValue(large), parsed.GetValue(batchSize), parsed.GetValue(rounds), ct));
        return command;
    }

    private static async Task<int> RunAsync(int small, int large, int batchSize, int rounds, CancellationToken cancellationToken)
    {
        var load = Machine.Load();
        var bare = new List<double>();
        var ofSmall = new List<Moved>();
        var ofLarge = new List<Moved>();
        for (var round = 0; round < rounds; round++)
        {
            await using (var stream = await StreamServer.StartAsync(large))
            {
                bare.Add(await ReadBareAsync(stream.Url, large, cancellationToken));
                ofLarge.Add(await MoveAsync(stream.Url, large, batchSize, cancellationToken));
            }

            await using (var stream = await StreamServer.StartAsync(small))
            {
                ofSmall.Add(await MoveAsync(stream.Url, small, batchSize, cancellationToken));
            }
        }

        var rate = Median(ofLarge.Select(moved => moved.RecordsPerSecond));
        var smallPeak = ofSmall.Max(moved => moved.PeakBytes);
        var largePeak = ofLarge.Max(moved => moved.PeakBytes);
        Print($"{Environment.ProcessorCount} cores, load average before {load}, batch size {batchSize:N0}, {rounds} rounds (medians; the largest peak)");
        Print($"bare reading  {large,12:N0} records  {Median(bare),10:N0} records/s");
        Print($"emulator      {large,12:N0} records  {rate,10:N0} records/s  peak memory {largePeak / 1e6,6:F0} MB");
        Print($"emulator      {small,12:N0} records  {Median(ofSmall.Select(moved => moved.RecordsPerSecond)),10:N0} records/s  peak memory {smallPeak / 1e6,6:F0} MB");
        Print($"emulator / bare reading {rate / Median(bare):F2}; peak with the large backlog / with the small one {(double)largePeak / smallPeak:F2}");
        var met = rate >= RecordsPerSecondMin && largePeak <= PeakRatioMax * smallPeak;
        Print($"target: {RecordsPerSecondMin:N0} records/s, peaks within a factor of {PeakRatioMax}: {(met ? "met" : "MISSED")}");
        return met ? 0 : 1;
    }

    /// <summary>The stream's records through the emulator's own client and parser, kept by nobody.</summary>
    private static async Task<double> ReadBareAsync(Uri url, int records, CancellationToken cancellationToken)
    {
        using var client = new DynamoDbStreamsClient(
            new BasicAWSCredentials("bench", "bench"), new AmazonDynamoDBConfig { ServiceURL = url.ToString(), AuthenticationRegion = "us-east-1" });
        var arn = (await client.DescribeTableAsync("Orders", cancellationToken)).Table.LatestStreamArn;
        var stream = new StreamSource(client, arn, new StreamRecordFormat("us-east-1", arn), TimeProvider.System);
        var cursor = new ShardCursor(stream, StreamServer.Shard, new ShardPosition.TrimHorizon());
        var started = Stopwatch.GetTimestamp();
        for (var read = 0; read < records;)
        {
            read += (await cursor.ReadAsync(cancellationToken)).Records.Count;
        }

        return records / Stopwatch.GetElapsedTime(started).TotalSeconds;
    }

    private static async Task<Moved> MoveAsync(Uri url, int records, int batchSize, CancellationToken cancellationToken)
    {
        await using var emulator = await EmulatorUnderTest.StartAsync(url, batchSize);
        var first = 0L;
        var last = 0L;
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var function = LambdaBootstrapBuilder
            .Create((Stream _, ILambdaContext _) =>
            {
                var now = Stopwatch.GetTimestamp();
                Interlocked.CompareExchange(ref first, now, 0);
                Volatile.Write(ref last, now);
                return Task.FromResult(Stream.Null);
            })
            .ConfigureOptions(options => options.RuntimeApiEndpoint = emulator.RuntimeEndpoint)
            .Build()
            .RunAsync(ends.Token);

        var end = records.ToString("D21", CultureInfo.InvariantCulture);
        while (await emulator.CheckpointAsync() != end)
        {
            if (last != 0 && Stopwatch.GetElapsedTime(Volatile.Read(ref last)) > NoProgress)
            {
                throw new TimeoutException($"No invocation for {NoProgress.TotalSeconds} s; the checkpoint is {await emulator.CheckpointAsync()}.");
            }

            await Task.Delay(100, cancellationToken);
        }

        var peak = emulator.PeakBytes;
        await ends.CancelAsync();
        await function;
        return new Moved((records - batchSize) / Stopwatch.GetElapsedTime(first, last).TotalSeconds, peak);
    }

    private static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToList();
        return (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]) / 2;
    }

    private static void Print(FormattableString line) => Console.WriteLine(line.ToString(CultureInfo.InvariantCulture));
}
