using Pipeline.Core;
using Pipeline.Loader;

namespace Pipeline.Ops.Compact;

/// <param name="DryRun">Nothing was changed; what would be merged is counted by hour, and not into how many files.</param>
/// <param name="Files">Change files in closed hours.</param>
/// <param name="NotLoaded">Those of them that the ledger does not have; they are left alone.</param>
/// <param name="Merged">Files whose changes are in a large one now (in a dry run: that may be merged).</param>
/// <param name="Into">Large files that were written.</param>
/// <param name="BytesBefore">Of the merged ones.</param>
/// <param name="BytesAfter">Of the large ones.</param>
/// <param name="LeftAlone">Files that were gone or unreadable, or became other ones than the ledger has.</param>
internal sealed record CompactReport(bool DryRun, long Files, long NotLoaded, long Merged, long Into, long BytesBefore, long BytesAfter, long LeftAlone);

/// <param name="RowsMax">Changes of a large file; a load has one file at least, and others wait for it.</param>
/// <param name="BytesMax">Of its parts as they lie in the bucket: with what they unpack to, the bound of the memory.</param>
internal sealed record CompactLimits(int RowsMax = CompactLimits.RowsByDefault, long BytesMax = 16L << 20)
{
    public const int RowsByDefault = 10_000;
}

/// <summary>
/// Small change files of a closed hour become few large ones with the same changes. The order of the steps makes it safe to
/// stop between any two of them: a small file goes only when a large one with its changes is stored, read back, and in the
/// ledger. Until then there are changes twice, of which every load takes one.
/// </summary>
/// <param name="objects">The bucket.</param>
/// <param name="warehouse">For its ledger: what it does not have is left alone.</param>
/// <param name="forget">Takes the keys of files that are gone out of the ledger.</param>
/// <param name="closedBefore">Hours that ended before this are closed.</param>
/// <param name="limits">Of a large file.</param>
/// <param name="dryRun">Change nothing.</param>
internal sealed class CompactRun(
    IObjectStore objects,
    IWarehouse warehouse,
    Func<IReadOnlyList<string>, CancellationToken, Task> forget,
    DateTimeOffset closedBefore,
    CompactLimits limits,
    bool dryRun)
{
    private const int DeletesAtOnce = 8;

    /// <summary>Without pauses: the warehouse lets a load wait for the one before it, so a conflict is with one that is over.</summary>
    private const int ConflictAttemptsMax = 5;

    private long _files;
    private long _notLoaded;
    private long _merged;
    private long _into;
    private long _bytesBefore;
    private long _bytesAfter;
    private long _leftAlone;

    /// <summary>Files in hours that are done, and those that are not loaded.</summary>
    public long Done { get; private set; }

    /// <summary>Files that are listed so far.</summary>
    public long Listed => _files;

    /// <exception cref="ObjectStoreException">The store was away; what is done is done, and the next run goes on.</exception>
    /// <exception cref="WarehouseException">The warehouse was away; likewise.</exception>
    public async Task<CompactReport> RunAsync(CancellationToken cancellationToken)
    {
        var hour = new Hour(DateTimeOffset.MinValue);
        string? after = null;
        for (var goesOn = true; goesOn;)
        {
            var page = await objects.ListAsync(Names.ChangesPrefix, after, cancellationToken);
            goesOn = page.IsTruncated && !(ObjectKeys.TryHourOf(page.Objects[^1].Key, out var last) && last >= closedBefore);
            foreach (var next in await LoadedAsync(page, after, cancellationToken))
            {
                if (next.Start != hour.Start)
                {
                    await HourAsync(hour, cancellationToken);
                    hour = next;
                }
                else
                {
                    hour.Files.AddRange(next.Files);
                    hour.Gone.AddRange(next.Gone);
                }
            }

            after = page.Objects.Count > 0 ? page.Objects[^1].Key : after;
        }

        await HourAsync(hour, cancellationToken);
        return new CompactReport(dryRun, _files, _notLoaded, _merged, _into, _bytesBefore, _bytesAfter, _leftAlone);
    }

    /// <summary>Of a page the closed hours, in order, with what the ledger has of them.</summary>
    private async Task<List<Hour>> LoadedAsync(ObjectPage page, string? after, CancellationToken cancellationToken)
    {
        // From the page before to this one's end, or to that of its last closed hour: what is listed, and what was.
        var closed = page.Objects.Select(o => ObjectKeys.TryHourOf(o.Key, out var start) && start.AddHours(1) <= closedBefore ? start : (DateTimeOffset?)null).OfType<DateTimeOffset>().ToList();
        if (closed.Count == 0)
        {
            return [];
        }

        var (first, last) = (after ?? ObjectKeys.ChangePartition(closed[0]), ObjectKeys.ChangePartition(closed[^1].AddHours(1)));
        if (page.IsTruncated && string.CompareOrdinal(page.Objects[^1].Key, last) < 0)
        {
            last = page.Objects[^1].Key;
        }

        var ledger = await warehouse.LoadedAsync(first, last, cancellationToken);
        var hours = new SortedDictionary<DateTimeOffset, Hour>();
        var listed = new HashSet<string>(StringComparer.Ordinal) { first };
        foreach (var file in page.Objects.Where(o => o.Key.EndsWith(".parquet", StringComparison.Ordinal)))
        {
            listed.Add(file.Key);
            if (HourOf(file.Key) is not { } hour)
            {
                continue;
            }

            _files++;
            if (ledger.Contains((file.Key, file.ETag)))
            {
                hour.Files.Add(file);
            }
            else
            {
                _notLoaded++;
                Done++;
            }
        }

        // A large file that is gone was taken by somebody else: its row is the only trace of its changes.
        foreach (var (key, _) in ledger.Where(row => !listed.Contains(row.Key) && !ObjectKeys.IsCompacted(row.Key)))
        {
            HourOf(key)?.Gone.Add(key);
        }

        return [.. hours.Values];

        Hour? HourOf(string key)
        {
            if (!ObjectKeys.TryHourOf(key, out var start) || start.AddHours(1) > closedBefore)
            {
                return null;
            }

            return hours.TryGetValue(start, out var hour) ? hour : hours[start] = new Hour(start);
        }
    }

    private async Task HourAsync(Hour hour, CancellationToken cancellationToken)
    {
        var files = hour.Files;

        // What is merged already stays as it is, until a late file comes to its hour or a run was interrupted there.
        if (files.Count > 1 && files.Any(file => !ObjectKeys.IsCompacted(file.Key)))
        {
            if (dryRun)
            {
                _merged += files.Count;
                _bytesBefore += files.Sum(file => file.Bytes);
            }
            else
            {
                await MergeAsync(hour.Start, files, cancellationToken);
            }
        }

        // A run that was stopped between its last two steps left these. Should one of them have come just now, it is loaded once
        // more, for nothing. Without a large file they are not from a run: it may be the wrong bucket.
        if (!dryRun && hour.Gone.Count > 0 && files.Exists(file => ObjectKeys.IsCompacted(file.Key)))
        {
            await AgainAsync(() => forget(hour.Gone, cancellationToken));
        }

        Done += files.Count;
    }

    private async Task MergeAsync(DateTimeOffset hour, List<ObjectInfo> files, CancellationToken cancellationToken)
    {
        var group = new Group();
        foreach (var file in files)
        {
            if (await ReadAsync(file, cancellationToken) is not { } changes)
            {
                _leftAlone++;
                continue;
            }

            if (!group.TryAdd(file, changes, limits))
            {
                await StoreAsync(hour, group, cancellationToken);
                group = new Group();
                group.TryAdd(file, changes, limits);
            }
        }

        await StoreAsync(hour, group, cancellationToken);
    }

    /// <summary>Null when it is not what the ledger has (any more).</summary>
    private async Task<IReadOnlyList<Change>?> ReadAsync(ObjectInfo file, CancellationToken cancellationToken)
    {
        try
        {
            if (await objects.GetAsync(file.Key, cancellationToken) is not { } content || content.ETag != file.ETag)
            {
                return null;
            }

            using var stream = new MemoryStream(content.Bytes, writable: false);
            return await ChangeFile.ReadAsync(stream, cancellationToken);
        }
        catch (Exception e) when (e is InvalidDataException or ObjectUnreadableException)
        {
            // It was loaded once and cannot be read now: nothing of it may go.
            return null;
        }
    }

    private async Task StoreAsync(DateTimeOffset hour, Group group, CancellationToken cancellationToken)
    {
        // A small one for which none is left becomes a large one of its own, or each run would read the hour again.
        if (group.Files.Count == 0 || (group.Files.Count == 1 && ObjectKeys.IsCompacted(group.Files[0].Key)))
        {
            return;
        }

        // 1. Store the large file, whose bytes follow from its changes, and its key from those: a second run writes the same.
        var changes = group.InOrder();
        using var file = new MemoryStream();
        await ChangeFile.WriteAsync(changes, file, cancellationToken);
        var bytes = file.GetBuffer().AsMemory(0, (int)file.Length);
        var key = ObjectKeys.CompactedFile(changes, hour, bytes.Span);
        await objects.PutAsync(key, bytes, ChangeFile.ContentType, cancellationToken);

        // 2. Read it back, as a load would.
        var stored = await objects.GetAsync(key, cancellationToken) ?? throw new OperatorException($"{key} was stored and is not there.");
        using (var content = new MemoryStream(stored.Bytes, writable: false))
        {
            if (!(await ChangeFile.ReadAsync(content, cancellationToken)).SequenceEqual(changes))
            {
                throw new OperatorException($"{key} was stored and has other changes now. Nothing of what it was made of is removed.");
            }
        }

        // 3. The ledger has it, as it has all that it is made of: the loader need not load it.
        var isRecorded = false;
        await AgainAsync(async () => isRecorded = await RecordAsync(
            new ChangeObject(new ObjectInfo(key, stored.ETag, stored.Bytes.Length), changes), group.Files, cancellationToken));
        if (!isRecorded)
        {
            // Somebody took one out, to have it loaded again. The large file is loaded then.
            _leftAlone += group.Files.Count;
            return;
        }

        // 4. Its parts go, and then what the ledger has of them. One that was written over since it was read stays, to be loaded.
        var parts = group.Files.Where(part => part.Key != key).ToList();
        var overwritten = await OverwrittenAsync(parts, cancellationToken);
        _leftAlone += overwritten.Count;
        parts.RemoveAll(part => overwritten.Contains(part.Key));
        await Parallel.ForEachAsync(
            parts,
            // On the caller's scheduler, which is the default one but in the simulation.
            new ParallelOptions { MaxDegreeOfParallelism = DeletesAtOnce, CancellationToken = cancellationToken, TaskScheduler = TaskScheduler.Current },
            async (part, ct) => await objects.DeleteAsync(part.Key, ct));
        await AgainAsync(() => forget([.. parts.Select(part => part.Key)], cancellationToken));
        _merged += parts.Count;
        _into++;
        _bytesBefore += parts.Sum(part => part.Bytes);
        _bytesAfter += stored.Bytes.Length;
    }

    /// <returns>Whether the ledger had all parts, and so has the large file now.</returns>
    private async Task<bool> RecordAsync(ChangeObject file, List<ObjectInfo> parts, CancellationToken cancellationToken)
    {
        await using var load = await warehouse.BeginAsync(cancellationToken);
        var ledger = await warehouse.LoadedAsync(parts[0].Key, parts[^1].Key, cancellationToken);
        if (!parts.TrueForAll(part => ledger.Contains((part.Key, part.ETag))))
        {
            return false;
        }

        await load.RecordLedgerAsync([file], cancellationToken);
        await load.CommitAsync(cancellationToken);
        return true;
    }

    /// <summary>The keys of those that have another ETag by now.</summary>
    private async Task<HashSet<string>> OverwrittenAsync(List<ObjectInfo> parts, CancellationToken cancellationToken)
    {
        var read = parts.ToDictionary(part => part.Key, part => part.ETag, StringComparer.Ordinal);
        var overwritten = new HashSet<string>(StringComparer.Ordinal);
        if (parts.Count == 0)
        {
            return overwritten;
        }

        // A little before the first one, since the listing starts behind what is given.
        var after = parts[0].Key[..^1];
        for (var goesOn = true; goesOn;)
        {
            var page = await objects.ListAsync(Names.ChangesPrefix, after, cancellationToken);
            overwritten.UnionWith(page.Objects.Where(file => read.TryGetValue(file.Key, out var etag) && etag != file.ETag).Select(file => file.Key));
            after = page.Objects.Count > 0 ? page.Objects[^1].Key : after;
            goesOn = page.IsTruncated && string.CompareOrdinal(after, parts[^1].Key) < 0;
        }

        return overwritten;
    }

    /// <summary>A conflict with a load is no outage, unless it lasts.</summary>
    private static async Task AgainAsync(Func<Task> call)
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                await call();
                return;
            }
            catch (WarehouseException e) when (e.Fault == WarehouseFault.Conflict && attempt < ConflictAttemptsMax)
            {
            }
        }
    }

    /// <summary>A closed hour: its files that the ledger has, and the keys that only the ledger has.</summary>
    private sealed record Hour(DateTimeOffset Start)
    {
        public List<ObjectInfo> Files { get; } = [];
        public List<string> Gone { get; } = [];
    }

    /// <summary>Files that become one.</summary>
    private sealed class Group
    {
        private readonly Dictionary<(SequenceNumber, string, long), Change> _changes = [];
        private long _bytes;

        public List<ObjectInfo> Files { get; } = [];

        /// <summary>
        /// A file with nothing new always fits: it is what an interrupted run left. One that has a change in another form (after a
        /// change of the key for personal data, say) never does: which of the two was loaded is not known here, so both stay.
        /// </summary>
        public bool TryAdd(ObjectInfo file, IReadOnlyList<Change> changes, CompactLimits limits)
        {
            if (changes.Any(change => _changes.TryGetValue(KeyOf(change), out var known) && known != change))
            {
                return false;
            }

            var news = changes.Where(change => !_changes.ContainsKey(KeyOf(change))).ToList();
            if (Files.Count > 0 && news.Count > 0 && (_changes.Count + news.Count > limits.RowsMax || _bytes + file.Bytes > limits.BytesMax))
            {
                return false;
            }

            foreach (var change in news)
            {
                // A change that is there twice is taken once, the first as a load does.
                _changes.TryAdd(KeyOf(change), change);
            }

            Files.Add(file);
            _bytes += news.Count > 0 ? file.Bytes : 0;
            return true;
        }

        /// <summary>The same for the same changes, whichever files they came from.</summary>
        public IReadOnlyList<Change> InOrder() =>
            [.. _changes.Values.OrderBy(c => c.SequenceNumber).ThenBy(c => c.OrderId, StringComparer.Ordinal).ThenBy(c => c.Version)];

        private static (SequenceNumber, string, long) KeyOf(Change change) => (change.SequenceNumber, change.OrderId, change.Version);
    }
}
