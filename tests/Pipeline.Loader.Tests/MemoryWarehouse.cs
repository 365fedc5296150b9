using Pipeline.Core;

namespace Pipeline.Loader.Tests;

/// <summary>A ledger in memory, for tests of what is found and when. What a load does to rows is tested on PostgreSQL.</summary>
internal sealed class MemoryWarehouse : IWarehouse
{
    private readonly Dictionary<string, (ObjectInfo File, int Attempts, DateTimeOffset At)> _failures = [];

    public bool IsAway { get; set; }

    /// <summary>What happens when a load is begun.</summary>
    public Action OnBegin { get; set; } = () => { };

    /// <summary>Every load that was committed: its files.</summary>
    public List<string[]> Loads { get; } = [];
    public HashSet<(string Key, string ETag)> Ledger { get; } = [];
    public IEnumerable<string> Failing => _failures.Keys;

    public Task<IReadOnlySet<(string Key, string ETag)>> LoadedAsync(string firstKey, string lastKey, CancellationToken cancellationToken)
    {
        Refuse();
        return Task.FromResult<IReadOnlySet<(string, string)>>(Ledger
            .Where(l => string.CompareOrdinal(l.Key, firstKey) >= 0 && string.CompareOrdinal(l.Key, lastKey) <= 0)
            .ToHashSet());
    }

    public Task<IReadOnlyList<FailedFile>> FailuresAsync(int max, CancellationToken cancellationToken)
    {
        Refuse();
        return Task.FromResult<IReadOnlyList<FailedFile>>([.. _failures
            .OrderByDescending(f => f.Value.At).ThenBy(f => f.Key, StringComparer.Ordinal)
            .Take(max)
            .Select(f => new FailedFile(f.Key, f.Value.File.ETag, f.Value.Attempts, f.Value.At))]);
    }

    public Task<int> RecordFailureAsync(ObjectInfo file, string reason, DateTimeOffset at, CancellationToken cancellationToken)
    {
        Refuse();
        var attempts = _failures.GetValueOrDefault(file.Key).Attempts + 1;
        _failures[file.Key] = (file, attempts, at);
        return Task.FromResult(attempts);
    }

    public Task ForgetFailureAsync(string key, CancellationToken cancellationToken)
    {
        Refuse();
        _failures.Remove(key);
        return Task.CompletedTask;
    }

    public Task<long> CountWaitingAsync(CancellationToken cancellationToken)
    {
        Refuse();
        return Task.FromResult(0L);
    }

    public Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken) =>
        throw new InvalidOperationException("Nothing waits.");

    public Task ForgetWaitingAsync(Change change, CancellationToken cancellationToken) => throw new InvalidOperationException("Nothing is parked.");

    public Task<IWarehouseLoad> BeginAsync(CancellationToken cancellationToken)
    {
        Refuse();
        OnBegin();
        return Task.FromResult<IWarehouseLoad>(new Load(this));
    }

    private void Refuse()
    {
        if (IsAway)
        {
            throw new WarehouseException(WarehouseFault.Unavailable, "the warehouse is away");
        }
    }

    private sealed class Load(MemoryWarehouse warehouse) : IWarehouseLoad
    {
        private int _rows;
        private IReadOnlyList<ChangeObject> _files = [];

        public Task<IReadOnlyList<ParkedChange>> SettledAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken) =>
            throw new InvalidOperationException("Nothing is parked.");

        public Task StageAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken)
        {
            _rows = changes.Count;
            return Task.CompletedTask;
        }

        public Task HoldBackAsync(CancellationToken cancellationToken) => throw new InvalidOperationException("Nothing waits.");

        public Task<IReadOnlyList<int>> DropKnownAsync(CancellationToken cancellationToken) =>
            Task.FromResult<IReadOnlyList<int>>([.. Enumerable.Range(0, _rows)]);

        public Task InsertHistoryAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task MergeCurrentAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task RecordLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
        {
            _files = files;
            return Task.CompletedTask;
        }

        public Task CommitAsync(CancellationToken cancellationToken)
        {
            warehouse.Refuse();
            warehouse.Loads.Add([.. _files.Select(f => f.File.Key)]);
            foreach (var file in _files)
            {
                warehouse.Ledger.Add((file.File.Key, file.File.ETag));
                warehouse._failures.Remove(file.File.Key);
            }

            return Task.CompletedTask;
        }

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
