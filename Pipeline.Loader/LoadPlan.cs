using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>A file that is known and not loaded.</summary>
/// <param name="File">As it was listed.</param>
/// <param name="IsFresh">Found where new files appear, not by a sweep: somebody waits for it.</param>
/// <param name="Attempts">Failed tries so far.</param>
/// <param name="NotBefore">When it is tried (again).</param>
public sealed record PendingFile(ObjectInfo File, bool IsFresh, int Attempts, DateTimeOffset NotBefore);

/// <summary>What to load, computed without I/O.</summary>
public static class LoadPlan
{
    /// <summary>
    /// Files for the next transactions, in turn. First one with as many good files as the limits allow, fresh ones
    /// before the backlog, else in the order of their keys, which is about that in which they were written. Then each
    /// file that failed before and is due, alone: it must not take others with it again.
    /// </summary>
    public static IReadOnlyList<IReadOnlyList<PendingFile>> Next(IEnumerable<PendingFile> pending, DateTimeOffset now, LoadLimits limits)
    {
        var due = pending.Where(f => f.NotBefore <= now).ToList();
        var plan = new List<IReadOnlyList<PendingFile>>();

        var together = new List<PendingFile>();
        long bytes = 0;
        foreach (var file in due.Where(f => f.Attempts == 0).OrderBy(f => !f.IsFresh).ThenBy(f => f.File.Key, StringComparer.Ordinal))
        {
            if (together.Count == limits.FilesMax || (together.Count > 0 && bytes + file.File.Bytes > limits.BytesMax))
            {
                break;
            }

            together.Add(file);
            bytes += file.File.Bytes;
        }

        if (together.Count > 0)
        {
            plan.Add(together);
        }

        // One at a time: each costs a transaction, and fresh files wait meanwhile.
        if (due.Where(f => f.Attempts > 0).OrderBy(f => f.NotBefore).ThenBy(f => f.File.Key, StringComparer.Ordinal).FirstOrDefault() is { } failing)
        {
            plan.Add([failing]);
        }

        return plan;
    }

    /// <summary>
    /// How many rows a file has is known only when it is in memory: splits what was read into transactions of at most
    /// <see cref="LoadLimits.RowsMax"/> rows, a larger file in one of its own.
    /// </summary>
    public static IReadOnlyList<IReadOnlyList<ChangeObject>> SplitByRows(IReadOnlyList<ChangeObject> files, LoadLimits limits)
    {
        var transactions = new List<IReadOnlyList<ChangeObject>>();
        var current = new List<ChangeObject>();
        long rows = 0;
        foreach (var file in files)
        {
            if (current.Count > 0 && rows + file.Changes.Count > limits.RowsMax)
            {
                transactions.Add(current);
                (current, rows) = ([], 0);
            }

            current.Add(file);
            rows += file.Changes.Count;
        }

        if (current.Count > 0)
        {
            transactions.Add(current);
        }

        return transactions;
    }

    /// <summary>
    /// Tells the changes that can be loaded from those that have to wait, because an earlier change of their order is
    /// parked. A parked change itself does not wait behind itself: it may be there to be loaded again.
    /// </summary>
    public static (IReadOnlyList<Change> Load, IReadOnlyList<Change> Wait) Divide(IReadOnlyList<Change> changes, IReadOnlyCollection<ParkedChange> parked)
    {
        if (parked.Count == 0)
        {
            return (changes, []);
        }

        var firstParked = parked
            .GroupBy(p => p.OrderId, StringComparer.Ordinal)
            .ToDictionary(order => order.Key, order => order.Min(p => p.SequenceNumber), StringComparer.Ordinal);
        var waits = changes.ToLookup(c => firstParked.TryGetValue(c.OrderId, out var first) && first < c.SequenceNumber);
        return ([.. waits[false]], [.. waits[true]]);
    }

    /// <summary>1 s, 2 s, 4 s … up to the longest pause.</summary>
    public static TimeSpan Backoff(int attempts, TimeSpan first, TimeSpan max) =>
        TimeSpan.FromTicks((long)Math.Min(first.Ticks * Math.Pow(2, Math.Max(attempts - 1, 0)), max.Ticks));
}
