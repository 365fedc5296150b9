using System.Globalization;
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
    private readonly HashSet<(string, long, SequenceNumber)> _loaded = [];

    /// <summary>
    /// I5, at every commit: what is shown is the best of what is loaded, once, within a life it never goes back, and nothing
    /// has overtaken a parked change of its order.
    /// </summary>
    public void Committed(OrderPipeline pipeline, Process process)
    {
        var content = pipeline.Warehouse.Read();
        var loaded = content.Changes.GroupBy(c => c.OrderId, StringComparer.Ordinal).ToDictionary(g => g.Key, g => g.ToList(), StringComparer.Ordinal);
        if (content.Orders.Count != loaded.Count || content.Orders.DistinctBy(o => o.OrderId).Count() != loaded.Count)
        {
            world.Violate($"I5: {content.Orders.Count} rows in orders for {loaded.Count} orders in order_changes");
            return;
        }

        foreach (var order in content.Orders)
        {
            if (!loaded.TryGetValue(order.OrderId, out var changes) || Rule.Winner(changes) is not { } winner || winner != order)
            {
                world.Violate($"I5: {order.OrderId} is shown as {Of(order)}, and the best that is loaded of it is {(changes is null ? "nothing" : Of(Rule.Winner(changes)))}");
                return;
            }

            if (_shown.TryGetValue(order.OrderId, out var before))
            {
                var (lifeBefore, life) = (LifeOf(before), LifeOf(order));
                if (lifeBefore == life && before != order
                    && (before.Operation == Core.Operation.Remove || (order.Operation != Core.Operation.Remove && order.Version < before.Version)))
                {
                    world.Violate($"I5: {order.OrderId} went back from {Of(before)} to {Of(order)}");
                    return;
                }

                world.Count(before == order ? "shown: as before" : life > lifeBefore ? "shown: a later life" : life < lifeBefore ? "shown: an earlier life" : "shown: a later version");
            }

            _shown[order.OrderId] = order;
        }

        // The object of an undecodable record is there before any later change of its order can be found, whoever looks.
        var parking = new Parking(pipeline);
        foreach (var record in pipeline.Table.Writes.Where(w => w.Expected is null && !parking.IsDiscarded(w)))
        {
            var overtaking = loaded.GetValueOrDefault(record.OrderId, []).Find(c => c.SequenceNumber > record.Place);
            if (overtaking is not null)
            {
                world.Violate($"I3: {Of(overtaking)} is loaded although {Of(record)} before it is parked");
                return;
            }
        }

        // That of a refused or a discarded change was there, or was not, when the load looked.
        var inserted = content.Changes.Where(c => !_loaded.Contains(KeyOf(c))).ToList();
        var seen = pipeline.Bucket.QuarantineAtListing(process);
        var discarded = seen.Where(Parking.HoldsDiscarded).Select(Parking.IdOf).ToHashSet(StringComparer.Ordinal);
        if (inserted.Find(c => discarded.Contains(Parking.IdOf(c))) is { } unwanted)
        {
            world.Violate($"I3: {Of(unwanted)} is loaded although it was discarded when the load looked");
            return;
        }

        foreach (var parked in seen.Where(key => !Parking.HoldsDiscarded(key)).Select(key => EmittedOf(pipeline, Parking.IdOf(key))).OfType<Change>())
        {
            if (!_loaded.Contains(KeyOf(parked)) && !parking.IsDiscarded(parked)
                && inserted.Find(c => c.OrderId == parked.OrderId && c.SequenceNumber > parked.SequenceNumber) is { } overtaking)
            {
                world.Violate($"I3: {Of(overtaking)} is loaded although {Of(parked)} before it was parked when the load looked");
                return;
            }
        }

        _loaded.UnionWith(inserted.Select(KeyOf));

        long LifeOf(Change change) => pipeline.Table.Writes.Count(
            w => w.OrderId == change.OrderId && w.Operation == Core.Operation.Remove && w.Place < change.SequenceNumber);
    }

    /// <summary>The change with this id that can be loaded.</summary>
    private static Change? EmittedOf(OrderPipeline pipeline, string id) =>
        pipeline.Table.Writes.Find(w => w.EventId == id)?.Expected ?? pipeline.Snapshots.FirstOrDefault(s => Parking.IdOf(s) == id);

    /// <summary>What is missing until all has arrived; null: nothing.</summary>
    public static string? Missing(OrderPipeline pipeline)
    {
        var content = pipeline.Warehouse.Read();
        var parking = new Parking(pipeline);
        var loaded = content.Changes.Select(c => c.EventId).ToHashSet(StringComparer.Ordinal);
        var waiting = content.Waiting.Select(c => c.EventId).ToHashSet(StringComparer.Ordinal);
        var behind = new HashSet<string>(StringComparer.Ordinal);
        foreach (var write in pipeline.Table.Writes)
        {
            var arrived = write.Expected is null
                ? parking.IsParked(write) || parking.IsDiscarded(write)
                : behind.Contains(write.OrderId)
                    // Refused, and then redriven, it is parked and waits, too.
                    ? waiting.Contains(write.EventId) || parking.IsParked(write) || parking.IsDiscarded(write)
                    : !parking.IsParked(write) && (loaded.Contains(write.EventId) || (parking.IsDiscarded(write) && !waiting.Contains(write.EventId)));
            if (!arrived)
            {
                return $"{Of(write)} is {(loaded.Contains(write.EventId) ? "loaded and " : "")}{(parking.IsParked(write) ? "parked" : waiting.Contains(write.EventId) ? "waiting" : "nowhere")}";
            }

            if (write.Expected is null && parking.IsParked(write))
            {
                behind.Add(write.OrderId);
            }
        }

        // A snapshot waits behind nothing. Of those that share order, version and sequence number the first one stays.
        var keys = content.Changes.Select(KeyOf).ToHashSet();
        foreach (var snapshot in pipeline.Snapshots.Where(s => !parking.IsDiscarded(s)))
        {
            if (parking.IsParked(snapshot) || !keys.Contains(KeyOf(snapshot)))
            {
                return $"{Of(snapshot)} is {(parking.IsParked(snapshot) ? "parked" : "nowhere")}";
            }
        }

        // A file of somebody else's fails for as long as it is there.
        if (content.Failing.FirstOrDefault(key => !pipeline.Junk.Contains(key) || (pipeline.Bucket.Get(key) is null && !pipeline.State.NotedLate.Contains(key))) is { } failing)
        {
            return $"{failing} is noted as failing";
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
        var parking = new Parking(pipeline);

        // I2 and I3: every emitted change once, exactly as it was written: loaded, waiting, parked or discarded.
        var snapshots = content.Changes.Where(c => c.Operation == Core.Operation.Snapshot).ToList();
        Require(
            snapshots.All(pipeline.Snapshots.Contains) && snapshots.DistinctBy(KeyOf).Count() == snapshots.Count,
            () => "I2: a snapshot is loaded twice, or was never read");
        var loaded = content.Changes.Except(snapshots).GroupBy(c => c.EventId, StringComparer.Ordinal).ToDictionary(g => g.Key, g => g.ToList(), StringComparer.Ordinal);
        var waiting = content.Waiting.GroupBy(c => c.EventId, StringComparer.Ordinal).ToDictionary(g => g.Key, g => g.ToList(), StringComparer.Ordinal);
        foreach (var write in pipeline.Table.Writes)
        {
            var isLoaded = loaded.ContainsKey(write.EventId);
            IReadOnlyList<Change> rows = [.. loaded.GetValueOrDefault(write.EventId, []), .. waiting.GetValueOrDefault(write.EventId, [])];
            loaded.Remove(write.EventId);
            waiting.Remove(write.EventId);
            if (write.Expected is null)
            {
                Require(rows.Count == 0, () => $"I3: the undecodable {Of(write)} is loaded {rows.Count} times");
                CheckParked(pipeline, write);
            }
            else
            {
                Require(
                    rows.Count == 1 || (rows.Count == 0 && (parking.IsParked(write) || parking.IsDiscarded(write))),
                    () => $"I2: {Of(write)} is loaded {rows.Count} times");
                Require(!isLoaded || !parking.IsParked(write), () => $"I3: {Of(write)} is loaded and parked");
                Require(rows.All(row => row == write.Expected), () => $"I2: {Of(write)} is loaded as {rows[0]} instead of {write.Expected}");
            }
        }

        Require(loaded.Count == 0, () => $"I3: {loaded.Count} changes are loaded that nobody wrote, for example {Of(loaded.First().Value[0])}");
        Require(waiting.Count == 0, () => $"I3: {waiting.Count} changes wait that nobody wrote, for example {Of(waiting.First().Value[0])}");
        var emitted = pipeline.Table.Writes.Select(w => w.EventId).Concat(pipeline.Snapshots.Select(Parking.IdOf)).ToHashSet(StringComparer.Ordinal);
        Require(parking.All.IsSubsetOf(emitted), () => "I3: records are parked that nobody wrote");

        // I1: the row of each order is its last change, unless a change is parked or discarded; then it is the best of the others.
        foreach (var order in pipeline.Table.Writes.GroupBy(w => w.OrderId, StringComparer.Ordinal))
        {
            var row = content.Orders.FirstOrDefault(o => o.OrderId == order.Key);
            var isWhole = order.All(w => !parking.IsParked(w) && !parking.IsDiscarded(w));
            var arrived = content.Changes.Where(c => c.OrderId == order.Key).ToList();
            var expected = isWhole ? order.Last().Expected : arrived.Count > 0 ? Rule.Winner(arrived) : null;
            Require(row == expected, () => $"I1: {order.Key} is {(row is null ? "missing" : Of(row))} instead of {(expected is null ? "missing" : Of(expected))}");
            Require(
                !isWhole || (pipeline.Table.Read(order.Key) is null) == (row?.Operation == Core.Operation.Remove),
                () => $"I1: {order.Key} is {(row is null ? "missing" : Of(row))} although the table {(pipeline.Table.Read(order.Key) is null ? "does not have" : "has")} it");
        }

        // Of an order from before the stream that nobody wrote to, there is what a backfill read.
        foreach (var order in pipeline.Snapshots.GroupBy(s => s.OrderId).Where(order => !pipeline.Table.Writes.Exists(w => w.OrderId == order.Key)))
        {
            var row = content.Orders.FirstOrDefault(o => o.OrderId == order.Key);
            Require(
                row is null ? order.All(parking.IsDiscarded) : order.Contains(row),
                () => $"I1: {order.Key}, of which there is no record in the stream, is {(row is null ? "missing" : Of(row))} instead of {Of(order.First())}");
            world.Count(row is null ? "at rest: a backfilled order is discarded" : "at rest: a backfill alone tells of an order");
        }

        // I6: from the client's own notes.
        var parked = string.Concat(pipeline.Bucket.Objects.Where(o => Parking.Holds(o.Key)).Select(o => Encoding.UTF8.GetString(o.Content.Bytes)));
        foreach (var (orderId, trace, isRemoval) in pipeline.Acknowledged)
        {
            var arrived = content.Changes.Concat(content.Waiting).Any(
                c => c.OrderId == orderId && (c.Operation == Core.Operation.Remove) == isRemoval && (c.TraceParent == trace || (isRemoval && c.Document == "{}")));
            Require(
                arrived || parked.Contains(trace, StringComparison.Ordinal),
                () => $"I6: the acknowledged {(isRemoval ? "removal" : "write")} of {orderId} with trace {trace} is lost");
        }

        CheckDigests(pipeline, content, parking);
        foreach (var fault in pipeline.Warehouse.Faults())
        {
            world.Violate(fault);
        }
    }

    /// <summary>What a reconciliation would see: equal digests for what is equal, and another one for a row that is there twice.</summary>
    private void CheckDigests(OrderPipeline pipeline, WarehouseContent content, Parking parking)
    {
        var (table, warehouse) = (default(DigestSum), default(DigestSum));
        foreach (var row in content.Orders.Where(o => o.Operation != Core.Operation.Remove))
        {
            var isWhole = pipeline.Table.Writes.TrueForAll(w => w.OrderId != row.OrderId || (!parking.IsParked(w) && !parking.IsDiscarded(w)));
            if (isWhole && pipeline.Table.Read(row.OrderId)?.Decoded is { } item)
            {
                (table, warehouse) = (table.Add(OrderDigest.HashOf(item)), warehouse.Add(OrderDigest.HashOf(row)));
                var twice = warehouse.Add(OrderDigest.HashOf(row)).Add(OrderDigest.HashOf(row));
                Require(twice.High != warehouse.High && twice.Low != warehouse.Low, () => $"I1: two more rows of {row.OrderId} do not change the digest");
            }
        }

        Require(table == warehouse, () => $"I1: the digest of the table is {table}, that of the warehouse {warehouse}");
    }

    /// <summary>I4: a warehouse that was built anew holds the same.</summary>
    /// <remarks>
    /// Four things are no difference. Of two snapshots of one version the one that was loaded first stays. A change that
    /// was refused and is parked behind another one has not been redriven; its file brings it back as one that waits. One that
    /// was discarded while it waited goes when it would be let in; a rebuilt warehouse never has it. And a
    /// discard that races with the load of its change has come too late; a rebuilt warehouse leaves that change out. (Of a
    /// snapshot another one may take the place: its order is not compared.)
    /// </remarks>
    public void CheckRebuilt(OrderPipeline pipeline, WarehouseContent live, WarehouseContent rebuilt)
    {
        var parking = new Parking(pipeline);
        var parked = pipeline.Table.Writes.Where(parking.IsParked).Select(w => w.EventId).ToHashSet(StringComparer.Ordinal);
        var discardedTooLate = live.Changes.Where(parking.IsDiscarded).ToList();
        var notCompared = discardedTooLate.Where(c => c.Operation == Core.Operation.Snapshot).Select(c => c.OrderId).ToHashSet(StringComparer.Ordinal);
        var wanted = live.Changes.Except(discardedTooLate).ToLookup(c => c.OrderId, StringComparer.Ordinal);
        if (discardedTooLate.Count > 0)
        {
            world.Count("discard: too late");
        }

        Compare("order_changes", [.. wanted.SelectMany(changes => changes)], rebuilt.Changes);
        Compare("orders", [.. live.Orders.Where(row => wanted.Contains(row.OrderId)).Select(row => RowOf(row.OrderId) ?? row)], rebuilt.Orders);
        Compare("waiting_changes", [.. live.Waiting.Where(c => !parking.IsDiscarded(c))], rebuilt.Waiting);

        // Null: as it is.
        Change? RowOf(string orderId) => discardedTooLate.Exists(c => c.OrderId == orderId) ? Rule.Winner([.. wanted[orderId]]) : null;

        void Compare(string table, IReadOnlyList<Change> liveRows, IReadOnlyList<Change> rebuiltRows)
        {
            var before = Comparable(liveRows);
            var after = Comparable(rebuiltRows);
            var only = before.Except(after).Concat(after.Except(before)).ToList();
            Require(
                only.Count == 0 && before.Count == after.Count,
                () => $"I4: rebuilt from the bucket, {table} has {after.Count} rows and not the {before.Count} that there were{(only.Count > 0 ? $"; only in one of them is {Of(only[0])}" : "")}");
        }

        List<Change> Comparable(IReadOnlyList<Change> rows) =>
        [
            .. rows.Where(c => !parked.Contains(c.EventId) && !notCompared.Contains(c.OrderId)).Select(c => c.Operation != Core.Operation.Snapshot ? c : new Change
            {
                OrderId = c.OrderId,
                Version = c.Version,
                SequenceNumber = c.SequenceNumber,
                EventId = "",
                Operation = c.Operation,
                ChangedAt = default,
                Document = "",
            }),
        ];
    }

    /// <summary>The object holds the whole record: nothing of the image is missing.</summary>
    private void CheckParked(OrderPipeline pipeline, Write write)
    {
        var (key, content) = pipeline.Bucket.Objects.FirstOrDefault(o => Parking.Holds(o.Key) && Parking.IdOf(o.Key) == write.EventId);
        var text = key is null ? "" : Encoding.UTF8.GetString(content.Bytes);
        Require(
            text.Contains(write.EventId, StringComparison.Ordinal) && text.Contains(write.TraceParent, StringComparison.Ordinal)
                && text.Contains(write.SequenceNumber, StringComparison.Ordinal) && text.Contains("\"reason\"", StringComparison.Ordinal),
            () => $"I3: the parked object {key} does not hold the record {write.EventId}");
    }

    private void Require(bool holds, Func<string> otherwise)
    {
        if (!holds)
        {
            world.Violate(otherwise());
        }
    }

    private static (string, long, SequenceNumber) KeyOf(Change change) => (change.OrderId, change.Version, change.SequenceNumber);

    private static string Of(Change change) => $"{change.Operation} v{change.Version} at {change.SequenceNumber.ToString().TrimStart('0')} of {change.OrderId}";

    private static string Of(Write write) => $"{write.Operation} {write.SequenceNumber} of {write.OrderId}";
}

/// <summary>What is parked and what is discarded, by the ids in the keys of the objects.</summary>
internal sealed class Parking
{
    private readonly HashSet<string> _parked = new(StringComparer.Ordinal);
    private readonly HashSet<string> _discarded = new(StringComparer.Ordinal);

    public Parking(OrderPipeline pipeline)
    {
        foreach (var (key, _) in pipeline.Bucket.Objects)
        {
            if (Holds(key))
            {
                (HoldsDiscarded(key) ? _discarded : _parked).Add(IdOf(key));
            }
        }
    }

    public HashSet<string> All => _parked.Concat(_discarded).ToHashSet(StringComparer.Ordinal);

    public static bool Holds(string key) =>
        key.StartsWith(Names.QuarantinePrefix, StringComparison.Ordinal) || HoldsDiscarded(key);

    public static bool HoldsDiscarded(string key) => key.StartsWith(Names.DiscardedPrefix, StringComparison.Ordinal);

    public static string IdOf(string key)
    {
        var name = Path.GetFileNameWithoutExtension(key);
        return name.StartsWith("snapshot-", StringComparison.Ordinal) ? $"{Path.GetFileName(Path.GetDirectoryName(key))}/{name}" : name;
    }

    /// <summary>Its event id; a snapshot that was read again on another day is another one, to be decided on anew.</summary>
    public static string IdOf(Change change) => change.Operation == Core.Operation.Snapshot
        ? string.Create(CultureInfo.InvariantCulture, $"dt={change.ChangedAt.UtcDateTime:yyyy-MM-dd}/{change.EventId}")
        : change.EventId;

    /// <summary>A discarded record that came once more is not parked, whatever lies there.</summary>
    public bool IsParked(Write write) => IsParked(write.EventId);

    public bool IsParked(Change change) => IsParked(IdOf(change));

    public bool IsDiscarded(Write write) => _discarded.Contains(write.EventId);

    public bool IsDiscarded(Change change) => _discarded.Contains(IdOf(change));

    private bool IsParked(string id) => _parked.Contains(id) && !_discarded.Contains(id);
}
