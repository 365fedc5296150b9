using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>
/// Of which changes of a load the keys go into PostgreSQL's staging table; computed without I/O. It is asked there which of
/// them are known, and which win. Most changes need neither.
/// </summary>
/// <param name="Distinct">The numbers of all changes, each change once: those to be loaded from 0, behind them those that wait.</param>
/// <param name="Rows">The numbers of those to be staged.</param>
/// <param name="MayBeKnown">Whether the warehouse may have some of them, or have them waiting.</param>
internal sealed record StagedKeys(IReadOnlyList<int> Distinct, IReadOnlyList<int> Rows, bool MayBeKnown)
{
    public static readonly StagedKeys None = new([], [], MayBeKnown: false);

    /// <summary>
    /// What is newer than all of the history is not in it. And what comes before another change of its order by sequence
    /// number and is not above it by version does not win, whatever else is known: wherever the order's last removal is, the other one ranks at
    /// least as high (docs/decisions/0004-which-change-wins.md). Removals are always staged, since they move that border.
    /// </summary>
    /// <param name="changes">To be loaded.</param>
    /// <param name="waiting">To be held back.</param>
    /// <param name="newest">The greatest sequence number of the history; null when it is empty.</param>
    /// <param name="someWait">Whether anything waits already: what is loaded now does not wait any longer.</param>
    public static StagedKeys Of(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, SequenceNumber? newest, bool someWait)
    {
        var total = changes.Count + waiting.Count;
        var seen = new HashSet<(SequenceNumber, long, string)>(total);
        var leaders = new Dictionary<string, int>(StringComparer.Ordinal);
        var distinct = new List<int>(total);
        var rows = new List<int>();
        var mayBeKnown = false;
        for (var row = 0; row < total; row++)
        {
            var waits = row >= changes.Count;
            var change = waits ? waiting[row - changes.Count] : changes[row];
            if (!seen.Add((change.SequenceNumber, change.Version, change.OrderId)))
            {
                continue;
            }

            distinct.Add(row);
            if (waits || someWait || change.SequenceNumber <= newest)
            {
                mayBeKnown = true;
                rows.Add(row);
            }
            else if (change.Operation == Operation.Remove)
            {
                rows.Add(row);
            }
            else if (!leaders.TryGetValue(change.OrderId, out var leader) || IsBehind(changes[leader], change))
            {
                leaders[change.OrderId] = row;
            }
            else if (!IsBehind(change, changes[leader]))
            {
                // Neither is behind the other: both are staged, and the later one leads on, as the version starts anew in its life.
                var isLater = change.SequenceNumber > changes[leader].SequenceNumber;
                rows.Add(isLater ? leader : row);
                leaders[change.OrderId] = isLater ? row : leader;
            }
        }

        rows.AddRange(leaders.Values);
        return new StagedKeys(distinct, rows, mayBeKnown);
    }

    private static bool IsBehind(Change change, Change other) =>
        change.SequenceNumber <= other.SequenceNumber && change.Version <= other.Version;
}
