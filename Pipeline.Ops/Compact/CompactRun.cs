using Pipeline.Core;
using Pipeline.Loader;

namespace Pipeline.Ops.Compact;

/// <param name="DryRun">Nothing was changed; what would be merged is counted by hour, and not into how many files.</param>
/// <param name="Files">Change files in closed hours.</param>
/// <param name="NotLoaded">Those of them that the ledger does not have; they are left alone.</param>
/// <param name="Merged">Small files whose changes are in a large one now (in a dry run: that may be merged).</param>
/// <param name="Into">Large files that were written.</param>
/// <param name="BytesBefore">Of the merged ones.</param>
/// <param name="BytesAfter">Of the large ones.</param>
/// <param name="LeftAlone">Files that were gone, unreadable or other ones than the ledger has when they were read.</param>
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

    private long _files;
    private long _notLoaded;
    private long _merged;
    private long _into;
    private long _bytesBefore;
    private long _bytesAfter;
    private long _leftAlone;

    /// <summary>Files in hours that are done.</summary>
    public long Done { get; private set; }

    /// <summary>Files that are listed so far.</summary>
    public long Listed => _files;

    /// <exception cref="ObjectStoreException">The store was away; what is done is done, and the next run goes on.</exception>
    /// <exception cref="WarehouseException">The warehouse was away; likewise.</exception>
    public async Task<CompactReport> RunAsync(CancellationToken cancellationToken)
    {
        var hour = DateTimeOffset.MinValue;
        var files = new List<ObjectInfo>();
        string? after = null;
        for (var goesOn = true; goesOn;)
        {
            var page = await objects.ListAsync(Names.ChangesPrefix, after, cancellationToken);
            after = page.Objects.Count > 0 ? page.Objects[^1].Key : after;
            goesOn = page.IsTruncated && !(ObjectKeys.TryHourOf(page.Objects[^1].Key, out var last) && last >= closedBefore);
            foreach (var (file, itsHour) in await LoadedAsync(page.Objects, cancellationToken))
            {
                if (itsHour != hour)
                {
                    await HourAsync(hour, files, cancellationToken);
                    (hour, files) = (itsHour, []);
                }

                files.Add(file);
            }
        }

        await HourAsync(hour, files, cancellationToken);
        return new CompactReport(dryRun, _files, _notLoaded, _merged, _into, _bytesBefore, _bytesAfter, _leftAlone);
    }

    /// <summary>Of a page the files of closed hours that the ledger has.</summary>
    private async Task<List<(ObjectInfo File, DateTimeOffset Hour)>> LoadedAsync(IReadOnlyList<ObjectInfo> page, CancellationToken cancellationToken)
    {
        var closed = new List<(ObjectInfo File, DateTimeOffset Hour)>();
        foreach (var file in page.Where(o => o.Key.EndsWith(".parquet", StringComparison.Ordinal)))
        {
            if (ObjectKeys.TryHourOf(file.Key, out var hour) && hour.AddHours(1) <= closedBefore)
            {
                closed.Add((file, hour));
            }
        }

        if (closed.Count == 0)
        {
            return closed;
        }

        var ledger = await warehouse.LoadedAsync(closed[0].File.Key, closed[^1].File.Key, cancellationToken);
        _files += closed.Count;
        _notLoaded += closed.RemoveAll(one => !ledger.Contains((one.File.Key, one.File.ETag)));
        return closed;
    }

    private async Task HourAsync(DateTimeOffset hour, List<ObjectInfo> files, CancellationToken cancellationToken)
    {
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
                await MergeAsync(hour, files, cancellationToken);
            }
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
        if (group.Files.Count < 2)
        {
            return;
        }

        // 1. Store the large file, whose key and bytes follow from its changes: a second run writes the same.
        var changes = group.InOrder();
        var key = ObjectKeys.CompactedFile(changes, hour);
        using var file = new MemoryStream();
        await ChangeFile.WriteAsync(changes, file, cancellationToken);
        await objects.PutAsync(key, file.GetBuffer().AsMemory(0, (int)file.Length), ChangeFile.ContentType, cancellationToken);

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
        await using (var load = await warehouse.BeginAsync(cancellationToken))
        {
            var ledger = await warehouse.LoadedAsync(group.Files[0].Key, group.Files[^1].Key, cancellationToken);
            if (!group.Files.All(part => ledger.Contains((part.Key, part.ETag))))
            {
                // Somebody took one out, to have it loaded again. The large file is loaded then.
                _leftAlone += group.Files.Count;
                return;
            }

            await load.RecordLedgerAsync([new ChangeObject(new ObjectInfo(key, stored.ETag, stored.Bytes.Length), changes)], cancellationToken);
            await load.CommitAsync(cancellationToken);
        }

        // 4. Its parts go, and then what the ledger has of them.
        var parts = group.Files.Where(part => part.Key != key).ToList();
        await Parallel.ForEachAsync(
            parts,
            // On the caller's scheduler, which is the default one but in the simulation.
            new ParallelOptions { MaxDegreeOfParallelism = DeletesAtOnce, CancellationToken = cancellationToken, TaskScheduler = TaskScheduler.Current },
            async (part, ct) => await objects.DeleteAsync(part.Key, ct));
        await forget([.. parts.Select(part => part.Key)], cancellationToken);
        _merged += parts.Count;
        _into++;
        _bytesBefore += parts.Sum(part => part.Bytes);
        _bytesAfter += stored.Bytes.Length;
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
