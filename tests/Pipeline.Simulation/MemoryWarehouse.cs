using Pipeline.Core;
using Pipeline.Loader;

namespace Pipeline.Simulation;

/// <summary>
/// All that the warehouse holds, an order's row as the change that it shows. Rows are lists, as nothing but the load's own
/// statements keeps them from being there twice.
/// </summary>
internal sealed record WarehouseContent(
    IReadOnlyList<Change> Changes, IReadOnlyList<Change> Orders, IReadOnlyList<Change> Waiting, IReadOnlyList<(string Key, string ETag)> Ledger, IReadOnlyList<string> Failing);

/// <summary>A warehouse for one run.</summary>
internal interface ISimulatedWarehouse : IWarehouse
{
    /// <summary>What is committed.</summary>
    WarehouseContent Read();

    /// <summary>
    /// What a reader may be shown after something was committed and that no load alone would notice; empty: nothing is wrong.
    /// </summary>
    IEnumerable<string> Faults();

    /// <summary>
    /// Called when a call has to wait for other transactions: returns once everything that can go on without the simulation
    /// doing something has done so.
    /// </summary>
    void Settle();

    /// <summary>Takes files that are gone out of the ledger.</summary>
    Task ForgetLedgerAsync(IReadOnlyList<string> keys, CancellationToken cancellationToken);

    /// <summary>An empty one of the same kind, for what is built anew. It may take the place of this one.</summary>
    ISimulatedWarehouse Anew();
}

/// <summary>
/// The meaning of the load, in a few lines: what the SQL has to do, statement by statement. Calls complete at once but for
/// <see cref="BeginAsync"/>, which waits for the load before it.
/// </summary>
internal sealed class MemoryWarehouse : ISimulatedWarehouse
{
    private readonly List<Change> _changes = [];
    private readonly Dictionary<string, List<Change>> _history = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Change> _orders = new(StringComparer.Ordinal);
    private readonly List<(string Key, string ETag)> _ledger = [];
    private readonly List<Change> _waitingChanges = [];
    private readonly Dictionary<string, (string ETag, int Attempts, DateTimeOffset LastAt)> _failures = new(StringComparer.Ordinal);
    private readonly Queue<TaskCompletionSource<IWarehouseLoad>> _waiting = new();

    /// <summary>The load that has the lock.</summary>
    private Load? Holder { get; set; }

    public WarehouseContent Read() => new(_changes, [.. _orders.Values], _waitingChanges, _ledger, [.. _failures.Keys]);

    public IEnumerable<string> Faults() => [];

    public void Settle()
    {
    }

    public ISimulatedWarehouse Anew() => new MemoryWarehouse();

    public Task ForgetLedgerAsync(IReadOnlyList<string> keys, CancellationToken cancellationToken)
    {
        _ledger.RemoveAll(l => keys.Contains(l.Key));
        return Task.CompletedTask;
    }

    public Task<IReadOnlySet<(string Key, string ETag)>> LoadedAsync(string firstKey, string lastKey, CancellationToken cancellationToken) =>
        Task.FromResult<IReadOnlySet<(string, string)>>(_ledger
            .Where(l => string.CompareOrdinal(l.Key, firstKey) >= 0 && string.CompareOrdinal(l.Key, lastKey) <= 0)
            .ToHashSet());

    public Task<IReadOnlyList<FailedFile>> FailuresAsync(int max, CancellationToken cancellationToken) =>
        Task.FromResult<IReadOnlyList<FailedFile>>([.. _failures
            .OrderByDescending(f => f.Value.LastAt).ThenBy(f => f.Key, StringComparer.Ordinal)
            .Take(max)
            .Select(f => new FailedFile(f.Key, f.Value.ETag, f.Value.Attempts, f.Value.LastAt))]);

    public Task<int> RecordFailureAsync(ObjectInfo file, string reason, DateTimeOffset at, CancellationToken cancellationToken)
    {
        var attempts = _failures.TryGetValue(file.Key, out var known) && known.ETag == file.ETag ? known.Attempts + 1 : 1;
        _failures[file.Key] = (file.ETag, attempts, at);
        return Task.FromResult(attempts);
    }

    public Task ForgetFailureAsync(string key, CancellationToken cancellationToken)
    {
        _failures.Remove(key);
        return Task.CompletedTask;
    }

    public Task<long> CountWaitingAsync(CancellationToken cancellationToken) => Task.FromResult((long)_waitingChanges.Count);

    public Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken) =>
        Task.FromResult<IReadOnlyList<Change>>([.. _waitingChanges
            .Where(w => !parked.Any(p => p.OrderId == w.OrderId && p.SequenceNumber < w.SequenceNumber && !IsLoaded(p)))
            .OrderBy(w => w.OrderId, StringComparer.Ordinal).ThenBy(w => w.SequenceNumber)
            .Take(max)]);

    public Task ForgetWaitingAsync(Change change, CancellationToken cancellationToken)
    {
        _waitingChanges.RemoveAll(w => KeyOf(w) == KeyOf(change));
        return Task.CompletedTask;
    }

    public Task<IWarehouseLoad> BeginAsync(CancellationToken cancellationToken)
    {
        if (Holder is null)
        {
            return Task.FromResult<IWarehouseLoad>(Holder = new Load(this));
        }

        var turn = new TaskCompletionSource<IWarehouseLoad>();
        cancellationToken.Register(() => turn.TrySetCanceled(cancellationToken));
        _waiting.Enqueue(turn);
        return turn.Task;
    }

    private bool IsLoaded(ParkedChange parked) => _history.GetValueOrDefault(parked.OrderId, []).Exists(parked.Is);

    private static (string, long, SequenceNumber) KeyOf(Change change) => (change.OrderId, change.Version, change.SequenceNumber);

    private void Release(Load load)
    {
        if (Holder != load)
        {
            return;
        }

        Holder = null;
        while (Holder is null && _waiting.TryDequeue(out var next))
        {
            var following = new Load(this);
            Holder = following;
            if (!next.TrySetResult(following) && Holder == following)
            {
                Holder = null;
            }
        }
    }

    private sealed class Load(MemoryWarehouse warehouse) : IWarehouseLoad
    {
        private readonly List<Change> _inserted = [];
        private readonly Dictionary<string, Change> _merged = new(StringComparer.Ordinal);
        private readonly List<(string Key, string ETag)> _loaded = [];
        private readonly List<string> _succeeded = [];
        private readonly HashSet<(string, long, SequenceNumber)> _waitNoLonger = [];
        private readonly List<Change> _heldBack = [];
        private List<(int Row, bool Waits, Change Change)> _staged = [];

        public Task<IReadOnlyList<ParkedChange>> SettledAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken) =>
            Task.FromResult<IReadOnlyList<ParkedChange>>([.. parked.Where(warehouse.IsLoaded)]);

        public Task StageAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken)
        {
            _staged = [.. changes.Concat(waiting).Select((change, row) => (row, row >= changes.Count, change))];
            return Task.CompletedTask;
        }

        public Task<IReadOnlyList<int>> DropKnownAsync(CancellationToken cancellationToken)
        {
            _waitNoLonger.UnionWith(_staged.Where(s => !s.Waits).Select(s => KeyOf(s.Change)));
            var known = new HashSet<(string, long, SequenceNumber)>();
            _staged.RemoveAll(s => HistoryOf(s.Change.OrderId).Any(c => KeyOf(c) == KeyOf(s.Change)) || !known.Add(KeyOf(s.Change)));
            return Task.FromResult<IReadOnlyList<int>>([.. _staged.Select(s => s.Row)]);
        }

        public Task HoldBackAsync(CancellationToken cancellationToken)
        {
            _heldBack.AddRange(_staged
                .Where(s => s.Waits && !warehouse._waitingChanges.Exists(w => KeyOf(w) == KeyOf(s.Change)))
                .Select(s => s.Change));
            _staged.RemoveAll(s => s.Waits);
            return Task.CompletedTask;
        }

        public Task InsertHistoryAsync(CancellationToken cancellationToken)
        {
            _inserted.AddRange(_staged.Select(s => s.Change));
            return Task.CompletedTask;
        }

        public Task MergeCurrentAsync(CancellationToken cancellationToken)
        {
            foreach (var orderId in _staged.Select(s => s.Change.OrderId).Distinct())
            {
                _merged[orderId] = Rule.Winner([.. HistoryOf(orderId), .. _staged.Select(s => s.Change).Where(c => c.OrderId == orderId)]);
            }

            return Task.CompletedTask;
        }

        public Task RecordLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
        {
            foreach (var file in files)
            {
                var entry = (file.File.Key, file.File.ETag);
                if (!warehouse._ledger.Contains(entry) && !_loaded.Contains(entry))
                {
                    _loaded.Add(entry);
                }

                _succeeded.Add(file.File.Key);
            }

            return Task.CompletedTask;
        }

        public Task CommitAsync(CancellationToken cancellationToken)
        {
            warehouse._changes.AddRange(_inserted);
            foreach (var change in _inserted)
            {
                if (!warehouse._history.TryGetValue(change.OrderId, out var history))
                {
                    warehouse._history[change.OrderId] = history = [];
                }

                history.Add(change);
            }

            foreach (var (orderId, change) in _merged)
            {
                warehouse._orders[orderId] = change;
            }

            warehouse._waitingChanges.RemoveAll(w => _waitNoLonger.Contains(KeyOf(w)));
            warehouse._waitingChanges.AddRange(_heldBack);
            warehouse._ledger.AddRange(_loaded);
            _succeeded.ForEach(key => warehouse._failures.Remove(key));
            warehouse.Release(this);
            return Task.CompletedTask;
        }

        public ValueTask DisposeAsync()
        {
            warehouse.Release(this);
            return ValueTask.CompletedTask;
        }

        private IEnumerable<Change> HistoryOf(string orderId) =>
            warehouse._history.GetValueOrDefault(orderId, []).Concat(_inserted.Where(c => c.OrderId == orderId));
    }
}

/// <summary>docs/decisions/0004-which-change-wins.md, over all changes of an order at once.</summary>
internal static class Rule
{
    public static Change Winner(IReadOnlyCollection<Change> changes)
    {
        SequenceNumber? lastRemoval = null;
        foreach (var change in changes)
        {
            if (change.Operation == Core.Operation.Remove && (lastRemoval is null || change.SequenceNumber > lastRemoval))
            {
                lastRemoval = change.SequenceNumber;
            }
        }

        Change? best = null;
        foreach (var change in changes)
        {
            if (best is null || RankOf(change).CompareTo(RankOf(best)) > 0)
            {
                best = change;
            }
        }

        return best!;

        (int, long, SequenceNumber) RankOf(Change change) => (
            lastRemoval is null || change.SequenceNumber > lastRemoval ? 2 : change.SequenceNumber == lastRemoval ? 1 : 0,
            change.Version,
            change.SequenceNumber);
    }
}
