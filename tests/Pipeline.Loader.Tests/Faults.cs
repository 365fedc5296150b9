using Pipeline.Core;

namespace Pipeline.Loader.Tests;

/// <summary>The process ends here: nothing catches it.</summary>
internal sealed class CrashException(string step) : Exception(step);

/// <summary>
/// Counts every call of the ports that the loader and the operator's commands have, and lets one of them fail: before it
/// takes effect, or after it did and the answer is lost.
/// </summary>
internal sealed class Faults
{
    private int _calls;

    /// <summary>The steps that were taken, by name.</summary>
    public List<string> Steps { get; } = [];

    /// <summary>The number of the call that fails, from 0; none when negative.</summary>
    public int FailAt { get; set; } = -1;
    public bool TakesEffect { get; set; }
    public Func<string, Exception> Error { get; set; } = step => new CrashException(step);

    /// <summary>Which steps may fail; the others are not counted.</summary>
    public Func<string, bool> Counts { get; set; } = _ => true;

    public async Task<T> CallAsync<T>(string step, Func<Task<T>> call)
    {
        if (!Counts(step))
        {
            return await call();
        }

        int number;
        lock (Steps)
        {
            number = _calls++;
            Steps.Add(step);
        }

        if (number == FailAt && !TakesEffect)
        {
            throw Error(step);
        }

        var result = await call();
        return number == FailAt ? throw Error(step) : result;
    }

    public Task CallAsync(string step, Func<Task> call) => CallAsync(step, async () =>
    {
        await call();
        return 0;
    });
}

internal sealed class FaultyObjects(IObjectStore inner, Faults faults) : IObjectStore
{
    public Task<ObjectPage> ListAsync(string prefix, string? startAfter, CancellationToken cancellationToken) =>
        faults.CallAsync($"list {prefix}", () => inner.ListAsync(prefix, startAfter, cancellationToken));

    public Task<ObjectContent?> GetAsync(string key, CancellationToken cancellationToken) => faults.CallAsync("get", () => inner.GetAsync(key, cancellationToken));

    public Task PutAsync(string key, ReadOnlyMemory<byte> content, string contentType, CancellationToken cancellationToken) =>
        faults.CallAsync("put", () => inner.PutAsync(key, content, contentType, cancellationToken));

    public Task DeleteAsync(string key, CancellationToken cancellationToken) => faults.CallAsync("delete", () => inner.DeleteAsync(key, cancellationToken));
}

internal sealed class FaultyWarehouse(IWarehouse inner, Faults faults) : IWarehouse
{
    public Task<IReadOnlySet<(string Key, string ETag)>> LoadedAsync(string firstKey, string lastKey, CancellationToken cancellationToken) =>
        faults.CallAsync("loaded", () => inner.LoadedAsync(firstKey, lastKey, cancellationToken));

    public Task<IReadOnlyList<FailedFile>> FailuresAsync(int max, CancellationToken cancellationToken) =>
        faults.CallAsync("failures", () => inner.FailuresAsync(max, cancellationToken));

    public Task<int> RecordFailureAsync(ObjectInfo file, string reason, DateTimeOffset at, CancellationToken cancellationToken) =>
        faults.CallAsync("record failure", () => inner.RecordFailureAsync(file, reason, at, cancellationToken));

    public Task ForgetFailureAsync(string key, CancellationToken cancellationToken) =>
        faults.CallAsync("forget failure", () => inner.ForgetFailureAsync(key, cancellationToken));

    public Task<long> CountWaitingAsync(CancellationToken cancellationToken) => faults.CallAsync("count waiting", () => inner.CountWaitingAsync(cancellationToken));

    public Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken) =>
        faults.CallAsync("releasable", () => inner.ReleasableAsync(parked, max, cancellationToken));

    public Task ForgetWaitingAsync(Change change, CancellationToken cancellationToken) =>
        faults.CallAsync("forget waiting", () => inner.ForgetWaitingAsync(change, cancellationToken));

    public string? MisfitOf(Change change) => inner.MisfitOf(change);

    public async Task<IWarehouseLoad> BeginAsync(CancellationToken cancellationToken)
    {
        IWarehouseLoad? load = null;
        try
        {
            return await faults.CallAsync("begin", async () => load = new Load(await inner.BeginAsync(cancellationToken), faults));
        }
        catch
        {
            // A process that dies loses its connection, and with it the transaction.
            if (load is not null)
            {
                await load.DisposeAsync();
            }

            throw;
        }
    }

    private sealed class Load(IWarehouseLoad inner, Faults faults) : IWarehouseLoad
    {
        public Task<IReadOnlyList<ParkedChange>> SettledAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken) =>
            faults.CallAsync("settled", () => inner.SettledAsync(parked, cancellationToken));

        public Task StageAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken) =>
            faults.CallAsync("stage", () => inner.StageAsync(changes, waiting, cancellationToken));

        public Task<IReadOnlyList<int>> DropKnownAsync(CancellationToken cancellationToken) => faults.CallAsync("drop known", () => inner.DropKnownAsync(cancellationToken));

        public Task HoldBackAsync(CancellationToken cancellationToken) => faults.CallAsync("hold back", () => inner.HoldBackAsync(cancellationToken));

        public Task InsertHistoryAsync(CancellationToken cancellationToken) => faults.CallAsync("insert history", () => inner.InsertHistoryAsync(cancellationToken));

        public Task MergeCurrentAsync(CancellationToken cancellationToken) => faults.CallAsync("merge current", () => inner.MergeCurrentAsync(cancellationToken));

        public Task RecordLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken) =>
            faults.CallAsync("record ledger", () => inner.RecordLedgerAsync(files, cancellationToken));

        public Task CommitAsync(CancellationToken cancellationToken) => faults.CallAsync("commit", () => inner.CommitAsync(cancellationToken));

        public ValueTask DisposeAsync() => inner.DisposeAsync();
    }
}
