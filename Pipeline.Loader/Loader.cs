using System.Diagnostics;
using Microsoft.Extensions.Options;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>Change files → warehouse. One turn is: release what waited, discover, plan, load.</summary>
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

    private readonly Quarantine _quarantine = new(objects, logger);

    /// <summary>When the waiting changes are looked at next.</summary>
    private DateTimeOffset _nextLook;

    /// <summary>
    /// The first look also takes away what an earlier process loaded and left in quarantine, whether something waits or
    /// not.
    /// </summary>
    private bool _hasLooked;

    /// <summary>In this turn; see <see cref="LoaderOptions.ParkedMax"/>.</summary>
    private int _parked;

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
        // 1. Release. Before what is new: it came earlier.
        _parked = 0;
        var released = await ReleaseAsync(cancellationToken);

        // 2. Discover. With too many files pending already, looking for more waits until some are loaded; a sweep
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

        // 3. Plan.
        var plan = LoadPlan.Next(_pending.Values, time.GetUtcNow(), _options.Limits);

        // 4. Load.
        foreach (var files in plan)
        {
            foreach (var transaction in LoadPlan.SplitByRows(await ReadAsync(files, cancellationToken), _options.Limits))
            {
                await LoadAsync(transaction, cancellationToken);
            }
        }

        Report();
        return swept is not null || plan.Count > 0 || released > 0;
    }

    /// <summary>Lets in what waited behind a parked change that is loaded or discarded, whichever loader held it back.</summary>
    /// <returns>How many changes there were to let in.</returns>
    private async Task<int> ReleaseAsync(CancellationToken cancellationToken)
    {
        var now = time.GetUtcNow();
        if (now < _nextLook)
        {
            return 0;
        }

        var waiting = await warehouse.CountWaitingAsync(cancellationToken);
        status.Waiting(waiting);
        IReadOnlyList<Change> free = [];
        if (waiting > 0 || !_hasLooked)
        {
            var parked = await _quarantine.ListAsync(cancellationToken);
            if (waiting > 0)
            {
                free = await warehouse.ReleasableAsync(parked, _options.ReleaseMax, cancellationToken);
            }

            if (free.Count > 0 || (!_hasLooked && parked.Count > 0))
            {
                await ReleaseAsync(free, cancellationToken);
            }

            _hasLooked = true;
        }

        // More than can be let in at once goes on at once.
        _nextLook = free.Count == _options.ReleaseMax ? now : now + _options.ReleaseInterval;
        return free.Count;
    }

    private async Task ReleaseAsync(IReadOnlyList<Change> changes, CancellationToken cancellationToken)
    {
        foreach (var change in changes.Where(_quarantine.IsDiscarded))
        {
            await warehouse.ForgetWaitingAsync(change, cancellationToken);
        }

        try
        {
            await LoadPartsAsync([.. changes.Where(c => !_quarantine.IsDiscarded(c))], [], cancellationToken);
        }
        catch (WarehouseException e) when (e.Fault == WarehouseFault.Refused)
        {
            // They are in the warehouse, and the next look tries them again.
            logger.LogError("Not all of {Changes} changes that waited can be loaded: {Reason}", changes.Count, e.Message);
        }
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
    /// Loads the files in one transaction. When the warehouse refuses them, in two, and so on, down to the changes: the
    /// one that it refuses is found in a few steps and parked, and the others are loaded.
    /// </summary>
    private async Task LoadAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
    {
        try
        {
            var changes = await ParkMisfitsAsync(files.Count == 1 ? files[0].Changes : [.. files.SelectMany(f => f.Changes)], cancellationToken);
            if (files.Count == 1)
            {
                await LoadPartsAsync(changes, files, cancellationToken);
            }
            else
            {
                await LoadTogetherAsync(changes, files, cancellationToken);
            }
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

    /// <summary>Parks what the warehouse is known not to take; later changes of those orders wait, in the load that follows.</summary>
    /// <returns>The other changes.</returns>
    private async Task<IReadOnlyList<Change>> ParkMisfitsAsync(IReadOnlyList<Change> changes, CancellationToken cancellationToken)
    {
        var fitting = new List<Change>(changes.Count);
        foreach (var change in changes)
        {
            if (warehouse.MisfitOf(change) is { } misfit)
            {
                await ParkAsync(change, misfit, cancellationToken);
            }
            else
            {
                fitting.Add(change);
            }
        }

        return fitting;
    }

    /// <param name="changes">Of a file, or that waited.</param>
    /// <param name="files">Whose last part this is: their ledger is written with it.</param>
    /// <param name="cancellationToken">Ends the load between two steps.</param>
    private async Task LoadPartsAsync(IReadOnlyList<Change> changes, IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
    {
        try
        {
            await LoadTogetherAsync(changes, files, cancellationToken);
        }
        catch (WarehouseException e) when (e.Fault == WarehouseFault.Refused && changes.Count > 1)
        {
            // The earlier half first: when a change of it is parked, its order's changes in the other one wait.
            IReadOnlyList<Change> inOrder = [.. changes.OrderBy(c => c.SequenceNumber)];
            var half = inOrder.Count / 2;
            await LoadPartsAsync([.. inOrder.Take(half)], [], cancellationToken);
            await LoadPartsAsync([.. inOrder.Skip(half)], files, cancellationToken);
        }
        catch (WarehouseException e) when (e.Fault == WarehouseFault.Refused && changes.Count == 1)
        {
            await ParkAsync(changes[0], e.Message, cancellationToken);
            if (files.Count > 0)
            {
                await LoadTogetherAsync([], files, cancellationToken);
            }
        }
    }

    private async Task ParkAsync(Change change, string reason, CancellationToken cancellationToken)
    {
        // Those of an earlier try are parked already, so every try of a file with many gets further.
        if (_parked == _options.ParkedMax && !_quarantine.Holds(change))
        {
            throw new WarehouseException(
                WarehouseFault.Refused,
                $"The warehouse refuses more than {_options.ParkedMax} changes, which are in quarantine; the rest is tried again. The next one's reason: {reason}");
        }

        if (await _quarantine.ParkAsync(change, reason, cancellationToken))
        {
            _parked++;
            telemetry.Parked();
        }

        // It may have waited until now; behind itself it does not.
        await warehouse.ForgetWaitingAsync(change, cancellationToken);
    }

    private async Task LoadTogetherAsync(IReadOnlyList<Change> changes, IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
    {
        IReadOnlyCollection<ParkedChange> settled;
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                settled = await LoadOnceAsync(changes, files, cancellationToken);
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

        if (settled.Count > 0)
        {
            await _quarantine.SettleAsync(settled, cancellationToken);

            // What waited behind them is free.
            _nextLook = DateTimeOffset.MinValue;
        }
    }

    /// <returns>The parked changes that the warehouse has, of this load or an earlier one.</returns>
    private async Task<IReadOnlyCollection<ParkedChange>> LoadOnceAsync(
        IReadOnlyList<Change> given, IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        using var activity = telemetry.StartLoad(given, files);
        try
        {
            // The ledger is written in the same transaction as the rows: either a file is loaded and known to be, or
            // neither. Once COMMIT is sent the load may have taken effect whatever comes back.
            await using var load = await warehouse.BeginAsync(cancellationToken);

            // Listed when no other loader is in a load, and after the changes were found: the object of a record that
            // could not be decoded is written before its batch is acknowledged, so before any later change of its
            // order could be found.
            var parked = await _quarantine.ListAsync(cancellationToken);
            var settled = parked.Count > 0 ? await load.SettledAsync(parked, cancellationToken) : [];
            var wanted = given.Any(_quarantine.IsDiscarded) ? [.. given.Where(c => !_quarantine.IsDiscarded(c))] : given;
            var (changes, waiting) = LoadPlan.Divide(wanted, [.. parked.Except(settled)]);

            await load.StageAsync(changes, waiting, cancellationToken);
            var news = (await load.DropKnownAsync(cancellationToken)).Where(row => row < changes.Count).ToList();
            if (waiting.Count > 0)
            {
                await load.HoldBackAsync(cancellationToken);
            }

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
                "Loaded {Changes} changes ({New} new, {Waiting} have to wait) of {Files} files in {Milliseconds:F0} ms, up to {Key}",
                given.Count, news.Count, waiting.Count, files.Count, elapsed.TotalMilliseconds, files.Count > 0 ? files[^1].File.Key : "-");
            if (parked.Count == 0)
            {
                return [];
            }

            var loaded = changes.ToLookup(c => (c.OrderId, c.SequenceNumber));
            return [.. parked.Where(p => settled.Contains(p) || loaded[(p.OrderId, p.SequenceNumber)].Any(p.Is))];
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
