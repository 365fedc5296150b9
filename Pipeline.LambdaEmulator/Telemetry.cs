using System.Diagnostics;
using System.Diagnostics.Metrics;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator;

/// <summary>
/// Spans and metrics of the event source mappings. Lambda passes no W3C trace context to a function, so neither is one
/// passed here; streams carry none either, so the span of a batch is linked to the traces that the items themselves name.
/// </summary>
public sealed class Telemetry : IDisposable
{
    public const string Name = "Pipeline.LambdaEmulator";

    /// <summary>More are not kept: the limit of links of a span in OpenTelemetry.</summary>
    private const int LinksMax = 128;

    private readonly string _traceAttribute;
    private readonly string _region;
    private readonly ActivitySource _source = new(Name);
    private readonly Meter _meter;
    private readonly Counter<long> _batches;
    private readonly Counter<long> _records;
    private readonly Counter<long> _retries;
    private readonly Counter<long> _bisections;
    private readonly Counter<long> _discarded;
    private readonly Histogram<double> _invocations;

    /// <param name="traceAttribute">The attribute of an item with the W3C traceparent of the request that wrote it.</param>
    /// <param name="region">The region that the functions are told to be in.</param>
    public Telemetry(string traceAttribute, string region)
    {
        (_traceAttribute, _region) = (traceAttribute, region);
        // The scope tells the meters of several emulators in one process apart.
        _meter = new Meter(Name, version: null, tags: null, scope: this);
        _batches = _meter.CreateCounter<long>("lambda.event_source.batches", "{batch}", "Batches sent to the function, again after a failure.");
        _records = _meter.CreateCounter<long>("lambda.event_source.records", "{record}", "Records sent to the function, again after a failure.");
        _retries = _meter.CreateCounter<long>("lambda.event_source.retries", "{batch}", "Batches whose records were sent before.");
        _bisections = _meter.CreateCounter<long>("lambda.event_source.bisections", "{bisection}", "Batches that were split after a failure.");
        _discarded = _meter.CreateCounter<long>("lambda.event_source.discarded", "{record}", "Records given up; the tag destination says where they are parked.");
        _invocations = _meter.CreateHistogram<double>("lambda.invocation.duration", "s", "From the batch to its outcome, waiting for an environment included.");
    }

    /// <summary>Observes the age of the oldest unprocessed record of every shard.</summary>
    public void ObserveIteratorAge(Func<IEnumerable<(string Function, string ShardId, TimeSpan Age)>> ages) =>
        _meter.CreateObservableGauge(
            "lambda.event_source.iterator_age",
            () => ages().Select(shard => new Measurement<double>(
                shard.Age.TotalMilliseconds, KeyValuePair.Create<string, object?>("function", shard.Function), KeyValuePair.Create<string, object?>("shard", shard.ShardId))),
            "ms",
            "Age of the oldest unprocessed record.");

    public Activity? StartBatch(string function, BatchOrigin origin, Batch batch) => Start(
        function,
        batch.Count,
        RequestsOf(batch),
        new("aws.dynamodb.stream.shard_id", origin.ShardId),
        new("lambda.batch.first_sequence_number", batch.First.SequenceNumber),
        new("lambda.batch.failed_attempts", batch.FailedAttempts));

    public Activity? StartBatch(string function, string queue, QueueBatch batch) => Start(
        function, batch.Count, [], new("messaging.system", "aws_sqs"), new("messaging.destination.name", queue));

    private Activity? Start(string function, int records, List<ActivityContext> requests, params KeyValuePair<string, object?>[] tags) =>
        _source.StartActivity(
            $"invoke {function}",
            ActivityKind.Client,
            requests is [var only] ? only : default,
            [
                new("faas.invoked_name", function), new("faas.invoked_provider", "aws"), new("faas.invoked_region", _region),
                new("messaging.batch.message_count", records), .. tags,
            ],
            requests.Select(request => new ActivityLink(request)));

    /// <summary>The requests that wrote the records: those of a single one go on with its trace.</summary>
    private List<ActivityContext> RequestsOf(Batch batch) => _source.HasListeners()
        ? [.. batch.Records
            .Select(record => record.NewText(_traceAttribute))
            .OfType<string>()
            .Distinct()
            .Select(traceParent => ActivityContext.TryParse(traceParent, null, isRemote: true, out var request) ? request : default)
            .Where(request => request != default)
            .Take(LinksMax)]
        : [];

    /// <param name="function">The function's name.</param>
    /// <param name="records">Records or messages of the batch.</param>
    /// <param name="isRetry">Whether the function was sent them before.</param>
    /// <param name="outcome">How it ended.</param>
    /// <param name="duration">From the batch to its outcome.</param>
    public void Invoked(string function, int records, bool isRetry, InvocationOutcome outcome, TimeSpan duration)
    {
        var tags = new TagList { { "function", function }, { "outcome", outcome.GetType().Name } };
        _batches.Add(1, tags);
        _records.Add(records, tags);
        _invocations.Record(duration.TotalSeconds, tags);
        if (isRetry)
        {
            _retries.Add(1, new TagList { { "function", function } });
        }
    }

    public void Bisected(string function, int bisections) => _bisections.Add(bisections, new TagList { { "function", function } });

    /// <param name="function">The function's name.</param>
    /// <param name="records">Records given up.</param>
    /// <param name="condition">Why.</param>
    /// <param name="destination">Where they are reported: sqs, s3 or none.</param>
    public void Discarded(string function, int records, DiscardCondition condition, string destination) => _discarded.Add(
        records, new TagList { { "function", function }, { "condition", condition.ToString() }, { "destination", destination } });

    public void Dispose()
    {
        _source.Dispose();
        _meter.Dispose();
    }
}
