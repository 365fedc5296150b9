using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Amazon.S3;
using Microsoft.Extensions.Diagnostics.Metrics.Testing;
using Microsoft.Extensions.Hosting.Internal;
using Microsoft.Extensions.Logging.Abstractions;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Stack;
using Pipeline.LambdaEmulator.Streams;
using Pipeline.LambdaEmulator.Tests.Conformance;

namespace Pipeline.LambdaEmulator.Tests;

/// <summary>What the emulator tells of its work, measured while a poison record is bisected out of a batch and parked.</summary>
public sealed class MetricsTests : IAsyncLifetime
{
    private readonly string _state = Directory.CreateTempSubdirectory().FullName;
    private readonly Telemetry _telemetry = new("trace_parent", "us-east-1");
    private ScriptedStream _stream = null!;
    private FunctionHost _function = null!;

    public async ValueTask InitializeAsync()
    {
        _stream = await ScriptedStream.StartAsync();
        _function = await FunctionHost.StartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _function.DisposeAsync();
        await _stream.DisposeAsync();
        _telemetry.Dispose();
        Directory.Delete(_state, recursive: true);
    }

    [Fact]
    public async Task Batches_records_retries_bisections_and_parked_records_are_counted()
    {
        using var batches = Counter("batches");
        using var records = Counter("records");
        using var retries = Counter("retries");
        using var bisections = Counter("bisections");
        using var discarded = Counter("discarded");
        _stream.AddShard("s");
        _stream.Write("s", 1, 2, 3, 4, 5, 6, 7, 8);
        using var parked = new MemoryQueue(TimeProvider.System, TimeSpan.FromSeconds(30));
        await using (await StartAsync(Mapping(parked)))
        {
            _ = _function.StartEnvironment(json => json.Contains(ScriptedShard.SequenceNumber(6), StringComparison.Ordinal)
                ? throw new InvalidDataException("poison")
                : "{}");
            await Poll.UntilAsync(() => Sum(records, "outcome", "Answered") == 7);
        }

        // 1-8 fails, 1-4, 5-8 fails, 5-6 fails, 5, 6 fails and is parked, 7-8.
        Assert.Equal((3, 4), (Sum(batches, "outcome", "Answered"), Sum(batches, "outcome", "Failed")));
        Assert.Equal((7, 15), (Sum(records, "outcome", "Answered"), Sum(records, "outcome", "Failed")));
        Assert.Equal(6, Sum(retries, "function", FunctionHost.Name));
        Assert.Equal(3, Sum(bisections, "function", FunctionHost.Name));
        Assert.Equal(1, Sum(discarded, "destination", "sqs"));
        Assert.Equal("6", JsonNode.Parse(Assert.Single(parked.Left))!["DDBStreamBatchInfo"]!["startSequenceNumber"]!.ToString().TrimStart('0'));
    }

    [Fact]
    public async Task The_iterator_age_is_that_of_the_oldest_unprocessed_record()
    {
        _stream.AddShard("s");
        _stream.WrittenAt = DateTimeOffset.UtcNow.AddHours(-1);
        _stream.Write("s", 1);
        var mapping = Mapping(parked: null);
        await using (await StartAsync(mapping))
        {
            // Without an environment the record stays where it is.
            await Poll.UntilAsync(() => mapping.Shards() is [{ RecordsBuffered: 1 }]);
            var waiting = Age();
            Assert.InRange(waiting.Value, 3_600_000, 3_900_000);
            Assert.Equal(FunctionHost.Name, waiting.Tags["function"]);
            Assert.Equal("s", waiting.Tags["shard"]);

            _ = _function.StartEnvironment(_ => "{}");
            await Poll.UntilAsync(() => mapping.Shards() is [{ RecordsBuffered: 0 }]);
            Assert.Equal(0, Age().Value);
        }
    }

    [Fact]
    public async Task The_span_of_a_batch_is_linked_to_the_traces_that_its_items_name()
    {
        var spans = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == Telemetry.Name,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = spans.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        // Two changes of one request, one that carries no trace context, and one of another request.
        var requests = new[] { 0x1_5A7E_0001L, 0x1_5A7E_0002L };
        _stream.TraceParent = number => number == 3 ? "none" : $"00-{requests[number / 4]:x32}-{requests[number / 4]:x16}-01";
        _stream.AddShard("s");
        _stream.Write("s", 1, 2, 3, 4);
        var mapping = Mapping(parked: null);
        await using (await StartAsync(mapping))
        {
            await Poll.UntilAsync(() => mapping.Shards() is [{ RecordsBuffered: 4 }]);
            _ = _function.StartEnvironment(_ => "{}");
            await Poll.UntilAsync(() => mapping.Shards() is [{ RecordsBuffered: 0 }]);
        }

        // Other tests of this process have spans, too.
        var linked = spans.SelectMany(span => span.Links).Select(link => Convert.ToInt64(link.Context.TraceId.ToHexString(), 16));
        Assert.Equal(requests, linked.Where(requests.Contains));

        // The conventions of OpenTelemetry for calls of functions, and for batches.
        var batch = Assert.Single(spans, span => span.Links.Any(link => Convert.ToInt64(link.Context.TraceId.ToHexString(), 16) == requests[0]));
        Assert.Equal(
            [4, "aws", "us-east-1"],
            ((string[])["messaging.batch.message_count", "faas.invoked_provider", "faas.invoked_region"]).Select(tag => batch.GetTagItem(tag)));
    }

    private CollectedMeasurement<double> Age()
    {
        using var ages = new MetricCollector<double>(_telemetry, Telemetry.Name, "lambda.event_source.iterator_age");
        ages.RecordObservableInstruments();
        return Assert.Single(ages.GetMeasurementSnapshot());
    }

    private MetricCollector<long> Counter(string name) => new(_telemetry, Telemetry.Name, $"lambda.event_source.{name}");

    private static long Sum(MetricCollector<long> counter, string tag, string value) => counter.GetMeasurementSnapshot()
        .Where(measurement => value.Equals(measurement.Tags[tag])).Sum(measurement => measurement.Value);

    private EventSourceMapping Mapping(MemoryQueue? parked)
    {
        var client = new DynamoDbStreamsClient(
            new BasicAWSCredentials("local", "local"),
            new AmazonDynamoDBConfig { ServiceURL = _stream.Url.ToString(), AuthenticationRegion = "us-east-1" });
        var onFailure = parked is null ? null : new OnFailureDestination(
            new OnFailurePlan.Sqs("parked"), Guid.NewGuid(), parked, new AmazonS3Client("local", "local", new AmazonS3Config { ServiceURL = "http://127.0.0.1:1" }),
            TimeProvider.System, NullLogger<OnFailureDestination>.Instance);
        var plan = new MappingPlan(
            Guid.NewGuid(), _function.Function.Definition, _stream.Table, null,
            ScriptedShard.Defaults with { BisectOnError = true, RetryAttemptsMax = 0 }, null, true);
        return new EventSourceMapping(
            plan, streamArn => new CheckpointFile(_state, plan.Id, streamArn), "us-east-1", _function.Function, client, onFailure, _telemetry, TimeProvider.System, NullLoggerFactory.Instance);
    }

    /// <summary>The emulator around the mapping: it is what observes the iterator age.</summary>
    private async Task<IAsyncDisposable> StartAsync(EventSourceMapping mapping)
    {
        var options = new EmulatorOptions
        {
            TemplatePath = "",
            StateFolder = _state,
            Provision = false,
            TraceAttribute = "trace_parent",
            Region = "us-east-1",
            StreamsEndpoint = _stream.Url,
        };
        var plan = new StackPlan([], [], [], [], [], [], []);
        var emulator = new Emulator(
            options, plan, new Provisioner(null!, null!, null!, NullLogger<Provisioner>.Instance), [mapping], _telemetry, TimeProvider.System,
            new ApplicationLifetime(NullLogger<ApplicationLifetime>.Instance), NullLogger<Emulator>.Instance);
        await emulator.StartAsync(TestContext.Current.CancellationToken);
        return new Running(emulator);
    }

    private sealed class Running(Emulator emulator) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync()
        {
            await emulator.StopAsync(CancellationToken.None);
            emulator.Dispose();
        }
    }
}
