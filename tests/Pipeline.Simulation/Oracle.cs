using System.Text;
using Pipeline.Core;

namespace Pipeline.Simulation;

/// <summary>
/// Holds the warehouse, the quarantine and the bucket against what the table committed: the invariants I1 to I6 of
/// docs/simulation.md.
/// </summary>
internal sealed class Oracle(World world)
{
    private readonly Dictionary<string, Change> _shown = new(StringComparer.Ordinal);

    /// <summary>I5, at every commit: what is shown is the best of what is known, once, and within a life it never goes back.</summary>
    public void Committed(OrderPipeline pipeline)
    {
        var content = pipeline.Warehouse.Read();
        var known = content.Changes.GroupBy(c => c.OrderId, StringComparer.Ordinal).ToDictionary(g => g.Key, g => g.ToList(), StringComparer.Ordinal);
        if (content.Orders.Count != known.Count || content.Orders.DistinctBy(o => o.OrderId).Count() != known.Count)
        {
            world.Violate($"I5: {content.Orders.Count} rows in orders for {known.Count} orders in order_changes");
            return;
        }

        foreach (var order in content.Orders)
        {
            if (!known.TryGetValue(order.OrderId, out var changes) || Rule.Winner(changes) is not { } winner || winner != order)
            {
                world.Violate($"I5: {order.OrderId} is shown as {Of(order)}, and the best that is known of it is {(changes is null ? "nothing" : Of(Rule.Winner(changes)))}");
                return;
            }

            if (_shown.TryGetValue(order.OrderId, out var before))
            {
                var (lifeBefore, life) = (LifeOf(before), LifeOf(order));
                if (lifeBefore == life && (before.Operation == Core.Operation.Remove || (order.Operation != Core.Operation.Remove && order.Version < before.Version)) && before != order)
                {
                    world.Violate($"I5: {order.OrderId} went back from {Of(before)} to {Of(order)}");
                    return;
                }

                world.Count(before == order ? "shown: as before" : life > lifeBefore ? "shown: a later life" : life < lifeBefore ? "shown: an earlier life" : "shown: a later version");
            }

            _shown[order.OrderId] = order;
        }

        long LifeOf(Change change) => pipeline.Table.Writes.Count(
            w => w.OrderId == change.OrderId && w.Operation == Core.Operation.Remove && SequenceNumber.Parse(w.SequenceNumber) < change.SequenceNumber);
    }

    /// <summary>What is missing until all has arrived; null: nothing.</summary>
    public static string? Missing(OrderPipeline pipeline)
    {
        var content = pipeline.Warehouse.Read();
        var loaded = content.Changes.Select(c => c.EventId).ToHashSet(StringComparer.Ordinal);
        foreach (var write in pipeline.Table.Writes)
        {
            if (write.Expected is null ? !ParkedEventIds(pipeline).Contains(write.EventId) : !loaded.Contains(write.EventId))
            {
                return $"{write.Operation} {write.SequenceNumber} of {write.OrderId} is neither loaded nor parked";
            }
        }

        foreach (var (key, file) in pipeline.Bucket.Objects)
        {
            if (key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal) && !pipeline.Junk.Contains(key) && !content.Ledger.Contains((key, file.ETag)))
            {
                return $"the ledger does not have {key}";
            }
        }

        return null;
    }

    /// <summary>At rest.</summary>
    public void Check(OrderPipeline pipeline)
    {
        var content = pipeline.Warehouse.Read();
        var parked = ParkedEventIds(pipeline);

        // I2 and I3: every emitted change once, exactly as it was written, loaded or parked and not both.
        var loaded = content.Changes.GroupBy(c => c.EventId, StringComparer.Ordinal).ToDictionary(g => g.Key, g => g.ToList(), StringComparer.Ordinal);
        foreach (var write in pipeline.Table.Writes)
        {
            var rows = loaded.GetValueOrDefault(write.EventId, []);
            var isParked = parked.Remove(write.EventId);
            loaded.Remove(write.EventId);
            if (write.Expected is null)
            {
                Require(isParked && rows.Count == 0, () => $"I3: the undecodable {Of(write)} is {(isParked ? "parked" : "not parked")}, and loaded {rows.Count} times");
            }
            else
            {
                Require(rows.Count == 1 && !isParked, () => $"I2: {Of(write)} is loaded {rows.Count} times{(isParked ? " and parked" : "")}");
                Require(rows.Count == 0 || rows[0] == write.Expected, () => $"I2: {Of(write)} is loaded as {rows[0]} instead of {write.Expected}");
            }
        }

        Require(loaded.Count == 0, () => $"I3: {loaded.Count} changes are loaded that nobody wrote, for example {Of(loaded.First().Value[0])}");
        Require(parked.Count == 0, () => $"I3: {parked.Count} records are parked that nobody wrote, for example {parked.First()}");
        foreach (var write in pipeline.Table.Writes.Where(w => w.Expected is null))
        {
            CheckParked(pipeline, write);
        }

        // I1: the row of each order is its last change, unless that one is parked; then it is the best of the others.
        foreach (var order in pipeline.Table.Writes.GroupBy(w => w.OrderId, StringComparer.Ordinal))
        {
            var arrived = order.Where(w => w.Expected is not null).Select(w => w.Expected!).ToList();
            var row = content.Orders.FirstOrDefault(o => o.OrderId == order.Key);
            var expected = order.Last().Expected ?? (arrived.Count > 0 ? Rule.Winner(arrived) : null);
            Require(row == expected, () => $"I1: {order.Key} is {(row is null ? "missing" : Of(row))} instead of {(expected is null ? "missing" : Of(expected))}");
            Require(
                order.Last().Expected is null || (pipeline.Table.Read(order.Key) is null) == (row?.Operation == Core.Operation.Remove),
                () => $"I1: {order.Key} is {(row is null ? "missing" : Of(row))} although the table {(pipeline.Table.Read(order.Key) is null ? "does not have" : "has")} it");
        }

        // I6: from the client's own notes.
        foreach (var (orderId, trace, isRemoval) in pipeline.Acknowledged)
        {
            var arrived = content.Changes.Any(c => c.OrderId == orderId && (c.Operation == Core.Operation.Remove) == isRemoval && (c.TraceParent == trace || (isRemoval && c.Document == "{}")));
            Require(
                arrived || pipeline.Table.Writes.Any(w => w.Expected is null && w.TraceParent == trace),
                () => $"I6: the acknowledged {(isRemoval ? "removal" : "write")} of {orderId} with trace {trace} is lost");
        }

        foreach (var fault in pipeline.Warehouse.Faults())
        {
            world.Violate(fault);
        }
    }

    /// <summary>I4: a warehouse that was built anew holds the same.</summary>
    public void CheckRebuilt(WarehouseContent live, WarehouseContent rebuilt)
    {
        Require(
            live.Changes.ToHashSet().SetEquals(rebuilt.Changes) && live.Changes.Count == rebuilt.Changes.Count,
            () => $"I4: rebuilt from the bucket there are {rebuilt.Changes.Count} changes, not the {live.Changes.Count} that there were");
        Require(
            live.Orders.ToHashSet().SetEquals(rebuilt.Orders) && live.Orders.Count == rebuilt.Orders.Count,
            () => $"I4: rebuilt from the bucket the orders are others than there were");
    }

    /// <summary>The object holds the whole record: nothing of the image is missing.</summary>
    private void CheckParked(OrderPipeline pipeline, Write write)
    {
        var (key, content) = pipeline.Bucket.Objects.FirstOrDefault(
            o => o.Key.StartsWith(Names.QuarantinePrefix, StringComparison.Ordinal) && o.Key.Contains(write.EventId, StringComparison.Ordinal));
        var text = key is null ? "" : Encoding.UTF8.GetString(content.Bytes);
        Require(
            text.Contains(write.EventId, StringComparison.Ordinal) && text.Contains(write.TraceParent, StringComparison.Ordinal)
                && text.Contains(write.SequenceNumber, StringComparison.Ordinal) && text.Contains("\"reason\"", StringComparison.Ordinal),
            () => $"I3: the parked object {key} does not hold the record {write.EventId}");
    }

    private static HashSet<string> ParkedEventIds(OrderPipeline pipeline) => pipeline.Bucket.Objects
        .Where(o => o.Key.StartsWith(Names.QuarantinePrefix, StringComparison.Ordinal))
        .Select(o => Path.GetFileNameWithoutExtension(o.Key))
        .ToHashSet(StringComparer.Ordinal);

    private void Require(bool holds, Func<string> otherwise)
    {
        if (!holds)
        {
            world.Violate(otherwise());
        }
    }

    private static string Of(Change change) => $"{change.Operation} v{change.Version} at {change.SequenceNumber.ToString().TrimStart('0')} of {change.OrderId}";

    private static string Of(Write write) => $"{write.Operation} {write.SequenceNumber} of {write.OrderId}";
}
