using System.Text.Json.Nodes;
using Pipeline.LambdaEmulator;
using Pipeline.NativeServers;

namespace Pipeline.Bench;

/// <summary>The emulator as it is used: a process of its own, with a template of one function and one mapping.</summary>
internal sealed class EmulatorUnderTest : IAsyncDisposable
{
    public const string Function = "noop";

    private readonly string _folder = Directory.CreateTempSubdirectory("bench-").FullName;
    private readonly HttpClient _http = new();
    private readonly int _port = LoopbackPorts.Free();
    private ServiceUnderTest _service = null!;

    private EmulatorUnderTest()
    {
    }

    /// <summary>What a function's process finds in AWS_LAMBDA_RUNTIME_API.</summary>
    public string RuntimeEndpoint => $"127.0.0.1:{_port}/{Function}";

    /// <summary>The most memory that the process had so far.</summary>
    public long PeakBytes => _service.PeakBytes;

    /// <summary>Processor time that it has used so far, over all cores.</summary>
    public TimeSpan ProcessorTime => _service.ProcessorTime;

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
        emulator._service = await ServiceUnderTest.StartAsync(
            "emulator",
            typeof(Emulator).Assembly.Location,
            ["--template", template, "--state", Path.Combine(emulator._folder, "state"), "--provision"],
            new Dictionary<string, string>
            {
                ["ASPNETCORE_URLS"] = $"http://127.0.0.1:{emulator._port}",
                ["AWS_REGION"] = "us-east-1",
                ["AWS_ACCESS_KEY_ID"] = "bench",
                ["AWS_SECRET_ACCESS_KEY"] = "bench",
                ["AWS_ENDPOINT_URL_DYNAMODB"] = dynamoDb.ToString(),
                ["Logging__LogLevel__Default"] = "Warning",
            },
            new Uri($"http://127.0.0.1:{emulator._port}/health"),
            CancellationToken.None);
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
        await _service.DisposeAsync();
        _http.Dispose();
        Directory.Delete(_folder, recursive: true);
    }
}
