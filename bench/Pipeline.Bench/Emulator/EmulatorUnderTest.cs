using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Pipeline.LambdaEmulator;
using Pipeline.NativeServers;

namespace Pipeline.Bench;

/// <summary>The emulator as it is used: a process of its own, with a template of one function and one mapping.</summary>
internal sealed class EmulatorUnderTest : IAsyncDisposable
{
    public const string Function = "noop";
    private static readonly TimeSpan HealthyWithin = TimeSpan.FromSeconds(60);

    private readonly string _folder = Directory.CreateTempSubdirectory("bench-").FullName;
    private readonly HttpClient _http = new();
    private readonly int _port = LoopbackPorts.Free();
    private Process _process = null!;

    private EmulatorUnderTest()
    {
    }

    /// <summary>What a function's process finds in AWS_LAMBDA_RUNTIME_API.</summary>
    public string RuntimeEndpoint => $"127.0.0.1:{_port}/{Function}";

    /// <summary>The most memory that the process had so far.</summary>
    public long PeakBytes
    {
        get
        {
            _process.Refresh();
            return _process.PeakWorkingSet64;
        }
    }

    /// <summary>Processor time that it has used so far, over all cores.</summary>
    public TimeSpan ProcessorTime
    {
        get
        {
            _process.Refresh();
            return _process.TotalProcessorTime;
        }
    }

    /// <param name="dynamoDb">Where table and stream are.</param>
    /// <param name="batchSize">The mapping's.</param>
    /// <param name="resources">Further resources of the template: the table, if it is to be created.</param>
    public static async Task<EmulatorUnderTest> StartAsync(Uri dynamoDb, int batchSize, JsonObject? resources = null)
    {
        var emulator = new EmulatorUnderTest();
        resources ??= [];
        resources["Noop"] = new JsonObject
        {
            ["Type"] = "AWS::Lambda::Function",
            ["Properties"] = new JsonObject { ["FunctionName"] = Function, ["Timeout"] = 30 },
        };
        resources["Mapping"] = new JsonObject
        {
            ["Type"] = "AWS::Lambda::EventSourceMapping",
            ["Properties"] = new JsonObject
            {
                ["FunctionName"] = Function,
                ["EventSourceArn"] = "arn:aws:dynamodb:us-east-1:000000000000:table/Orders/stream/*",
                ["StartingPosition"] = "TRIM_HORIZON",
                ["BatchSize"] = batchSize,
            },
        };
        var template = Path.Combine(emulator._folder, "bench.template.json");
        await File.WriteAllTextAsync(template, new JsonObject { ["Resources"] = resources }.ToJsonString());
        emulator._process = Dotnet.Start(
            typeof(Emulator).Assembly.Location,
            ["--template", template, "--state", Path.Combine(emulator._folder, "state"), "--provision"],
            new Dictionary<string, string?>
            {
                ["ASPNETCORE_URLS"] = $"http://127.0.0.1:{emulator._port}",
                ["AWS_REGION"] = "us-east-1",
                ["AWS_ACCESS_KEY_ID"] = "bench",
                ["AWS_SECRET_ACCESS_KEY"] = "bench",
                ["AWS_ENDPOINT_URL_DYNAMODB"] = dynamoDb.ToString(),
                ["Logging__LogLevel__Default"] = "Warning",
            });
        _ = emulator._process.StandardOutput.BaseStream.CopyToAsync(Console.OpenStandardError());
        await emulator.HealthyAsync();
        return emulator;
    }

    /// <summary>The sequence number up to which all is processed; null before the first.</summary>
    public async Task<string?> CheckpointAsync()
    {
        var mappings = JsonNode.Parse(await _http.GetStringAsync($"http://127.0.0.1:{_port}/event-source-mappings"))!;
        return mappings[0]!["shards"]!.AsArray().FirstOrDefault()?["checkpoint"]?.ToString();
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
        }

        await _process.WaitForExitAsync();
        _process.Dispose();
        _http.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private async Task HealthyAsync()
    {
        var waited = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                using var answer = await _http.GetAsync($"http://127.0.0.1:{_port}/health");
                if (answer.IsSuccessStatusCode)
                {
                    return;
                }
            }
            catch (HttpRequestException)
            {
                // Not listening yet.
            }

            if (_process.HasExited || waited.Elapsed > HealthyWithin)
            {
                throw new InvalidOperationException($"The emulator is not healthy after {waited.Elapsed.TotalSeconds:F0} s; see its output above.");
            }

            await Task.Delay(20);
        }
    }
}

internal static class Dotnet
{
    /// <summary>Of the runtime that runs this: it need not be on the path.</summary>
    public static string Muxer { get; } = Path.GetFullPath(Path.Combine(
        RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet"));

    /// <summary>Starts an assembly with the runtime that runs this one.</summary>
    public static Process Start(string assembly, IEnumerable<string> arguments, Dictionary<string, string?> environment)
    {
        var start = new ProcessStartInfo(Muxer, [assembly, .. arguments]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }
}
