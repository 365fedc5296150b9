namespace Pipeline.Ops;

/// <summary>
/// Bounds what is read from the table, in capacity units a second over all segments, so that the table's other users keep
/// theirs. A request's cost is known only afterwards: it is paid by those that follow, so the average holds, and a
/// burst is one request of each segment (a page of 1 MB is 256 units when it is read consistently).
/// </summary>
/// <param name="unitsPerSecond">Null for no bound.</param>
/// <param name="time">The clock.</param>
internal sealed class ReadBudget(double? unitsPerSecond, TimeProvider time)
{
    private readonly Lock _lock = new();
    private DateTimeOffset _paidUntil = DateTimeOffset.MinValue;
    private double _spent;

    /// <summary>Capacity units spent so far.</summary>
    public double Spent
    {
        get
        {
            lock (_lock)
            {
                return _spent;
            }
        }
    }

    /// <summary>Waits until what was spent is paid for.</summary>
    public async Task WaitAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            TimeSpan debt;
            lock (_lock)
            {
                debt = _paidUntil - time.GetUtcNow();
            }

            if (debt <= TimeSpan.Zero)
            {
                return;
            }

            await Task.Delay(debt, time, cancellationToken);
        }
    }

    public void Spend(double units)
    {
        lock (_lock)
        {
            _spent += units;
            if (unitsPerSecond is { } rate)
            {
                // What was not used before is gone: a pause is no credit for a burst.
                var now = time.GetUtcNow();
                _paidUntil = (_paidUntil > now ? _paidUntil : now) + TimeSpan.FromSeconds(units / rate);
            }
        }
    }
}
