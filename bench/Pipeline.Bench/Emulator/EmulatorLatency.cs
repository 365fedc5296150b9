using System.Collections.Concurrent;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Amazon.Lambda.Core;
using Amazon.Lambda.RuntimeSupport;
using Pipeline.NativeServers;

namespace Pipeline.Bench;

/// <summary>How long after a write to DynamoDB Local the function has it, on an idle machine, and what the waiting costs.</summary>
internal static class EmulatorLatency
{
    private const double P50MillisecondsMax = 100;
    private const double P99MillisecondsMax = 300;
    private const double IdleProcessorMax = 0.05;

    /// <summary>The first writes meet code that is not compiled yet.</summary>
    private const int WarmUp = 50;

    /// <summary>After the last write: the runtime goes on compiling what was used.</summary>
    private static readonly TimeSpan SettlesWithin = TimeSpan.FromSeconds(15);

    private static readonly TimeSpan ArrivesWithin = TimeSpan.FromSeconds(30);

    public static Command Command()
    {
        var writes = new Option<int>("--writes") { Description = "Writes to measure.", DefaultValueFactory = _ => 500 };
        var idle = new Option<int>("--idle-seconds") { Description = "How long to watch the emulator when nothing is written.", DefaultValueFactory = _ => 30 };
        var command = new Command(
            "emulator-latency",
            $"From a write to DynamoDB Local to the function (targets: p50 {P50MillisecondsMax} ms, p99 {P99MillisecondsMax} ms), and the processor time of the idle emulator (target: {IdleProcessorMax:P0}).")
        {
            Options = { writes, idle },
        };
        command.SetAction((parsed, ct) => RunAsync(parsed.GetValue(writes), TimeSpan.FromSeconds(parsed.GetValue(idle)), ct));
        return command;
    }

    private static async Task<int> RunAsync(int writes, TimeSpan idle, CancellationToken cancellationToken)
    {
        var load = Machine.Load();
        await using var server = await NativeServer.StartAsync(DynamoDbLocal.Define(LoopbackPorts.Free(), dataDirectory: null), cancellationToken);
        await using var emulator = await EmulatorUnderTest.StartAsync(new Uri(server.Url), batchSize: 100, Table());
        using var dynamoDb = new AmazonDynamoDBClient("bench", "bench", new AmazonDynamoDBConfig { ServiceURL = server.Url, AuthenticationRegion = "us-east-1" });

        var arrived = new ConcurrentDictionary<string, TaskCompletionSource<long>>();
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var function = LambdaBootstrapBuilder
            .Create((Stream batch, ILambdaContext _) =>
            {
                var now = Stopwatch.GetTimestamp();
                using var json = JsonDocument.Parse(batch);
                foreach (var record in json.RootElement.GetProperty("Records").EnumerateArray())
                {
                    arrived[record.GetProperty("dynamodb").GetProperty("Keys").GetProperty("id").GetProperty("S").GetString()!].TrySetResult(now);
                }

                return Task.FromResult(Stream.Null);
            })
            .ConfigureOptions(options => options.RuntimeApiEndpoint = emulator.RuntimeEndpoint)
            .Build()
            .RunAsync(ends.Token);

        var latencies = new List<double>();
        var random = new Random(1);
        for (var write = 0; write < WarmUp + writes; write++)
        {
            // Not in step with the emulator's polls.
            await Task.Delay(random.Next(20, 120), cancellationToken);
            var id = write.ToString(CultureInfo.InvariantCulture);
            var arrival = arrived[id] = new TaskCompletionSource<long>(TaskCreationOptions.RunContinuationsAsynchronously);
            var sent = Stopwatch.GetTimestamp();
            await dynamoDb.PutItemAsync("Orders", new() { ["id"] = new(id) }, cancellationToken);
            var latency = Stopwatch.GetElapsedTime(sent, await arrival.Task.WaitAsync(ArrivesWithin, cancellationToken));
            if (write >= WarmUp)
            {
                latencies.Add(latency.TotalMilliseconds);
            }
        }

        await Task.Delay(SettlesWithin, cancellationToken);
        var usedBefore = emulator.ProcessorTime;
        var idleFrom = Stopwatch.GetTimestamp();
        await Task.Delay(idle, cancellationToken);
        var processor = (emulator.ProcessorTime - usedBefore) / Stopwatch.GetElapsedTime(idleFrom);
        await ends.CancelAsync();
        await function;

        latencies.Sort();
        var (p50, p99) = (Percentile(latencies, 0.50), Percentile(latencies, 0.99));
        Print($"{Environment.ProcessorCount} cores, load average before {load}, after {Machine.Load()}");
        Print($"write sent → function invoked, {writes} writes: p50 {p50:F1} ms, p99 {p99:F1} ms, max {latencies[^1]:F1} ms");
        Print($"the idle emulator uses {processor:P1} of a core (over {idle.TotalSeconds} s)");
        var met = p50 < P50MillisecondsMax && p99 < P99MillisecondsMax && processor < IdleProcessorMax;
        Print($"targets: p50 < {P50MillisecondsMax} ms, p99 < {P99MillisecondsMax} ms, idle < {IdleProcessorMax:P0} of a core: {(met ? "met" : "MISSED")}");
        return met ? 0 : 1;
    }

    private static JsonObject Table() => new()
    {
        ["Orders"] = JsonNode.Parse("""
            {
              "Type": "AWS::DynamoDB::Table",
              "Properties": {
                "TableName": "Orders",
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{ "AttributeName": "id", "AttributeType": "S" }],
                "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }],
                "StreamSpecification": { "StreamViewType": "NEW_AND_OLD_IMAGES" }
              }
            }
            """),
    };

    /// <summary>The smallest value that at least this share of them does not exceed.</summary>
    private static double Percentile(List<double> sorted, double share) => sorted[(int)Math.Ceiling(share * sorted.Count) - 1];

    private static void Print(FormattableString line) => Console.WriteLine(line.ToString(CultureInfo.InvariantCulture));
}
