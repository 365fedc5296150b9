using System.Diagnostics;
using System.Diagnostics.Metrics;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>Spans and metrics of the loader, under the project's name.</summary>
public sealed class LoaderTelemetry : IDisposable
{
    private const string Name = "Pipeline.Loader";

    /// <summary>
    /// In seconds, each about a quarter more than the one before, from a tenth of a second to two minutes, so that p50, p95 and
    /// p99 can be told to a quarter; and then by hours and days, for what waited or came from a replay.
    /// </summary>
    private static readonly double[] FreshnessBounds =
    [
        0.1, 0.125, 0.16, 0.2, 0.25, 0.315, 0.4, 0.5, 0.63, 0.8, 1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8,
        10, 12.5, 16, 20, 25, 31.5, 40, 50, 63, 80, 100, 125, 300, 900, 3_600, 14_400, 86_400, 604_800,
    ];

    private readonly ActivitySource _activities = new(Name);
    private readonly Meter _meter;
    private readonly Histogram<double> _freshness;
    private readonly Histogram<double> _duration;
    private readonly Counter<long> _changes;
    private readonly Counter<long> _files;
    private readonly Counter<long> _parked;

    public LoaderTelemetry(IMeterFactory meters, LoaderStatus status)
    {
        _meter = meters.Create(Name);
        _freshness = _meter.CreateHistogram<double>(
            "pipeline.freshness", "s", "From the write of a change (its updated_at) to its being visible in the warehouse.",
            tags: null, new InstrumentAdvice<double> { HistogramBucketBoundaries = FreshnessBounds });
        _duration = _meter.CreateHistogram<double>("pipeline.load.duration", "s", "Of one load, from BEGIN to COMMIT.");
        _changes = _meter.CreateCounter<long>("pipeline.load.changes", "{change}", "Changes loaded that were new.");
        _files = _meter.CreateCounter<long>("pipeline.load.files", "{file}", "Change files loaded.");
        _meter.CreateObservableGauge("pipeline.files.pending", () => status.PendingFiles, "{file}", "Files known and not loaded.");
        _meter.CreateObservableGauge("pipeline.files.failing", () => status.FailingFiles, "{file}", "Files that cannot be loaded.");
        _parked = _meter.CreateCounter<long>("pipeline.changes.parked", "{change}", "Changes that the warehouse refused.");
        _meter.CreateObservableGauge("pipeline.changes.waiting", () => status.WaitingChanges, "{change}", "Changes that wait behind a parked one of their order.");
    }

    public Activity? StartLoad(IReadOnlyList<Change> changes, IReadOnlyList<ChangeObject> files)
    {
        var activity = _activities.StartBatch("load", changes);
        activity?.SetTag("pipeline.files", files.Count);
        activity?.SetTag("pipeline.changes", changes.Count);
        return activity;
    }

    public void Loaded(IReadOnlyList<ChangeObject> files, IEnumerable<Change> news, TimeSpan elapsed, DateTimeOffset visibleAt)
    {
        _duration.Record(elapsed.TotalSeconds);
        _files.Add(files.Count);
        var count = 0;
        foreach (var change in news)
        {
            count++;

            // The image of a removal has the time of the write before it, and a snapshot may be of a write long ago.
            if (_freshness.Enabled && change.Operation is Operation.Insert or Operation.Modify && change.UpdatedAt is { } writtenAt)
            {
                // Clocks differ; a change is not visible before it is written.
                _freshness.Record(Math.Max((visibleAt - writtenAt).TotalSeconds, 0));
            }
        }

        _changes.Add(count);
    }

    public void Parked() => _parked.Add(1);

    public void Dispose() => _activities.Dispose();
}
