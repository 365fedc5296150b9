using Pipeline.Core;

namespace Pipeline.Ops.Reconcile;

/// <summary>
/// The changes that make the warehouse right again, computed without I/O. They go through the pipeline as a change file
/// like any other: the warehouse itself is never edited.
/// </summary>
internal static class Repair
{
    /// <summary>
    /// Ranks directly after whatever the warehouse knew of the order, and before whatever the stream brings next, so
    /// a change that is only late still takes its place afterwards. That holds when the item was read after the
    /// warehouse: what it is newer than may be missing in <paramref name="lastKnown"/>, and what is newer than it is.
    /// </summary>
    /// <param name="kind">How the item and the row differ.</param>
    /// <param name="item">What the table has; null when it is not there.</param>
    /// <param name="row">What the warehouse showed before; null when it showed nothing.</param>
    /// <param name="lastKnown">The greatest sequence number that the warehouse had of the order at that moment; null without any.</param>
    /// <returns>Empty when no change can mend it: an item that cannot be decoded, and an order with several rows.</returns>
    public static IReadOnlyList<Change> Plan(DifferenceKind kind, Change? item, Change? row, SequenceNumber? lastKnown)
    {
        var next = (lastKnown ?? SequenceNumber.Zero).Next();
        return kind switch
        {
            DifferenceKind.Missing or DifferenceKind.Older or DifferenceKind.Different => [At(item!, next)],

            // A removal ends the life that the warehouse shows, and what comes after it wins whatever its version.
            DifferenceKind.Newer => [Removal(row!, item!.ChangedAt, next), At(item!, next.Next())],
            DifferenceKind.Extra => [Removal(row!, row!.ChangedAt, next)],
            _ => [],
        };
    }

    private static Change Removal(Change row, DateTimeOffset at, SequenceNumber sequenceNumber) =>
        At(row with { Operation = Operation.Remove, ChangedAt = at }, sequenceNumber);

    private static Change At(Change change, SequenceNumber sequenceNumber)
    {
        var ranked = change with { SequenceNumber = sequenceNumber };
        return ranked with { EventId = ObjectKeys.SnapshotId(ranked) };
    }
}
