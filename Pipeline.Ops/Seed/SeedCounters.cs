namespace Pipeline.Ops.Seed;

internal enum Write
{
    Create,
    ChangeStatus,
    Remove,
}

/// <summary>What a run has done so far; counted from many orders at once.</summary>
internal sealed class SeedCounters
{
    private readonly long[] _accepted = new long[Enum.GetValues<Write>().Length];
    private long _unheard;
    private long _retries;
    private long _resumed;
    private long _orders;

    public long AcceptedWrites => Enum.GetValues<Write>().Sum(AcceptedOf);

    /// <summary>Accepted writes whose answer never came, found by looking.</summary>
    public long Unheard => Interlocked.Read(ref _unheard);

    public long Retries => Interlocked.Read(ref _retries);

    /// <summary>Orders that an earlier run had begun and this one went on with.</summary>
    public long ResumedOrders => Interlocked.Read(ref _resumed);

    public long OrdersDone => Interlocked.Read(ref _orders);

    public long AcceptedOf(Write write) => Interlocked.Read(ref _accepted[(int)write]);

    public void Accepted(Write write) => Interlocked.Increment(ref _accepted[(int)write]);

    public void AcceptedUnheard(Write write)
    {
        Accepted(write);
        Interlocked.Increment(ref _unheard);
    }

    public void Retried() => Interlocked.Increment(ref _retries);

    public void Resumed() => Interlocked.Increment(ref _resumed);

    public void OrderDone() => Interlocked.Increment(ref _orders);
}
