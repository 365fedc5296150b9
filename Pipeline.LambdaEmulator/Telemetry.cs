using System.Diagnostics;
using System.Diagnostics.Metrics;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator;

/// <summary>Spans and metrics of the event source mappings. Lambda passes no W3C trace context to a function, so neither is one passed here.</summary>
public sealed class Telemetry : IDisposable
{
    public const string Name = "Pipeline.LambdaEmulator";

    private readonly ActivitySource _source = new(Name);
    private readonly Meter _meter = new(Name);
    private readonly Counter<long> _records;
    private readonly Counter<long> _discarded;
    private readonly Histogram<double> _invocations;

    public Telemetry()
    {
        _records = _meter.CreateCounter<long>("lambda.event_source.records", "{record}", "Records sent to the function, again after a failure.");
        _discarded = _meter.CreateCounter<long>("lambda.event_source.discarded", "{record}", "Records given up.");
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

    public Activity? StartBatch(string function, BatchOrigin origin, Batch batch) => _source.StartActivity(
        $"invoke {function}",
        ActivityKind.Client,
        default(ActivityContext),
        [
            new("faas.invoked_name", function),
            new("aws.dynamodb.stream.shard_id", origin.ShardId),
            new("messaging.batch.message_count", batch.Count),
            new("lambda.batch.first_sequence_number", batch.First.SequenceNumber),
            new("lambda.batch.failed_attempts", batch.FailedAttempts),
        ]);

    public void Invoked(string function, int records, InvocationOutcome outcome, TimeSpan duration)
    {
        var tags = new TagList { { "function", function }, { "outcome", outcome.GetType().Name } };
        _records.Add(records, tags);
        _invocations.Record(duration.TotalSeconds, tags);
    }

    public void Discarded(string function, int records, DiscardCondition condition) =>
        _discarded.Add(records, new TagList { { "function", function }, { "condition", condition.ToString() } });

    public void Dispose()
    {
        _source.Dispose();
        _meter.Dispose();
    }
}
