using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Npgsql;
using Pipeline.Core;
using Pipeline.Loader;

namespace Pipeline.Ops.Replay;

/// <summary>Change files by the hour of their partition.</summary>
/// <param name="From">The first hour; null for the beginning.</param>
/// <param name="To">The last hour, included; null for the end.</param>
internal sealed record HourRange(DateTimeOffset? From, DateTimeOffset? To)
{
    public bool Contains(string key) =>
        (From is null && To is null)
        || (ObjectKeys.TryHourOf(key, out var hour) && (From is not { } from || hour >= FullHour(from)) && (To is not { } to || hour <= to));

    /// <summary>Nothing before this key is in the range.</summary>
    public string? StartAfter => From is { } from ? ObjectKeys.ChangePartition(from) : null;

    /// <summary>Whether nothing behind this key is in the range.</summary>
    public bool IsBehind(string key) => To is { } to && ObjectKeys.TryHourOf(key, out var hour) && hour > to;

    private static DateTimeOffset FullHour(DateTimeOffset time) => new(time.UtcTicks - (time.UtcTicks % TimeSpan.TicksPerHour), TimeSpan.Zero);
}

/// <param name="Files">Change files in the range.</param>
/// <param name="NewChanges">Changes that the warehouse did not have.</param>
/// <param name="FailingFiles">Files that cannot be loaded; the table load_failures says why.</param>
/// <param name="GoneFiles">Files that were there when they were counted or listed and gone when they were to be read: a compaction took them into others.</param>
internal sealed record LoadReport(long Files, long NewChanges, int FailingFiles, long GoneFiles)
{
    public bool IsComplete => FailingFiles == 0 && GoneFiles == 0;
}

/// <summary>
/// The loader's own code in this process: one pass over the change files of a range, beside whatever other loader works.
/// Only one of them is in a load at a time (they take the lock of the ledger in turn), and each load is idempotent.
/// </summary>
internal sealed class LoadRun : IDisposable
{
    /// <summary>With pauses of 1 s to 15 s some two minutes; then the command ends, and may be given again.</summary>
    private const int OutagesMax = 12;

    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly MeterListener _meters = new();
    private readonly LoaderOptions _options;
    private readonly RangeOfObjects _objects;
    private readonly LoaderStatus _status = new();
    private readonly LoaderTelemetry _telemetry;
    private readonly Loader.Loader _loader;
    private readonly TimeProvider _time;
    private long _newChanges;

    /// <param name="database">The warehouse.</param>
    /// <param name="objects">The bucket.</param>
    /// <param name="range">Which files.</param>
    /// <param name="ignoreLedger">Load also what is loaded already.</param>
    /// <param name="limits">Of one transaction: another loader waits as long.</param>
    /// <param name="logging">Where the loader writes.</param>
    /// <param name="time">The clock.</param>
    public LoadRun(
        NpgsqlDataSource database, IObjectStore objects, HourRange range, bool ignoreLedger, LoadLimits limits, ILoggerFactory logging, TimeProvider time)
    {
        _time = time;

        // The sweep with which a loader begins is the one pass; a later one would offer again what is loaded, since there is no
        // ledger to tell, or go after the files of the live loader.
        _options = new LoaderOptions { BucketName = "given", Limits = limits, SweepInterval = TimeSpan.MaxValue, FullSweepInterval = TimeSpan.MaxValue };
        var options = Microsoft.Extensions.Options.Options.Create(_options);
        _objects = new RangeOfObjects(objects, range, ownsQuarantine: ignoreLedger);
        IWarehouse warehouse = new PostgresWarehouse(database);
        if (ignoreLedger)
        {
            warehouse = new LedgerIgnored(warehouse);
        }

        var factory = _services.GetRequiredService<IMeterFactory>();
        _meters.InstrumentPublished = (instrument, listener) =>
        {
            // Another run in this process has a factory, and so a scope, of its own.
            if (instrument is { Name: "pipeline.load.changes" } && instrument.Meter.Scope == factory)
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _meters.SetMeasurementEventCallback<long>((_, changes, _, _) => Interlocked.Add(ref _newChanges, changes));
        _meters.Start();
        _telemetry = new LoaderTelemetry(factory, _status);
        _loader = new Loader.Loader(
            new Discovery(_objects, warehouse, options, time, logging.CreateLogger<Discovery>()),
            _objects, warehouse, _status, _telemetry, options, time, logging.CreateLogger<Loader.Loader>());
    }

    /// <summary>Files in the range, as soon as they are counted.</summary>
    public long Files { get; private set; }

    /// <summary>Files that were read so far.</summary>
    public long FilesRead => _objects.FilesRead;

    public long NewChanges => Interlocked.Read(ref _newChanges);

    /// <exception cref="ObjectStoreException">The store was away for too long.</exception>
    /// <exception cref="WarehouseException">The warehouse was away for too long.</exception>
    public async Task<LoadReport> RunAsync(CancellationToken cancellationToken)
    {
        Files = await _objects.CountAsync(cancellationToken);
        for (var outages = 0; ;)
        {
            try
            {
                if (!await _loader.RunOnceAsync(cancellationToken))
                {
                    return new LoadReport(Files, NewChanges, _status.FailingFiles, _objects.FilesGone);
                }

                outages = 0;
            }
            catch (Exception e) when (e is ObjectStoreException or WarehouseException && ++outages <= OutagesMax)
            {
                await Task.Delay(LoadPlan.Backoff(outages, _options.RetryFirst, _options.OutageRetryMax), _time, cancellationToken);
            }
        }
    }

    public void Dispose()
    {
        _meters.Dispose();
        _telemetry.Dispose();
        _services.Dispose();
    }

    /// <summary>
    /// Shows of the change files those of the range, and those only to the sweep, which is one pass: with the polls for new
    /// files a run beside a busy stream would never end, and those are the other loader's.
    /// </summary>
    /// <param name="inner">The bucket.</param>
    /// <param name="range">Which change files.</param>
    /// <param name="ownsQuarantine">
    /// The quarantine tells what is not in the warehouse that the live loader fills. A rebuild fills another one, and must
    /// neither take away what is still missing there nor add what is not.
    /// </param>
    private sealed class RangeOfObjects(IObjectStore inner, HourRange range, bool ownsQuarantine) : IObjectStore
    {
        private long _filesRead;
        private long _filesGone;

        public long FilesRead => Interlocked.Read(ref _filesRead);

        public long FilesGone => Interlocked.Read(ref _filesGone);

        public async Task<long> CountAsync(CancellationToken cancellationToken)
        {
            long count = 0;
            string? after = null;
            ObjectPage page;
            do
            {
                page = await ListAsync(Names.ChangesPrefix, after, cancellationToken);
                count += page.Objects.Count(o => o.Key.EndsWith(".parquet", StringComparison.Ordinal));
                after = page.Objects.Count > 0 ? page.Objects[^1].Key : after;
            }
            while (page.IsTruncated);
            return count;
        }

        public async Task<ObjectPage> ListAsync(string prefix, string? startAfter, CancellationToken cancellationToken)
        {
            if (!prefix.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal))
            {
                return await inner.ListAsync(prefix, startAfter, cancellationToken);
            }

            if (prefix != Names.ChangesPrefix)
            {
                return new ObjectPage([], IsTruncated: false);
            }

            for (var after = string.CompareOrdinal(startAfter, range.StartAfter) < 0 ? range.StartAfter : startAfter; ;)
            {
                var page = await inner.ListAsync(prefix, after, cancellationToken);
                var found = page.Objects.Where(o => range.Contains(o.Key)).ToList();
                var goesOn = page.IsTruncated && !range.IsBehind(page.Objects[^1].Key);
                if (found.Count > 0 || !goesOn)
                {
                    return new ObjectPage(found, goesOn);
                }

                // A page of nothing but others: whoever asks could not tell where to go on.
                after = page.Objects[^1].Key;
            }
        }

        public async Task<ObjectContent?> GetAsync(string key, CancellationToken cancellationToken)
        {
            var content = await inner.GetAsync(key, cancellationToken);
            if (key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal))
            {
                Interlocked.Increment(ref content is null ? ref _filesGone : ref _filesRead);
            }

            return content;
        }

        public async Task PutAsync(string key, ReadOnlyMemory<byte> content, string contentType, CancellationToken cancellationToken)
        {
            if (ownsQuarantine)
            {
                await inner.PutAsync(key, content, contentType, cancellationToken);
            }
            else if (await inner.GetAsync(key, cancellationToken) is null)
            {
                throw new OperatorException(
                    $"The warehouse that is rebuilt refuses a change that is not in quarantine ({key}): \"{QuarantinedChange.Parse(content.Span).Reason}\". "
                    + "Its tables differ from those of the loader's warehouse: mend that, and give the command again.");
            }
        }

        public Task DeleteAsync(string key, CancellationToken cancellationToken) =>
            ownsQuarantine ? inner.DeleteAsync(key, cancellationToken) : Task.CompletedTask;
    }

    /// <summary>As if no file were loaded.</summary>
    private sealed class LedgerIgnored(IWarehouse inner) : IWarehouse
    {
        public Task<IReadOnlySet<(string Key, string ETag)>> LoadedAsync(string firstKey, string lastKey, CancellationToken cancellationToken) =>
            Task.FromResult<IReadOnlySet<(string, string)>>(new HashSet<(string, string)>());

        public Task<IReadOnlyList<FailedFile>> FailuresAsync(int max, CancellationToken cancellationToken) => inner.FailuresAsync(max, cancellationToken);

        public Task<int> RecordFailureAsync(ObjectInfo file, string reason, DateTimeOffset at, CancellationToken cancellationToken) =>
            inner.RecordFailureAsync(file, reason, at, cancellationToken);

        public Task ForgetFailureAsync(string key, CancellationToken cancellationToken) => inner.ForgetFailureAsync(key, cancellationToken);

        public Task<long> CountWaitingAsync(CancellationToken cancellationToken) => inner.CountWaitingAsync(cancellationToken);

        public Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken) =>
            inner.ReleasableAsync(parked, max, cancellationToken);

        public Task ForgetWaitingAsync(Change change, CancellationToken cancellationToken) => inner.ForgetWaitingAsync(change, cancellationToken);

        public string? MisfitOf(Change change) => inner.MisfitOf(change);

        public Task<IWarehouseLoad> BeginAsync(CancellationToken cancellationToken) => inner.BeginAsync(cancellationToken);
    }
}
