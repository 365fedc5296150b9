using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>A change file in memory: what was listed, the ETag of what was read, and its changes.</summary>
public sealed record ChangeObject(ObjectInfo File, IReadOnlyList<Change> Changes);

/// <summary>A file that could not be read or loaded, and how often it was tried.</summary>
public sealed record FailedFile(string Key, string ETag, int Attempts, DateTimeOffset LastAt);

/// <summary>The warehouse, as far as loading is concerned.</summary>
public interface IWarehouse
{
    /// <summary>What the ledger has between two keys, both included.</summary>
    /// <exception cref="WarehouseException">The warehouse is away.</exception>
    Task<IReadOnlySet<(string Key, string ETag)>> LoadedAsync(string firstKey, string lastKey, CancellationToken cancellationToken);

    /// <summary>The files that fail, those that were tried last first, at most <paramref name="max"/>.</summary>
    /// <exception cref="WarehouseException">The warehouse is away.</exception>
    Task<IReadOnlyList<FailedFile>> FailuresAsync(int max, CancellationToken cancellationToken);

    /// <summary>Notes a failed try, at the loader's own time, which its backoff follows. Returns the number of tries so far.</summary>
    /// <exception cref="WarehouseException">The warehouse is away.</exception>
    Task<int> RecordFailureAsync(ObjectInfo file, string reason, DateTimeOffset at, CancellationToken cancellationToken);

    /// <summary>The file is gone from the bucket: nothing fails any more.</summary>
    /// <exception cref="WarehouseException">The warehouse is away.</exception>
    Task ForgetFailureAsync(string key, CancellationToken cancellationToken);

    /// <summary>How many changes wait behind a parked one of their order.</summary>
    /// <exception cref="WarehouseException">The warehouse is away.</exception>
    Task<long> CountWaitingAsync(CancellationToken cancellationToken);

    /// <summary>
    /// The waiting changes that no parked one (but those that <c>order_changes</c> has) is before any more, by order and
    /// sequence number, at most <paramref name="max"/>.
    /// </summary>
    /// <exception cref="WarehouseException">The warehouse is away.</exception>
    Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken);

    /// <summary>The change does not wait any more, because it is parked itself, or discarded.</summary>
    /// <exception cref="WarehouseException">The warehouse is away.</exception>
    Task ForgetWaitingAsync(Change change, CancellationToken cancellationToken);

    /// <summary>
    /// Why the warehouse cannot store the change, as far as the change alone tells; null when it may. Asked before a load is
    /// begun, so that such a change costs no transaction: one that the warehouse itself refuses is found by splitting the load.
    /// A warehouse that does not know beforehand says nothing.
    /// </summary>
    string? MisfitOf(Change change) => null;

    /// <summary>Begins a load and waits until no other loader is in one.</summary>
    /// <exception cref="WarehouseException">See <see cref="WarehouseFault"/>; so for every step of the load.</exception>
    Task<IWarehouseLoad> BeginAsync(CancellationToken cancellationToken);
}

/// <summary>
/// One load: a transaction whose steps are taken in this order, those that have nothing to do left out. Disposing it without <see cref="CommitAsync"/> leaves
/// nothing behind.
/// </summary>
public interface IWarehouseLoad : IAsyncDisposable
{
    /// <summary>Of the parked changes, those that are in <c>order_changes</c>: nothing waits for them.</summary>
    Task<IReadOnlyList<ParkedChange>> SettledAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken);

    /// <summary>
    /// Copies into the staging table what is to be loaded, numbered from 0 in the order given, and behind it what has to
    /// wait, numbered on.
    /// </summary>
    Task StageAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken);

    /// <summary>
    /// Drops what is staged twice or known already; what is staged to be loaded waits no longer. Returns the numbers of
    /// the rows that stay: the new changes.
    /// </summary>
    Task<IReadOnlyList<int>> DropKnownAsync(CancellationToken cancellationToken);

    /// <summary>Moves what has to wait from the staging table to <c>waiting_changes</c>, each change once.</summary>
    Task HoldBackAsync(CancellationToken cancellationToken);

    Task InsertHistoryAsync(CancellationToken cancellationToken);

    Task MergeCurrentAsync(CancellationToken cancellationToken);

    Task RecordLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken);

    /// <summary>When this fails it is not known whether the load took effect; loading the same files again is right either way.</summary>
    Task CommitAsync(CancellationToken cancellationToken);
}

/// <summary>What the loader does about it differs.</summary>
public enum WarehouseFault
{
    /// <summary>Nothing is known; everything is tried again after a pause.</summary>
    Unavailable,

    /// <summary>Another transaction was in the way; the same load is tried again at once.</summary>
    Conflict,

    /// <summary>The warehouse refuses the data; the load is split to find the change that it refuses.</summary>
    Refused,
}

/// <summary>An error of the warehouse. The message has no values of the data.</summary>
public sealed class WarehouseException(WarehouseFault fault, string message, Exception? inner = null) : Exception(message, inner)
{
    public WarehouseFault Fault { get; } = fault;
}
