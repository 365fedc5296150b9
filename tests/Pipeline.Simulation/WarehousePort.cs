using Pipeline.Core;
using Pipeline.Loader;

namespace Pipeline.Simulation;

/// <summary>
/// The warehouse as one loader reaches it over its connections: what fails, gets lost or waits on the way, whatever the
/// warehouse behind it is. The server's own rules about sessions are here, too: a transaction that idles too long, or whose
/// client is gone, is rolled back.
/// </summary>
internal sealed class WarehousePort(Caller caller, ISimulatedWarehouse warehouse, WarehouseState state) : IWarehouse
{
    /// <summary>Pipeline.Loader/Sql/1-begin.sql: lock_timeout and idle_in_transaction_session_timeout.</summary>
    private static readonly TimeSpan LockTimeout = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan IdleTimeout = TimeSpan.FromSeconds(60);

    private readonly Caller _caller = caller;
    private readonly ISimulatedWarehouse _warehouse = warehouse;
    private readonly WarehouseState _state = state;

    public Task<IReadOnlySet<(string Key, string ETag)>> LoadedAsync(string firstKey, string lastKey, CancellationToken cancellationToken) =>
        SendAsync(Port.ReadLedger, null, () => _warehouse.LoadedAsync(firstKey, lastKey, CancellationToken.None), cancellationToken);

    public Task<IReadOnlyList<FailedFile>> FailuresAsync(int max, CancellationToken cancellationToken) =>
        SendAsync(Port.ReadFailures, null, () => _warehouse.FailuresAsync(max, CancellationToken.None), cancellationToken);

    public Task<int> RecordFailureAsync(ObjectInfo file, string reason, DateTimeOffset at, CancellationToken cancellationToken)
    {
        _caller.World.Count("load: file failed");
        return SendAsync(
            Port.RecordFailure, file.Key,
            () =>
            {
                _state.FailureNoted(file.Key);
                return _warehouse.RecordFailureAsync(file, reason, at, CancellationToken.None);
            },
            cancellationToken);
    }

    public Task ForgetFailureAsync(string key, CancellationToken cancellationToken) =>
        SendAsync(Port.ForgetFailure, key, () => Done(_warehouse.ForgetFailureAsync(key, CancellationToken.None)), cancellationToken);

    public Task<long> CountWaitingAsync(CancellationToken cancellationToken) =>
        SendAsync(Port.CountWaiting, null, () => _warehouse.CountWaitingAsync(CancellationToken.None), cancellationToken);

    public Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken) =>
        SendAsync(
            Port.Releasable, null,
            async () =>
            {
                var free = await _warehouse.ReleasableAsync(parked, max, CancellationToken.None);
                _caller.World.Count(free.Count > 0 ? "waiting: free" : "waiting: not free yet");
                return free;
            },
            cancellationToken);

    public Task ForgetWaitingAsync(Change change, CancellationToken cancellationToken) =>
        SendAsync(Port.ForgetWaiting, change.OrderId, () => Done(_warehouse.ForgetWaitingAsync(change, CancellationToken.None)), cancellationToken);

    /// <summary>The files are gone: a compaction's last step, which is none of the loader's.</summary>
    public Task ForgetLedgerAsync(IReadOnlyList<string> keys, CancellationToken cancellationToken) =>
        SendAsync(Port.ForgetLedger, null, () => Done(_warehouse.ForgetLedgerAsync(keys, CancellationToken.None)), cancellationToken);

    public async Task<IWarehouseLoad> BeginAsync(CancellationToken cancellationToken)
    {
        var load = new Load(this);
        await SendAsync(Port.Begin, null, load.BeginAsync, cancellationToken, whenLost: load.Break);
        return load;
    }

    /// <summary>One call; a conflict is an answer of the server in place of what was asked for.</summary>
    private async Task<T> SendAsync<T>(Port port, string? what, Func<Task<T>> effect, CancellationToken cancellationToken, Action? whenLost = null)
    {
        try
        {
            return await _caller.SendAsync(
                port, what,
                fault => fault == Fault.Conflict
                    ? Task.FromException<T>(new WarehouseException(WarehouseFault.Conflict, "40001: could not serialize access"))
                    : Watched(effect),
                message => new WarehouseException(WarehouseFault.Unavailable, message),
                cancellationToken);
        }
        catch
        {
            // Whatever the reason was: to this client its connection is of no use any more.
            whenLost?.Invoke();
            throw;
        }
    }

    /// <summary>Starts a call and lets the warehouse come to rest: it has either ended, or it waits for another transaction.</summary>
    private Task<T> Watched<T>(Func<Task<T>> effect)
    {
        var call = effect();
        _warehouse.Settle();
        return call;
    }

    private static async Task<bool> Done(Task call)
    {
        await call;
        return true;
    }

    /// <summary>A session with its transaction.</summary>
    private sealed class Load(WarehousePort port) : IWarehouseLoad
    {
        private readonly CancellationTokenSource _waiting = new();
        private readonly World _world = port._caller.World;
        private IWarehouseLoad? _inner;
        private bool _broken;
        private bool _busy;
        private int _statements;

        public async Task<bool> BeginAsync()
        {
            if (port._caller.Process.IsDead)
            {
                throw new WarehouseException(WarehouseFault.Unavailable, "the client is gone");
            }

            port._caller.Process.Died += ClientGone;
            _world.After(LockTimeout, () =>
            {
                if (_inner is null)
                {
                    _world.Count("begin: gave up waiting for the lock");
                    _waiting.Cancel();
                    port._warehouse.Settle();
                }
            });
            var begin = port._warehouse.BeginAsync(_waiting.Token);
            port._warehouse.Settle();
            if (!begin.IsCompleted)
            {
                _world.Count("begin: waited for another load");
            }

            try
            {
                _inner = await begin;
            }
            catch (OperationCanceledException)
            {
                throw new WarehouseException(WarehouseFault.Unavailable, "55P03: canceling statement due to lock timeout");
            }

            if (_broken)
            {
                // The client went while it was waiting.
                Rollback();
                throw new WarehouseException(WarehouseFault.Unavailable, "the connection is closed");
            }

            Idle();
            return true;
        }

        public Task<IReadOnlyList<ParkedChange>> SettledAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken) =>
            SendAsync(Port.Settled, load => load.SettledAsync(parked, CancellationToken.None), cancellationToken);

        public Task StageAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken) => SendAsync(
            Port.Stage,
            async load =>
            {
                if (port._state.Refuses(changes.Concat(waiting)))
                {
                    _world.Count("stage: refused");
                    throw new WarehouseException(WarehouseFault.Refused, "22001: value too long");
                }

                await load.StageAsync(changes, waiting, CancellationToken.None);
                return true;
            },
            cancellationToken);

        public Task<IReadOnlyList<int>> DropKnownAsync(CancellationToken cancellationToken) => SendAsync(
            Port.DropKnown,
            async load =>
            {
                var kept = await load.DropKnownAsync(CancellationToken.None);
                _world.Count(kept.Count == 0 ? "load: nothing new" : "load: something new");
                return kept;
            },
            cancellationToken);

        public Task HoldBackAsync(CancellationToken cancellationToken)
        {
            _world.Count("load: has to wait");
            return SendAsync(Port.HoldBack, load => Done(load.HoldBackAsync(CancellationToken.None)), cancellationToken);
        }

        public Task InsertHistoryAsync(CancellationToken cancellationToken) =>
            SendAsync(Port.InsertHistory, load => Done(load.InsertHistoryAsync(CancellationToken.None)), cancellationToken);

        public Task MergeCurrentAsync(CancellationToken cancellationToken) =>
            SendAsync(Port.MergeCurrent, load => Done(load.MergeCurrentAsync(CancellationToken.None)), cancellationToken);

        public Task RecordLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken) =>
            SendAsync(Port.RecordLedger, load => Done(load.RecordLedgerAsync(files, CancellationToken.None)), cancellationToken);

        public Task CommitAsync(CancellationToken cancellationToken) => SendAsync(
            Port.Commit,
            async load =>
            {
                await load.CommitAsync(CancellationToken.None);
                _world.Note("committed", port._caller.Process.Name);
                port._state.Committed(port._caller.Process);
                return true;
            },
            cancellationToken);

        public ValueTask DisposeAsync()
        {
            port._caller.Process.Died -= ClientGone;
            Break();
            return ValueTask.CompletedTask;
        }

        /// <summary>The client closes its side, or can use it no more; the server rolls back.</summary>
        public void Break()
        {
            if (!_broken)
            {
                _broken = true;
                // Not within the client's own step: the server does it by itself.
                _world.After(TimeSpan.FromMicroseconds(100), Rollback);
            }
        }

        private Task<T> SendAsync<T>(Port where, Func<IWarehouseLoad, Task<T>> effect, CancellationToken cancellationToken) => port.SendAsync(
            where, null,
            async () =>
            {
                if (_broken || _inner is null)
                {
                    throw new WarehouseException(WarehouseFault.Unavailable, "57P01: terminating connection");
                }

                _busy = true;
                _statements++;
                try
                {
                    return await effect(_inner);
                }
                finally
                {
                    _busy = false;
                    Idle();
                }
            },
            cancellationToken,
            Break);

        /// <summary>The server ends a session that does nothing within its transaction.</summary>
        private void Idle()
        {
            var statements = _statements;
            _world.After(IdleTimeout, () =>
            {
                if (statements == _statements && !_busy && !_broken)
                {
                    _world.Count("load: ended by the server as idle");
                    _broken = true;
                    Rollback();
                }
            });
        }

        /// <summary>A closed socket is noticed at once, a host that is gone only by its silence.</summary>
        private void ClientGone()
        {
            if (!_broken)
            {
                _world.Count("load: client gone");
                _world.After(port._caller.Chance.OneIn(3) ? port._caller.Chance.Time(1, 60) : TimeSpan.FromMilliseconds(1), () =>
                {
                    _broken = true;
                    Rollback();
                });
            }
        }

        private void Rollback()
        {
            if (_busy)
            {
                // A statement that waits is ended first; a memory warehouse has none.
                _world.After(TimeSpan.FromMilliseconds(10), Rollback);
                return;
            }

            if (_inner is null)
            {
                _waiting.Cancel();
            }

            _inner?.DisposeAsync().AsTask().GetAwaiter().GetResult();
            port._warehouse.Settle();
        }
    }
}

/// <summary>What all connections to the warehouse share.</summary>
/// <param name="committed">Called at every commit, with the process that it is of.</param>
/// <param name="isThere">Whether the bucket has such an object now.</param>
internal sealed class WarehouseState(Action<Process> committed, Func<string, bool> isThere)
{
    /// <summary>The cause of the refusals is mended: from now on every value is taken.</summary>
    public bool IsMended { get; set; }

    public bool Refuses(IEnumerable<Change> changes) => !IsMended && changes.Any(c => c.MerchantId == Item.RefusedMark);

    public void Committed(Process process) => committed(process);

    /// <summary>
    /// Noted as failing when they were gone: the late call of a loader, maybe of one that is gone as well. The note stays until a
    /// loader starts.
    /// </summary>
    public HashSet<string> NotedLate { get; } = new(StringComparer.Ordinal);

    public void FailureNoted(string key)
    {
        if (!isThere(key))
        {
            NotedLate.Add(key);
        }
    }
}
