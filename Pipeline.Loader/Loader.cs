using System.Diagnostics;
using Microsoft.Extensions.Options;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>Change files → warehouse. One turn is: discover, plan, load.</summary>
public sealed class Loader(
    Discovery discovery,
    IObjectStore objects,
    IWarehouse warehouse,
    LoaderStatus status,
    LoaderTelemetry telemetry,
    IOptions<LoaderOptions> options,
    TimeProvider time,
    ILogger<Loader> logger)
{
    /// <summary>Tries of one load that meets a conflict, with pauses of 50 ms, 100 ms …; a conflict that lasts is an outage.</summary>
    private const int ConflictAttemptsMax = 5;
    private static readonly TimeSpan ConflictPause = TimeSpan.FromMilliseconds(50);

    private readonly LoaderOptions _options = options.Value;

    /// <summary>Known and not loaded, by key. Lost with the process, and found again by the sweep at its start.</summary>
    private readonly Dictionary<string, PendingFile> _pending = new(StringComparer.Ordinal);

    /// <summary>Files that fail do not count: they may do so for good, and what is new must be found all the same.</summary>
    private int Untried => _pending.Values.Count(f => f.Attempts == 0);

    /// <summary>
    /// Brings back what is known to fail, with its backoff: those that were tried last, since the others are due
    /// anyway and the first sweep finds them. Once, before the first turn.
    /// </summary>
    public async Task RestoreAsync(CancellationToken cancellationToken)
    {
        foreach (var failure in await warehouse.FailuresAsync(_options.PendingMax, cancellationToken))
        {
            var notBefore = failure.LastAt + LoadPlan.Backoff(failure.Attempts, _options.RetryFirst, _options.FileRetryMax);
            _pending[failure.Key] = new PendingFile(new ObjectInfo(failure.Key, failure.ETag, 0), IsFresh: false, failure.Attempts, notBefore);
        }

        Report();
    }

    /// <summary>Returns whether there was something to do, so that the next turn should follow at once.</summary>
    /// <exception cref="ObjectStoreException">The store is away; nothing is lost, and the next turn tries again.</exception>
    /// <exception cref="WarehouseException">The warehouse is away; likewise.</exception>
    public async Task<bool> RunOnceAsync(CancellationToken cancellationToken)
    {
        // 1. Discover. With too many files pending already, looking for more waits until some are loaded; a sweep
        //    through a large backlog leaves room for what is fresh.
        if (Untried < _options.PendingMax)
        {
            await foreach (var found in discovery.PollAsync(cancellationToken))
            {
                Offer(found, isFresh: true);
            }
        }

        var swept = Untried < _options.PendingMax / 2 ? await discovery.SweepAsync(cancellationToken) : null;
        Offer(swept ?? [], isFresh: false);

        // 2. Plan.
        var plan = LoadPlan.Next(_pending.Values, time.GetUtcNow(), _options.Limits);

        // 3. Load.
        foreach (var files in plan)
        {
            foreach (var transaction in LoadPlan.SplitByRows(await ReadAsync(files, cancellationToken), _options.Limits))
            {
                await LoadAsync(transaction, cancellationToken);
            }
        }

        Report();
        return swept is not null || plan.Count > 0;
    }

    private void Offer(IEnumerable<ObjectInfo> files, bool isFresh)
    {
        foreach (var file in files)
        {
            // What is pending under the same ETag stays as it is: it may have failed and be waiting.
            if (!_pending.TryGetValue(file.Key, out var known) || known.File.ETag != file.ETag)
            {
                _pending[file.Key] = new PendingFile(file, isFresh, Attempts: 0, DateTimeOffset.MinValue);
            }
        }
    }

    /// <summary>Downloads and decodes the files. One that is unreadable fails alone, and one that is gone is forgotten.</summary>
    private async Task<IReadOnlyList<ChangeObject>> ReadAsync(IReadOnlyList<PendingFile> files, CancellationToken cancellationToken)
    {
        var read = new ChangeObject?[files.Count];
        var unreadable = new string?[files.Count];
        await Parallel.ForAsync(
            0,
            files.Count,
            // On the caller's scheduler, which is the default one but in the simulation.
            new ParallelOptions { MaxDegreeOfParallelism = _options.DownloadParallelism, CancellationToken = cancellationToken, TaskScheduler = TaskScheduler.Current },
            async (i, ct) =>
            {
                var file = files[i].File;
                if (file.Bytes > ChangeFile.BytesMax)
                {
                    unreadable[i] = $"the file has {file.Bytes} bytes; at most {ChangeFile.BytesMax} are read";
                    return;
                }

                try
                {
                    if (await objects.GetAsync(file.Key, ct) is not { } content)
                    {
                        return;
                    }

                    using var stream = new MemoryStream(content.Bytes, writable: false);
                    var changes = await ChangeFile.ReadAsync(stream, ct);
                    read[i] = new ChangeObject(file with { ETag = content.ETag, Bytes = content.Bytes.Length }, changes);
                }
                catch (Exception e) when (e is InvalidDataException or ObjectUnreadableException)
                {
                    unreadable[i] = e.Message;
                }
            });

        for (var i = 0; i < files.Count; i++)
        {
            if (unreadable[i] is { } reason)
            {
                await FailAsync(files[i].File, reason, cancellationToken);
            }
            else if (read[i] is null)
            {
                logger.LogWarning("File {Key} is gone from the bucket", files[i].File.Key);
                await warehouse.ForgetFailureAsync(files[i].File.Key, cancellationToken);
                _pending.Remove(files[i].File.Key);
            }
        }

        return [.. read.OfType<ChangeObject>()];
    }

    /// <summary>
    /// Loads the files in one transaction. When the warehouse refuses them, in two, and so on: the file that it
    /// refuses is found in a few steps, and the others are loaded.
    /// </summary>
    private async Task LoadAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
    {
        try
        {
            await LoadTogetherAsync(files, cancellationToken);
        }
        catch (WarehouseException e) when (e.Fault == WarehouseFault.Refused && files.Count > 1)
        {
            logger.LogWarning("The warehouse refuses a load of {Files} files ({Reason}); they are loaded in two halves", files.Count, e.Message);
            var half = files.Count / 2;
            await LoadAsync([.. files.Take(half)], cancellationToken);
            await LoadAsync([.. files.Skip(half)], cancellationToken);
        }
        catch (WarehouseException e) when (e.Fault == WarehouseFault.Refused)
        {
            await FailAsync(files[0].File, e.Message, cancellationToken);
        }
    }

    private async Task LoadTogetherAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                await LoadOnceAsync(files, cancellationToken);
                break;
            }
            catch (WarehouseException e) when (e.Fault == WarehouseFault.Conflict && attempt < ConflictAttemptsMax)
            {
                logger.LogInformation("The load met a conflict ({Reason}) and is tried again", e.Message);
                await Task.Delay(ConflictPause * Math.Pow(2, attempt - 1), time, cancellationToken);
            }
        }

        foreach (var file in files)
        {
            _pending.Remove(file.File.Key);
        }
    }

    private async Task LoadOnceAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        var changes = files.SelectMany(f => f.Changes).ToList();
        using var activity = telemetry.StartLoad(files, changes);
        try
        {
            // The ledger is written in the same transaction as the rows: either a file is loaded and known to be, or
            // neither. Once COMMIT is sent the load may have taken effect whatever comes back.
            await using var load = await warehouse.BeginAsync(cancellationToken);
            await load.StageAsync(files, cancellationToken);
            var news = await load.DropKnownAsync(cancellationToken);
            if (news.Count > 0)
            {
                await load.InsertHistoryAsync(cancellationToken);
                await load.MergeCurrentAsync(cancellationToken);
            }

            await load.RecordLedgerAsync(files, cancellationToken);
            await load.CommitAsync(cancellationToken);

            var elapsed = time.GetElapsedTime(started);
            telemetry.Loaded(files, news.Select(row => changes[row]), elapsed, time.GetUtcNow());
            status.Loaded(time.GetUtcNow());
            logger.LogInformation(
                "Loaded {Changes} changes ({New} new) of {Files} files in {Milliseconds:F0} ms, up to {Key}",
                changes.Count, news.Count, files.Count, elapsed.TotalMilliseconds, files[^1].File.Key);
        }
        catch (Exception e)
        {
            activity?.SetStatus(ActivityStatusCode.Error, e.Message);
            throw;
        }
    }

    private async Task FailAsync(ObjectInfo file, string reason, CancellationToken cancellationToken)
    {
        var now = time.GetUtcNow();
        var attempts = await warehouse.RecordFailureAsync(file, reason, now, cancellationToken);
        var pause = LoadPlan.Backoff(attempts, _options.RetryFirst, _options.FileRetryMax);

        // All of them are in the warehouse, and as many as there is room for here; a sweep finds the others again.
        _pending.Remove(file.Key);
        if (_pending.Count - Untried < _options.PendingMax)
        {
            _pending[file.Key] = new PendingFile(file, IsFresh: false, attempts, now + pause);
        }

        logger.LogError("File {Key} cannot be loaded: {Reason}. Try {Attempts}, the next in {Seconds:F0} s", file.Key, reason, attempts, pause.TotalSeconds);
    }

    private void Report()
    {
        status.Pending(_pending.Count, [.. _pending.Values.Where(f => f.Attempts > 0).Select(f => f.File.Key).Order(StringComparer.Ordinal)]);
    }
}
