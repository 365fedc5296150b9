using System.Runtime.CompilerServices;
using Microsoft.Extensions.Options;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>
/// Finds the change files that are not loaded. Two ways, and both only ever name candidates, since the ledger has the
/// last word:
/// the poll looks often where new files appear, with one listing for each of a few partitions; the sweep goes through
/// everything now and then, so that a file is found however late and wherever it comes.
/// </summary>
public sealed class Discovery(IObjectStore objects, IWarehouse warehouse, IOptions<LoaderOptions> options, TimeProvider time, ILogger<Discovery> logger)
{
    /// <summary>
    /// Files of one partition that are looked at again at each poll. Keys grow with the sequence number, but shards and
    /// concurrent batches write side by side, so a file may appear somewhat below the greatest key there is.
    /// </summary>
    private const int LookBack = 200;

    /// <summary>A partition is polled this long after its last new file; an old hour gets some while a backlog is worked off.</summary>
    private static readonly TimeSpan HotFor = TimeSpan.FromMinutes(2);

    /// <summary>Besides this hour and the one before: each is a listing, and one more for the hour behind it, at every poll.</summary>
    private const int HotMax = 4;

    /// <summary>
    /// Pages of one partition in one poll, as long as all of their files are loaded: 20,000 files, in some seconds. A
    /// loader that starts late in a busy hour gets to its end in a few polls, and the other partitions wait no longer.
    /// </summary>
    private const int PagesMax = 20;

    private readonly LoaderOptions _options = options.Value;
    private readonly Dictionary<DateTimeOffset, Partition> _partitions = [];
    private Sweep? _sweep;
    private DateTimeOffset? _lastFullSweep;
    private DateTimeOffset _lastSweep;

    /// <summary>
    /// Looks where new files appear. Gives those that the ledger does not have, one page after the other: what is given
    /// is seen and will not be given again, so the caller has it even when a later listing fails.
    /// </summary>
    public async IAsyncEnumerable<IReadOnlyList<ObjectInfo>> PollAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var now = time.GetUtcNow();

        // These two are polled whatever happens. How far they are read is kept through a quiet time, or the next file
        // would be behind all others of the hour.
        var hours = new SortedSet<DateTimeOffset> { Hour(now.AddHours(-1)), Hour(now) };
        foreach (var cold in _partitions.Keys.Where(hour => !hours.Contains(hour) && now - _partitions[hour].LastFound > HotFor).ToList())
        {
            _partitions.Remove(cold);
        }

        // Besides those that lately got a file, and the ones after those: that is where a backlog goes on, and a clock
        // that is ahead of ours is already.
        var recent = _partitions.Where(p => now - p.Value.LastFound <= HotFor);
        foreach (var (hot, _) in recent.OrderByDescending(p => p.Value.LastFound).ThenByDescending(p => p.Key).Take(HotMax))
        {
            hours.Add(hot);
            hours.Add(hot.AddHours(1));
        }

        foreach (var hour in hours)
        {
            for (var (page, goesOn) = (1, true); goesOn && page <= PagesMax; page++)
            {
                (var found, goesOn) = await PollAsync(hour, now, cancellationToken);
                if (found.Count > 0)
                {
                    // They are loaded first, and the next poll, which follows at once, reads on.
                    yield return found;
                    break;
                }
            }
        }
    }

    /// <summary>Takes the next page of the sweep that is under way or due. Null when there is none.</summary>
    public async Task<IReadOnlyList<ObjectInfo>?> SweepAsync(CancellationToken cancellationToken)
    {
        var now = time.GetUtcNow();
        if (_sweep is null)
        {
            if (_lastFullSweep is null || now - _lastFullSweep >= _options.FullSweepInterval)
            {
                _sweep = new Sweep(IsFull: true, now, StartAfter: null);
            }
            else if (now - _lastSweep >= _options.SweepInterval)
            {
                _sweep = new Sweep(IsFull: false, now, ObjectKeys.ChangePartition(now - _options.SweepWindow));
            }
            else
            {
                return null;
            }
        }

        var page = await objects.ListAsync(Names.ChangesPrefix, _sweep.StartAfter, cancellationToken);
        var found = await WithoutLoadedAsync(page.Objects, cancellationToken);
        _sweep = _sweep with
        {
            StartAfter = page.Objects.Count > 0 ? page.Objects[^1].Key : _sweep.StartAfter,
            Objects = _sweep.Objects + page.Objects.Count,
            Found = _sweep.Found + found.Count,
        };

        // Where a file appeared more may follow: the poll goes on from there.
        if (found.Count > 0 && ObjectKeys.TryHourOf(found[^1].Key, out var hour))
        {
            PartitionOf(hour).LastFound = now;
        }

        if (!page.IsTruncated)
        {
            _lastSweep = now;
            _lastFullSweep = _sweep.IsFull ? now : _lastFullSweep;
            logger.Log(
                _sweep.IsFull || _sweep.Found > 0 ? LogLevel.Information : LogLevel.Debug,
                "{Sweep} sweep: {Objects} files, {Found} not loaded, in {Seconds:F1} s",
                _sweep.IsFull ? "Full" : "Window", _sweep.Objects, _sweep.Found, (now - _sweep.StartedAt).TotalSeconds);
            _sweep = null;
        }

        return found;
    }

    private async Task<(IReadOnlyList<ObjectInfo> Found, bool GoesOn)> PollAsync(DateTimeOffset hour, DateTimeOffset now, CancellationToken cancellationToken)
    {
        var prefix = ObjectKeys.ChangePartition(hour);
        var partition = _partitions.GetValueOrDefault(hour);
        var page = await objects.ListAsync(prefix, partition?.StartAfter, cancellationToken);
        var candidates = page.Objects.Where(o => partition?.Seen.GetValueOrDefault(o.Key) != o.ETag).ToList();
        var found = await WithoutLoadedAsync(candidates, cancellationToken);
        if (candidates.Count == 0)
        {
            return (found, GoesOn: false);
        }

        // Only now, when nothing more can fail, are they seen: what fails is looked at again.
        partition ??= PartitionOf(hour);
        partition.LastFound = now;
        foreach (var candidate in candidates)
        {
            partition.Seen[candidate.Key] = candidate.ETag;
        }

        while (partition.Seen.Count > LookBack)
        {
            partition.StartAfter = partition.Seen.Keys.First();
            partition.Seen.Remove(partition.StartAfter);
        }

        return (found, page.IsTruncated);
    }

    private async Task<IReadOnlyList<ObjectInfo>> WithoutLoadedAsync(IReadOnlyList<ObjectInfo> page, CancellationToken cancellationToken)
    {
        // Whoever puts something else into the prefix must not stop the files behind it.
        var files = page.Where(o => o.Key.EndsWith(".parquet", StringComparison.Ordinal)).ToList();
        if (files.Count == 0)
        {
            return files;
        }

        var loaded = await warehouse.LoadedAsync(files[0].Key, files[^1].Key, cancellationToken);
        files.RemoveAll(o => loaded.Contains((o.Key, o.ETag)));
        return files;
    }

    private Partition PartitionOf(DateTimeOffset hour)
    {
        if (!_partitions.TryGetValue(hour, out var partition))
        {
            _partitions[hour] = partition = new Partition();
        }

        return partition;
    }

    private static DateTimeOffset Hour(DateTimeOffset time) => new(time.UtcTicks - (time.UtcTicks % TimeSpan.TicksPerHour), TimeSpan.Zero);

    private sealed class Partition
    {
        public DateTimeOffset LastFound { get; set; }

        /// <summary>The greatest keys of the partition, at most <see cref="LookBack"/>, with their ETags.</summary>
        public SortedDictionary<string, string> Seen { get; } = new(StringComparer.Ordinal);

        /// <summary>The greatest key below those; the listing begins behind it.</summary>
        public string? StartAfter { get; set; }
    }

    private sealed record Sweep(bool IsFull, DateTimeOffset StartedAt, string? StartAfter)
    {
        public long Objects { get; init; }
        public long Found { get; init; }
    }
}
