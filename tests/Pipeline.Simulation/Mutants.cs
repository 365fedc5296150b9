namespace Pipeline.Simulation;

/// <summary>Faults that somebody might make, each in one place of the production code.</summary>
internal static class Mutants
{
    private const string ProcessOrders = "Pipeline.Processor/ProcessOrders.cs";
    private const string BatchReader = "Pipeline.Processor/BatchReader.cs";
    private const string Decoder = "Pipeline.Core/ChangeDecoder.cs";
    private const string Shard = "Pipeline.LambdaEmulator/EventSource/ShardProcessor.cs";
    private const string Shards = "Pipeline.LambdaEmulator/Streams/Shard.cs";
    private const string Load = "Pipeline.Loader/Loader.cs";
    private const string Staged = "Pipeline.Loader/StagedKeys.cs";
    private const string Postgres = "Pipeline.Loader/PostgresWarehouse.cs";
    private const string DropKnown = "Pipeline.Loader/Sql/postgres/3-drop-known.sql";
    private const string Winners = "Pipeline.Loader/Sql/shared/6-choose-winners.sql";

    public static IReadOnlyList<Mutant> All { get; } =
    [
        // The function.
        new("drop on error", ProcessOrders, "        var failed = true;", "        var failed = false;",
            "a batch whose PUT failed is acknowledged"),
        new("acknowledge before PUT", ProcessOrders, "await WriteChangeFileAsync(key, changes, context, timeout.Token);",
            "_ = WriteChangeFileAsync(key, changes, context, timeout.Token);",
            "the answer does not wait for the file"),
        new("poison is dropped", ProcessOrders, "await QuarantineAsync(poison, context, timeout.Token);", "poison.Clear();",
            "what cannot be decoded is in neither place"),
        new("poison after the file", ProcessOrders,
            """
                            await QuarantineAsync(poison, context, timeout.Token);
                            if (key is not null)
                            {
                                await WriteChangeFileAsync(key, changes, context, timeout.Token);
                            }
            """,
            """
                            if (key is not null)
                            {
                                await WriteChangeFileAsync(key, changes, context, timeout.Token);
                            }

                            await QuarantineAsync(poison, context, timeout.Token);
            """,
            "later changes of the order are found before the parked one"),
        new("fail from the highest", ProcessOrders, "number < lowestNumber", "number > lowestNumber",
            "records before the reported one count as stored"),
        new("fail from the highest, in one pass", BatchReader, "number < _lowestNumber", "number > _lowestNumber",
            "records before the reported one count as stored"),
        new("as it comes, in one pass", BatchReader, "else if (!isSorted && !TrySort(members, from))", "else if (false)",
            "the document of an order depends on the order of its attributes"),
        new("the wrong image, in one pass", BatchReader, "operation == Operation.Remove ? \"OldImage\"u8", "operation != Operation.Insert ? \"OldImage\"u8",
            "a change shows the order as it was before"),

        // Changes, files and keys.
        new("removal is parked", Decoder, "when (operation == Operation.Remove)", "when (operation == (Operation)99)",
            "a removed order whose image is spoiled stays in the warehouse"),
        new("cents", Decoder, "hundredths / 100.00m", "hundredths / 10.00m", "amounts are ten times too large"),
        new("version of a removal", Decoder, "out var version) && version >= 0 ? version : 0;", "out var version) && version >= 0 ? 0 : 0;",
            "a removal ranks below what it removed"),
        new("unpadded sequence numbers", "Pipeline.Core/SequenceNumber.cs", "text.PadLeft(Digits, '0')", "text",
            "text order is not number order"),
        new("key of the last record", "Pipeline.Core/ObjectKeys.cs", "{first}-{last}-{Convert.ToHexStringLower(digest.GetCurrentHash())}", "{last}",
            "a batch that is cut anew overwrites the file of the larger one"),
        new("XOR digest", "Pipeline.Core/OrderDigest.cs", "High + (hash >> (128 - HalfBits)),", "High ^ (hash >> (128 - HalfBits)),",
            "two equal differences cancel out"),

        // The event source mapping.
        new("start at LATEST", "Pipeline.LambdaEmulator/Streams/StreamSource.cs", "[\"ShardIteratorType\"] = \"TRIM_HORIZON\"", "[\"ShardIteratorType\"] = \"LATEST\"",
            "what was written before the first read is skipped"),
        new("failed batch is done", Shard,
            "                batch.LastOutcome = outcome;\n                Fail(lane, batch, now);",
            "                batch.LastOutcome = outcome;\n                Finish(batch.Buffered);",
            "a batch that made the function fail is not tried again"),
        new("half of a bisection", Shard, "lane.Retries.Push(batch.Slice(half, batch.Count - half, batch.FailedAttempts, now));", "Finish(batch.Buffered[half..]);",
            "the second half is not tried again"),
        new("checkpoint ahead", Shard, "out var first) && first.Done)", "out var first))", "after a restart reading goes on behind records that are not processed"),
        new("finished at the end", Shard, "_ended && _aheadOfCheckpoint.Count == 0", "_ended", "a shard counts as finished when it is read"),
        new("partial batch off by one", "Pipeline.LambdaEmulator/EventSource/BatchResponse.cs", "lowest = i;", "lowest = i + 1;",
            "the reported record itself is not tried again"),
        new("children before parents", Shards, "(shard.ParentId is null || !unfinished.Contains(shard.ParentId))", "true",
            "a shard is read before the one that it continues"),
        new("empty shard never ends", "Pipeline.LambdaEmulator/EventSource/ShardWorker.cs", "if (page.IsEnd)", "if (page.IsEnd && page.Records.Count > 0)",
            "behind a closed shard without records nothing is read any more"),
        new("trimmed is the end", "Pipeline.LambdaEmulator/Streams/ShardCursor.cs", "return new StreamPage([], IsEnd: false, Trimmed: !wasAtBeginning);", "return new StreamPage([], IsEnd: true);",
            "what the stream still holds behind trimmed records is skipped"),
        new("timeout acknowledges", "Pipeline.LambdaEmulator/Functions/LambdaFunction.cs",
            "TryComplete(invocation.RequestId, new InvocationOutcome.Failed(\n            \"Sandbox.Timedout\",",
            "_ = TryComplete(invocation.RequestId, new InvocationOutcome.Answered(default)) && TryComplete(invocation.RequestId, new InvocationOutcome.Failed(\n            \"Sandbox.Timedout\",",
            "a batch whose function ran out of time counts as stored"),

        // The loader.
        new("ledger outside of the transaction", Load, "            await using var load = await warehouse.BeginAsync(cancellationToken);",
            """
                        await using (var before = await warehouse.BeginAsync(cancellationToken))
                        {
                            await before.RecordLedgerAsync(files, cancellationToken);
                            await before.CommitAsync(cancellationToken);
                        }

                        await using var load = await warehouse.BeginAsync(cancellationToken);
            """,
            "a file counts as loaded before its rows are"),
        new("merge of several only", Load, "if (news.Count > 0)", "if (news.Count > 1)", "a single new change is not shown"),
        new("history is left out", Load, "                await load.InsertHistoryAsync(cancellationToken);\n", "", "changes are merged and not kept"),
        new("half of a refused file", Load, "await LoadPartsAsync([.. inOrder.Skip(half)], files, cancellationToken);", "await LoadPartsAsync([], files, cancellationToken);",
            "the file is loaded without its second half"),
        new("refused is dropped", Load, "            await ParkAsync(changes[0], e.Message, cancellationToken);\n", "", "a refused change is in neither place"),
        new("nothing is held back", Load, "if (waiting.Count > 0)\n            {\n                await load.HoldBackAsync", "if (waiting.Count > 1)\n            {\n                await load.HoldBackAsync",
            "a change overtakes the parked one before it"),
        new("what is refused holds nothing back", "Pipeline.Loader/LoadPlan.cs", "var firstParked = parked\n", "var firstParked = parked.Where(p => p.Version is null)\n",
            "a change overtakes the one before it that the warehouse refused"),
        new("waits behind itself", "Pipeline.Loader/LoadPlan.cs", "first < c.SequenceNumber", "first <= c.SequenceNumber", "what was redriven is never loaded"),
        new("waiting is forgotten", Load, ": now + _options.ReleaseInterval;", ": DateTimeOffset.MaxValue;", "what waits is let in by a restart only"),
        new("discarded comes back", Load, "given.Any(_quarantine.IsDiscarded) ? [.. given.Where(c => !_quarantine.IsDiscarded(c))] : given", "given",
            "a rebuilt warehouse has what was discarded"),
        new("discards are listed once", "Pipeline.Loader/Quarantine.cs", "        _discarded = [.. (await ListAsync(", "        _discarded = _discarded.Count > 0 ? _discarded : [.. (await ListAsync(",
            "a discarded record that is delivered again holds its order back for ever"),
        new("discards of an empty quarantine", "Pipeline.Loader/Quarantine.cs", "        _discarded = [.. (await ListAsync(", "        _discarded = listed.Count == 0 ? _discarded : [.. (await ListAsync(",
            "what another loader parked and an operator discarded is loaded by the one that saw neither"),
        new("snapshots are told by their order alone", "Pipeline.Loader/Sql/postgres/settled.sql", "AND p.version IN (c.version, -1)", "",
            "a parked snapshot is dropped when another one of its order is loaded", MutantMode.Postgres),
        new("snapshots are dropped", Load, "            else\n            {\n                fitting.Add(change);", "            else if (change.Operation != Operation.Snapshot)\n            {\n                fitting.Add(change);",
            "an order that the stream has no record of never arrives"),
        new("what is gone goes on failing", Load, "                await warehouse.ForgetFailureAsync(files[i].File.Key, cancellationToken);\n", "",
            "a file is noted as failing for ever that somebody took away"),
        new("compaction leaves a change out", "Pipeline.Ops/Compact/CompactRun.cs", "foreach (var change in news)", "foreach (var change in news.Skip(1))",
            "a rebuilt warehouse lacks what was in a merged file"),
        new("sweep without the past", "Pipeline.Loader/Discovery.cs", "new Sweep(IsFull: true, now, StartAfter: null)", "new Sweep(IsFull: true, now, ObjectKeys.ChangePartition(now))",
            "files in older partitions are never found"),

        // The SQL of the load.
        new("no lock", "Pipeline.Loader/Sql/postgres/1-begin.sql", "LOCK TABLE load_ledger IN SHARE ROW EXCLUSIVE MODE;", "",
            "two loads at once do not see each other", MutantMode.PostgresWithoutKeys),
        new("known is loaded again", DropKnown,
            """
            DELETE FROM staged_changes
            USING order_changes c
            WHERE staged_changes.sequence_number
            """,
            """
            DELETE FROM staged_changes
            USING order_changes c
            WHERE false AND staged_changes.sequence_number
            """,
            "a change that comes twice is there twice", MutantMode.PostgresWithoutKeys),
        new("known is loaded again, with keys", DropKnown,
            """
            DELETE FROM staged_changes
            USING order_changes c
            WHERE staged_changes.sequence_number
            """,
            """
            DELETE FROM staged_changes
            USING order_changes c
            WHERE false AND staged_changes.sequence_number
            """,
            "a change that comes twice is refused and parked", MutantMode.Postgres),
        new("twice in one load", Staged, "if (!seen.Add((change.SequenceNumber, change.Version, change.OrderId)))", "if (!seen.Add((change.SequenceNumber, change.Version, change.OrderId)) && waits)", "a change that two files of a load have is there twice", MutantMode.PostgresWithoutKeys),
        new("the newest is new", Staged, "change.SequenceNumber <= newest", "change.SequenceNumber < newest", "the history's last change is there twice", MutantMode.PostgresWithoutKeys),
        new("the later one leads", Staged, "change.SequenceNumber <= other.SequenceNumber && change.Version <= other.Version", "change.SequenceNumber <= other.SequenceNumber",
            "an older version hides a newer one of its load", MutantMode.Postgres),
        new("removals are not staged", Staged, "else if (change.Operation == Operation.Remove)", "else if (change.Operation == (Operation)99)",
            "a life that ends and begins again in one load does not end", MutantMode.Postgres),
        new("still waiting", DropKnown, "WHERE NOT s.waits\n", "WHERE s.waits\n", "what was let in goes on waiting", MutantMode.Postgres),
        new("waits twice", "Pipeline.Loader/Sql/shared/4-hold-back.sql", "      WHERE w.order_id = s.order_id AND", "      WHERE false AND w.order_id = s.order_id AND",
            "a change that comes twice waits twice", MutantMode.PostgresWithoutKeys),
        new("what was loaded goes on failing", "Pipeline.Loader/Sql/postgres/7-ledger.sql",
            "-- What was noted as failing no longer is.\nDELETE FROM load_failures WHERE object_key = ANY (@keys);", "",
            "a file is noted as failing for ever that was loaded at a later try", MutantMode.Postgres),
        new("ledger twice", "Pipeline.Loader/Sql/postgres/7-ledger.sql", "WHERE NOT EXISTS (SELECT 1 FROM load_ledger l WHERE l.object_key", "WHERE NOT EXISTS (SELECT 1 FROM load_ledger l WHERE false AND l.object_key",
            "a file that two loaders have is in the ledger twice", MutantMode.PostgresWithoutKeys),
        new("snapshot wins over a newer change", Winners, "                c.version DESC,\n                c.sequence_number DESC,", "                c.row_no DESC NULLS LAST,\n                c.sequence_number DESC,",
            "what is loaded last is shown", MutantMode.Postgres),
        new(">= for > in the guard of lives", Winners, "c.sequence_number > p.last_removal THEN 2", "c.sequence_number >= p.last_removal THEN 2",
            "a removal hides the life after it", MutantMode.Postgres),
        new("versions over everything", Winners, "WHEN p.last_removal IS NULL OR c.sequence_number > p.last_removal THEN 2", "WHEN true THEN 2",
            "an order that is created again stays hidden", MutantMode.Postgres),
        new("history does not compete", Winners, "WHERE p.new_removal IS NOT NULL", "WHERE false", "a removal that comes late does not bring the next life to light", MutantMode.Postgres),
        new("last removal is not kept", Postgres, "rows.Write(winner.LastRemoval);", "rows.WriteNull();", "a change of the life before comes back", MutantMode.Postgres),
        new("removed is shown", Postgres, "rows.Write(change.Operation == Operation.Remove);", "rows.Write(false);", "a removed order looks as if it were there", MutantMode.Postgres),
        new("released too early", "Pipeline.Loader/Sql/postgres/releasable.sql", "p.first_parked >= w.sequence_number", "p.first_parked <= w.sequence_number",
            "what waits is tried again and again, and what is free is not let in", MutantMode.Postgres),
    ];
}
