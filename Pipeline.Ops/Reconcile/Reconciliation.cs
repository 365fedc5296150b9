using System.Diagnostics;
using System.Reflection;
using Amazon.DynamoDBv2.Model;
using Microsoft.Extensions.Logging.Abstractions;
using Pipeline.Core;
using Pipeline.Loader;

namespace Pipeline.Ops.Reconcile;

/// <param name="Segments">Of the parallel scan.</param>
/// <param name="Deadline">How long orders that differ are looked at again.</param>
/// <param name="ListMax">Differences that are listed; all of them are counted.</param>
/// <param name="Repair">Write changes for what differs, and look again.</param>
/// <param name="TemporaryFolder">For the spool, some 60 bytes an order.</param>
/// <param name="IsNewKey">The key for personal data was changed, and the warehouse need not know it.</param>
internal sealed record ReconcileOptions(int Segments, TimeSpan Deadline, int ListMax, bool Repair, string TemporaryFolder, bool IsNewKey = false);

/// <summary>Where a reconciliation stands; written by it, read by a progress bar.</summary>
internal sealed class ReconcileProgress
{
    private long _scanned;

    public volatile string Phase = "asking for the table";
    public long ItemsAbout { get; set; }
    public long Scanned => Interlocked.Read(ref _scanned);

    public void AddScanned(int items) => Interlocked.Add(ref _scanned, items);
}

/// <summary>
/// Compares the table with the warehouse. The table itself is read, not a copy or a count of it, with the code of the
/// function process_orders; the warehouse hashes its rows itself. What is compared is one digest for each bucket of
/// orders; only buckets that differ are read order by order, and only orders that differ are looked at again, until what
/// was on its way has arrived or the deadline passes. Memory does not grow with the table.
/// </summary>
internal sealed class Reconciliation(
    OrderTable table, ReceivedBytes tableBytes, WarehouseReader warehouse, IObjectStore objects, PersonalDataProtector protector, ReconcileOptions options,
    TimeProvider time)
{
    /// <summary>Orders of differing buckets that are in memory at once.</summary>
    private const int OrdersInMemory = 100_000;

    /// <summary>Orders with several rows; more are no accident of single orders.</summary>
    private const int DoubledMax = 100_000;

    /// <summary>Some more than there are segments that compute at the same time.</summary>
    private const int LocksOfBuckets = 64;

    /// <summary>Between two looks: a change that is on its way needs about a second.</summary>
    private static readonly TimeSpan LookPause = TimeSpan.FromSeconds(1);

    private readonly Loader.Quarantine _quarantine = new(objects, NullLogger.Instance);

    public ReconcileProgress Progress { get; } = new();

    /// <summary>Sums over all orders as they were last looked at: equal when, and only when, nothing differs any more.</summary>
    private DigestSum _tableDigest, _warehouseDigest;

    public async Task<Certificate> RunAsync(CancellationToken cancellationToken)
    {
        using var bytes = new WarehouseBytes();
        var startedAt = time.GetUtcNow();
        var started = time.GetTimestamp();
        var receivedBefore = tableBytes.Count;

        // 0. With another key every order would differ.
        if (!options.IsNewKey && await warehouse.PersonalDataKeysAsync(cancellationToken) is { Count: > 0 } keys && !keys.Contains(protector.KeyId))
        {
            throw new OperatorException(
                $"The warehouse's personal data is protected with the key {string.Join(" and ", keys.Order(StringComparer.Ordinal))}; the key that was given is "
                + $"{protector.KeyId}. Give the key that process_orders has, or --new-key when that was changed (docs/privacy.md).");
        }

        // 1. Both sides at once. The table, all of it: a digest for each bucket in memory, an entry for each order on disk. The
        //    warehouse, hashed over there. What changes meanwhile differs, is looked at again below, and settles.
        var description = await table.DescribeAsync(cancellationToken);
        Progress.ItemsAbout = description.ItemsAbout;
        Progress.Phase = "reading the table and hashing the warehouse";
        using var spool = new Spool(options.TemporaryFolder);
        var (readFrom, readTo, hashedTo) = (time.GetUtcNow(), default(DateTimeOffset), default(DateTimeOffset));
        DigestSum[] ofTable = [], ofWarehouse = [];
        IReadOnlySet<string> doubled = new HashSet<string>();
        await BothAsync(
            async ct =>
            {
                ofTable = await ScanAsync(spool, readFrom, ct);
                readTo = time.GetUtcNow();
            },
            async ct =>
            {
                doubled = await warehouse.DoubledAsync(DoubledMax, ct);
                ofWarehouse = await warehouse.DigestsAsync(ct);
                hashedTo = time.GetUtcNow();
            },
            cancellationToken);
        _tableDigest = ofTable.Aggregate((sum, digest) => sum + digest);
        _warehouseDigest = ofWarehouse.Aggregate((sum, digest) => sum + digest);

        // 2. The buckets that differ, order by order.
        var buckets = doubled.Select(OrderDigest.BucketOf)
            .Concat(Enumerable.Range(0, OrderDigest.Buckets).Where(bucket => ofTable[bucket] != ofWarehouse[bucket]))
            .Distinct().Order().ToList();
        Progress.Phase = $"comparing the orders of {buckets.Count} buckets";
        using var candidates = await DescendAsync(spool, buckets, ofTable, ofWarehouse, doubled, readTo, cancellationToken);

        // 3. The orders that differ, again and again.
        var lookedAtAgain = candidates.Count;
        var look = await LookAgainAsync(candidates, [], cancellationToken);
        RepairReport? repair = null;
        if (options.Repair && look.Remaining.Count > 0)
        {
            Progress.Phase = "writing repairs";
            using var before = look;
            (repair, var files) = await RepairAsync(before.Remaining, cancellationToken);
            look = await LookAgainAsync(before.Remaining, files, cancellationToken);
            repair = repair with { NotLoaded = look.NotLoaded };
        }

        using (look)
        {
            return new Certificate
            {
                Result = look.NotLoaded > 0 ? Verdict.CouldNotTell
                    : look.Different.Total > 0 ? Verdict.Different
                    : look.Changing.Total > 0 ? Verdict.CouldNotTell
                    : Verdict.Equal,
                Tool = new ToolInfo("Pipeline.Ops reconcile", ToolVersion, OrderDigest.Rule),
                StartedAt = startedAt,
                FinishedAt = time.GetUtcNow(),
                Table = new TableReading(description.Name, description.Arn, readFrom, readTo, _tableDigest.Count, _tableDigest.ToString()),
                Warehouse = new WarehouseReading(warehouse.Name, readFrom, hashedTo, _warehouseDigest.Count, _warehouseDigest.ToString()),
                Buckets = new BucketCounts(OrderDigest.Buckets, buckets.Count),
                LookedAtAgain = lookedAtAgain,
                Settled = lookedAtAgain - look.Remaining.Count,
                Differences = await WithParkedAsync(look.Different, cancellationToken),
                StillChanging = await WithParkedAsync(look.Changing, cancellationToken),
                Repair = repair,
                Cost = new CostReport(
                    Math.Round(time.GetElapsedTime(started).TotalSeconds, 3), tableBytes.Count - receivedBefore, table.Units, bytes.Read, PeakMemory()),
            };
        }
    }

    /// <summary>Two things at a time. When one fails the other is cancelled.</summary>
    private static Task BothAsync(Func<CancellationToken, Task> one, Func<CancellationToken, Task> other, CancellationToken cancellationToken) => Parallel.ForEachAsync(
        [one, other],
        new ParallelOptions { MaxDegreeOfParallelism = 2, CancellationToken = cancellationToken },
        async (side, ct) => await side(ct));

    private static string ToolVersion =>
        typeof(Reconciliation).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    private async Task<DigestSum[]> ScanAsync(Spool spool, DateTimeOffset readAt, CancellationToken cancellationToken)
    {
        // One for all segments, whatever their number: each is 3 MB. Who adds to a bucket locks it with its neighbours.
        var digests = new DigestSum[OrderDigest.Buckets];
        var locks = Enumerable.Range(0, LocksOfBuckets).Select(_ => new Lock()).ToArray();
        await Parallel.ForAsync(
            0,
            options.Segments,
            new ParallelOptions { MaxDegreeOfParallelism = options.Segments, CancellationToken = cancellationToken },
            async (segment, ct) =>
            {
                await foreach (var page in table.ScanAsync(segment, options.Segments, startAfter: null, ct))
                {
                    foreach (var item in page.Items)
                    {
                        var (orderId, order) = Decoded(item, readAt);
                        var bucket = OrderDigest.BucketOf(orderId);
                        lock (locks[bucket % LocksOfBuckets])
                        {
                            digests[bucket] += order.Digest;
                        }

                        spool.Write(new ScannedOrder(orderId, bucket, order.State?.Version ?? 0, order.State?.Hash));
                    }

                    Progress.AddScanned(page.Items.Count);
                }
            });
        return digests;
    }

    /// <summary>Both sides of the differing buckets, bucket after bucket. An order that is the same on both sides is done.</summary>
    private async Task<Candidates> DescendAsync(
        Spool spool,
        List<int> buckets,
        DigestSum[] ofTable,
        DigestSum[] ofWarehouse,
        IReadOnlySet<string> doubled,
        DateTimeOffset scannedAt,
        CancellationToken cancellationToken)
    {
        var candidates = new Candidates(options.TemporaryFolder);
        var compared = new HashSet<string>(StringComparer.Ordinal);
        try
        {
            if (buckets.Count == 0)
            {
                return candidates;
            }

            // The rows are read later than they were hashed: what has arrived in between is in them, so the sum follows them.
            foreach (var bucket in buckets)
            {
                _warehouseDigest -= ofWarehouse[bucket];
            }

            await using var rows = warehouse.RowsAsync(buckets, cancellationToken).GetAsyncEnumerator(cancellationToken);
            var hasRow = await rows.MoveNextAsync();
            foreach (var (bucket, scanned) in spool.Read(buckets, bucket => ofTable[bucket].Count, OrdersInMemory))
            {
                var inWarehouse = new Dictionary<string, List<OrderState>>(StringComparer.Ordinal);
                for (; hasRow && rows.Current.Bucket == bucket; hasRow = await rows.MoveNextAsync())
                {
                    if (!inWarehouse.TryGetValue(rows.Current.OrderId, out var states))
                    {
                        inWarehouse[rows.Current.OrderId] = states = [];
                    }

                    states.Add(rows.Current.State);
                }

                foreach (var order in scanned)
                {
                    inWarehouse.Remove(order.OrderId, out var states);
                    var ofItem = order.Hash is { } hash ? new TableOrder(new OrderState(order.Version, hash)) : new TableOrder(null, "");
                    Compare(order.OrderId, ofItem, states ?? []);
                }

                foreach (var (orderId, states) in inWarehouse)
                {
                    Compare(orderId, default, states);
                }

                // Of the orders with several rows those that show nothing on either side: all their rows are tombstones.
                foreach (var orderId in doubled.Where(id => OrderDigest.BucketOf(id) == bucket && !compared.Contains(id)).ToList())
                {
                    Compare(orderId, default, []);
                }
            }

            return candidates;
        }
        catch
        {
            candidates.Dispose();
            throw;
        }

        void Compare(string orderId, TableOrder item, List<OrderState> states)
        {
            var isDoubled = doubled.Contains(orderId);
            if (isDoubled)
            {
                compared.Add(orderId);
            }

            var row = new WarehouseOrder(states, isDoubled ? Math.Max(states.Count, 2) : states.Count);
            _warehouseDigest += row.Digest;
            if (Comparison.Of(item, row) is not null)
            {
                candidates.Add(new Candidate(orderId, item.State, scannedAt, item.Digest, row.Digest));
            }
        }
    }

    /// <summary>The outcome of the last look. Owns the file with what remains.</summary>
    /// <param name="Remaining">The orders that differ.</param>
    /// <param name="Different">Those that do for good, as far as can be told.</param>
    /// <param name="Changing">Those that were changing.</param>
    /// <param name="NotLoaded">Of the files of a repair, so many were not in the ledger.</param>
    private sealed record Look(Candidates Remaining, Differences Different, Differences Changing, int NotLoaded) : IDisposable
    {
        public void Dispose() => Remaining.Dispose();
    }

    /// <summary>
    /// Reads the orders again on both sides until they agree, only such are left as time cannot mend, or the deadline passes. An order that
    /// did not stay the same in the table for the last half of that time may have been on its way all the time: nothing
    /// is known about it.
    /// </summary>
    /// <param name="given">The orders.</param>
    /// <param name="files">Of a repair: as long as one of them is not loaded, what agrees may differ a moment later.</param>
    /// <param name="cancellationToken">Ends it.</param>
    private async Task<Look> LookAgainAsync(Candidates given, IReadOnlyCollection<string> files, CancellationToken cancellationToken)
    {
        var deadline = time.GetUtcNow() + options.Deadline;
        var current = given;
        var awaited = files.ToHashSet(StringComparer.Ordinal);
        while (true)
        {
            Progress.Phase = $"looking again at {current.Count} orders";
            var isLast = time.GetUtcNow() >= deadline;
            var mayArrive = false;

            // Before the orders: what is in the ledger then is in what they show.
            awaited.ExceptWith(await warehouse.LoadedAsync(awaited, cancellationToken));
            Tally different = new(options.ListMax), changing = new(options.ListMax);
            var remaining = new Candidates(options.TemporaryFolder);
            try
            {
                foreach (var group in current.InGroupsOf(OrderTable.KeysMax))
                {
                    var (items, rows) = await ReadBothAsync([.. group.Select(candidate => candidate.OrderId)], cancellationToken);
                    var now = time.GetUtcNow();
                    foreach (var candidate in group)
                    {
                        var (order, item) = items.GetValueOrDefault(candidate.OrderId);
                        var ofOrder = rows[candidate.OrderId].ToList();
                        var row = new WarehouseOrder([.. ofOrder.Where(r => !r.IsDeleted).Select(r => r.State)], ofOrder.Count);
                        _tableDigest += order.Digest - candidate.TableDigest;
                        _warehouseDigest += row.Digest - candidate.WarehouseDigest;
                        if (Comparison.Of(order, row) is not { } kind)
                        {
                            continue;
                        }

                        var since = candidate.Table == order.State ? candidate.TableSince : now;
                        remaining.Add(new Candidate(candidate.OrderId, order.State, since, order.Digest, row.Digest));
                        mayArrive |= Comparison.MayBeOnItsWay(kind);
                        (IsChanging(kind, since, now) ? changing : different).Add(Describe(candidate.OrderId, kind, order, item, ofOrder));
                    }
                }
            }
            catch
            {
                remaining.Dispose();
                throw;
            }
            finally
            {
                if (current != given)
                {
                    current.Dispose();
                }
            }

            if (isLast || (!mayArrive && awaited.Count == 0))
            {
                return new Look(remaining, different.Sum(), changing.Sum(), awaited.Count);
            }

            current = remaining;
            var pause = deadline - time.GetUtcNow();
            await Task.Delay(pause < LookPause ? pause > TimeSpan.Zero ? pause : TimeSpan.Zero : LookPause, time, cancellationToken);
        }
    }

    private bool IsChanging(DifferenceKind kind, DateTimeOffset since, DateTimeOffset now) =>
        Comparison.MayBeOnItsWay(kind) && now - since < options.Deadline / 2;

    /// <summary>First the table, then the warehouse: what the table has now the warehouse may have by then.</summary>
    private async Task<(Dictionary<string, (TableOrder Order, Change? Item)> Items, ILookup<string, WarehouseRow> Rows)> ReadBothAsync(
        IReadOnlyCollection<string> orderIds, CancellationToken cancellationToken)
    {
        var items = await ReadTableAsync(orderIds, cancellationToken);
        return (items, await warehouse.OrdersAsync(orderIds, cancellationToken));
    }

    private async Task<Dictionary<string, (TableOrder Order, Change? Item)>> ReadTableAsync(
        IReadOnlyCollection<string> orderIds, CancellationToken cancellationToken)
    {
        var readAt = time.GetUtcNow();
        var items = new Dictionary<string, (TableOrder, Change?)>(StringComparer.Ordinal);
        foreach (var item in await table.GetAsync(orderIds, cancellationToken))
        {
            var decoded = TableItem.Decode(item, SequenceNumber.Zero, readAt, protector);
            items.Add(decoded.OrderId, (OrderOf(decoded), decoded.Change));
        }

        return items;
    }

    private (string OrderId, TableOrder Order) Decoded(Dictionary<string, AttributeValue> item, DateTimeOffset readAt)
    {
        var decoded = TableItem.Decode(item, SequenceNumber.Zero, readAt, protector);
        return (decoded.OrderId, OrderOf(decoded));
    }

    private static TableOrder OrderOf(TableItem item) =>
        item.Change is { } change ? new TableOrder(new OrderState(change.Version, OrderDigest.HashOf(change))) : new TableOrder(null, item.Undecodable);

    private static Difference Describe(string orderId, DifferenceKind kind, TableOrder order, Change? item, List<WarehouseRow> rows)
    {
        var shown = rows.FirstOrDefault(row => !row.IsDeleted);
        return new Difference
        {
            OrderId = orderId,
            Kind = kind,
            TableVersion = order.State?.Version,
            WarehouseVersion = shown?.State.Version,
            Fields = kind == DifferenceKind.Different
                ? [.. OrderDigest.Fields(item!).Zip(shown!.Fields, OrderDigest.FieldNames).Where(field => field.First != field.Second).Select(field => field.Third)]
                : null,
            Reason = order.Undecodable,
            Rows = rows.Count > 1 ? rows.Count : null,
        };
    }

    /// <summary>Writes what makes the warehouse right as change files, which the loader finds by itself.</summary>
    private async Task<(RepairReport Report, IReadOnlyCollection<string> Files)> RepairAsync(Candidates differing, CancellationToken cancellationToken)
    {
        var parked = await ParkedAsync(cancellationToken);
        var writer = new ChangeWriter(objects, time);
        var at = ChangeDecoder.ToMicroseconds(time.GetUtcNow());
        long repaired = 0, notRepairable = 0, stillChanging = 0;
        foreach (var group in differing.InGroupsOf(OrderTable.KeysMax))
        {
            // First the warehouse, then the table: whatever happens to an order after it was read here has a greater
            // sequence number than all that the warehouse knew before, so it ranks above the repair and not below it.
            var orderIds = group.Select(candidate => candidate.OrderId).ToList();
            var moment = await warehouse.MomentAsync(orderIds, at, cancellationToken);
            var items = await ReadTableAsync(orderIds, cancellationToken);
            var now = time.GetUtcNow();
            foreach (var candidate in group)
            {
                var (order, item) = items.GetValueOrDefault(candidate.OrderId);
                var ofOrder = moment.Rows[candidate.OrderId].ToList();
                var row = new WarehouseOrder([.. ofOrder.Where(r => !r.IsDeleted).Select(r => r.State)], ofOrder.Count);
                if (Comparison.Of(order, row) is not { } kind)
                {
                    continue;
                }

                // Its change is on its way, and makes it right without a repair.
                if (candidate.Table != order.State || IsChanging(kind, candidate.TableSince, now))
                {
                    stillChanging++;
                    continue;
                }

                // A change that is parked is the operator's to redrive or to discard; a repair would only wait behind it.
                var changes = parked.Contains(candidate.OrderId)
                    ? []
                    : Repair.Plan(
                        kind, item, moment.Shown.GetValueOrDefault(candidate.OrderId), moment.Last.TryGetValue(candidate.OrderId, out var known) ? known : null);
                repaired += changes.Count > 0 ? 1 : 0;
                notRepairable += changes.Count > 0 ? 0 : 1;
                await writer.AddAsync(changes, cancellationToken);
            }
        }

        await writer.FlushAsync(cancellationToken);
        var files = writer.TakeWritten().Keys;
        return (new RepairReport(repaired, notRepairable, stillChanging, [.. files.Take(options.ListMax)], files.Count), files);
    }

    private async Task<Differences> WithParkedAsync(Differences differences, CancellationToken cancellationToken)
    {
        if (differences.Total == 0)
        {
            return differences;
        }

        var parked = await ParkedAsync(cancellationToken);
        return differences with
        {
            Listed = [.. differences.Listed.Select(one => parked.Contains(one.OrderId) ? one with { ParkedIn = [.. parked[one.OrderId]] } : one)],
        };
    }

    /// <summary>The objects in quarantine by order.</summary>
    private async Task<ILookup<string, string>> ParkedAsync(CancellationToken cancellationToken) =>
        (await _quarantine.ListAsync(cancellationToken)).ToLookup(parked => parked.OrderId, parked => parked.Key, StringComparer.Ordinal);

    private static long PeakMemory()
    {
        using var process = Process.GetCurrentProcess();
        return process.PeakWorkingSet64;
    }

    /// <summary>Counts differences, and keeps the first ones.</summary>
    private sealed class Tally(int listMax)
    {
        private readonly SortedDictionary<DifferenceKind, long> _byKind = [];
        private readonly List<Difference> _listed = [];

        public void Add(Difference difference)
        {
            _byKind[difference.Kind] = _byKind.GetValueOrDefault(difference.Kind) + 1;
            if (_listed.Count < listMax)
            {
                _listed.Add(difference);
            }
        }

        public Differences Sum() => new(_byKind.Values.Sum(), _byKind, _listed);
    }
}
