using Amazon.DynamoDBv2.Model;
using Npgsql;
using Pipeline.Core;
using Pipeline.Ops.Reconcile;

namespace Pipeline.Ops.Tests;

public class ReconcileTests(OpsServers servers)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_table_and_its_warehouse_are_equal_and_have_the_same_digest()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("o-1", "o-2", "o-3", "removed");
        await world.DeliverAsync(await world.PutAsync(World.Order("o-1", 2)), await world.DeleteAsync("removed"));
        await world.LoadAsync();

        var certificate = await world.ReconcileAsync();

        Assert.Equal(Verdict.Equal, certificate.Result);
        Assert.Equal((3, 3), (certificate.Table.Orders, certificate.Warehouse.Orders));
        Assert.Equal(certificate.Table.Digest, certificate.Warehouse.Digest);
        Assert.Equal((0, 0L), (certificate.Buckets.Descended, certificate.LookedAtAgain));
    }

    [Fact]
    public async Task With_another_key_for_personal_data_nothing_is_compared_and_after_a_change_of_key_a_repair_brings_the_new_one()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("o-1", "o-2");
        using var other = new PersonalDataProtector("another key of the tests, which nobody has");
        ReconcileOptions options = new(4, TimeSpan.FromSeconds(1), 1_000, Repair: false, world.Temporary);

        var refused = await Assert.ThrowsAsync<OperatorException>(() => world.ReconcileAsync(options, protector: other));
        Assert.Contains(World.Protector.KeyId, refused.Message, StringComparison.Ordinal);
        Assert.Contains(other.KeyId, refused.Message, StringComparison.Ordinal);

        var repaired = await world.ReconcileAsync(options with { Repair = true, IsNewKey = true }, protector: other);
        Assert.Equal(2L, repaired.Repair!.Orders);
        await world.LoadAsync();
        Assert.Equal(Verdict.Equal, (await world.ReconcileAsync(options, protector: other)).Result);
        await Assert.ThrowsAsync<OperatorException>(() => world.ReconcileAsync(options));
    }

    [Fact]
    public async Task Nothing_equals_nothing()
    {
        await using var world = await servers.CreateWorldAsync();

        var certificate = await world.ReconcileAsync();

        Assert.Equal((Verdict.Equal, 0, 0), (certificate.Result, certificate.Table.Orders, certificate.Warehouse.Orders));
    }

    [Fact]
    public async Task Every_way_to_differ_is_found_and_named()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("changed", "column", "deleted", "stale", "twice", "newer", "tombstoned", "good-1", "good-2");
        await world.PutAsync(World.Order("stale", 2));
        await world.PutAsync(new Dictionary<string, AttributeValue>
        {
            ["order_id"] = new() { S = "poison" },
            ["version"] = new() { N = "1" },
            ["total_amount"] = new() { S = "a lot" },
        });
        await world.ExecuteAsync("""
            ALTER TABLE orders DROP CONSTRAINT orders_key;
            UPDATE orders SET document = replace(document::text, 'BRL', 'BRK')::json WHERE order_id = 'changed';
            UPDATE orders SET total_amount = total_amount + 0.01 WHERE order_id = 'column';
            DELETE FROM orders WHERE order_id = 'deleted';
            INSERT INTO orders SELECT * FROM orders WHERE order_id = 'twice';
            INSERT INTO orders SELECT * FROM orders WHERE order_id = 'tombstoned';
            UPDATE orders SET is_deleted = true WHERE ctid = (SELECT max(ctid) FROM orders WHERE order_id = 'tombstoned');
            UPDATE orders SET version = 7 WHERE order_id = 'newer';
            INSERT INTO orders SELECT * FROM orders WHERE order_id = 'good-1';
            UPDATE orders SET order_id = 'extra' WHERE ctid = (SELECT max(ctid) FROM orders WHERE order_id = 'good-1');
            INSERT INTO orders SELECT * FROM orders WHERE order_id = 'good-1';
            UPDATE orders SET order_id = 'buried twice', is_deleted = true WHERE ctid = (SELECT max(ctid) FROM orders WHERE order_id = 'good-1');
            INSERT INTO orders SELECT * FROM orders WHERE order_id = 'buried twice';
            """);

        var certificate = await world.ReconcileAsync();

        Assert.Equal(Verdict.Different, certificate.Result);
        Assert.Equal(
        [
            ("buried twice", DifferenceKind.Duplicate, null, null, "2"),
            ("changed", DifferenceKind.Different, 1L, 1L, "document"),
            ("column", DifferenceKind.Different, 1, 1, "total_amount"),
            ("deleted", DifferenceKind.Missing, 1, null, null),
            ("extra", DifferenceKind.Extra, null, 1, null),
            ("newer", DifferenceKind.Newer, 1, 7, null),
            ("poison", DifferenceKind.Undecodable, null, null, "attribute 'total_amount' is not a number"),
            ("stale", DifferenceKind.Older, 2, 1, null),
            ("tombstoned", DifferenceKind.Duplicate, 1, 1, "2"),
            ("twice", DifferenceKind.Duplicate, 1, 1, "2"),
        ], Named(certificate.Differences));
        Assert.Equal((10, 10), (certificate.Differences.Total, certificate.Differences.ByKind.Values.Sum()));
        Assert.NotEqual(certificate.Table.Digest, certificate.Warehouse.Digest);
        // Orders are counted on both sides, not rows: the poison item is one, a tombstone is none.
        Assert.Equal((10, 10), (certificate.Table.Orders, certificate.Warehouse.Orders));
    }

    [Fact]
    public async Task What_is_on_its_way_is_no_difference()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("o-1", "o-2", "removed");
        var late = new[] { await world.PutAsync(World.Order("o-1", 2)), await world.PutAsync(World.Order("new")), await world.DeleteAsync("removed") };

        var reconciling = world.ReconcileAsync(deadline: TimeSpan.FromSeconds(60));
        await world.DeliverAsync(late);
        await world.LoadAsync();
        var certificate = await reconciling;

        Assert.Equal(Verdict.Equal, certificate.Result);
        Assert.Equal(certificate.Table.Digest, certificate.Warehouse.Digest);
        Assert.Equal((3, 3), (certificate.Table.Orders, certificate.Warehouse.Orders));
    }

    [Fact]
    public async Task An_order_that_never_stops_changing_is_none_that_can_be_told()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("restless", "o-1");
        await world.PutAsync(World.Order("restless", 2));
        world.Dynamo.BeforeBatch = look => world.PutAsync(World.Order("restless", look + 2));

        var certificate = await world.ReconcileWhileAsync(TimeSpan.FromSeconds(4), meanwhile: () => Task.CompletedTask);

        Assert.Equal(Verdict.CouldNotTell, certificate.Result);
        Assert.Equal("restless", Assert.Single(certificate.StillChanging.Listed).OrderId);
        Assert.Equal(0, certificate.Differences.Total);
    }

    [Fact]
    public async Task An_order_that_waits_behind_a_parked_change_says_so()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("o-1", "o-2");
        var poison = World.Order("o-1", 2);
        poison["total_amount"] = new AttributeValue { S = "a lot" };
        await world.DeliverAsync(await world.PutAsync(poison), await world.PutAsync(World.Order("o-1", 3)));
        await world.LoadAsync();

        var certificate = await world.ReconcileAsync();

        var difference = Assert.Single(certificate.Differences.Listed);
        Assert.Equal(("o-1", DifferenceKind.Older, 3L, 1L), (difference.OrderId, difference.Kind, difference.TableVersion, difference.WarehouseVersion));
        Assert.StartsWith(Names.QuarantinePrefix, Assert.Single(difference.ParkedIn!), StringComparison.Ordinal);

        // A repair leaves it to whoever decides about the parked change.
        var repaired = await world.ReconcileAsync(repair: true);
        Assert.Equal((0, 1), (repaired.Repair!.Orders, repaired.Repair.NotRepairable));
    }

    [Fact]
    public async Task A_warehouse_that_has_nothing_differs_in_every_order_and_all_are_counted()
    {
        await using var world = await servers.CreateWorldAsync();
        for (var n = 0; n < 300; n++)
        {
            await world.PutAsync(World.Order($"o-{n}"));
        }

        var certificate = await world.ReconcileAsync(new ReconcileOptions(3, TimeSpan.Zero, ListMax: 10, Repair: false, world.Temporary));

        Assert.Equal((300, 300), (certificate.Differences.Total, certificate.Differences.ByKind[DifferenceKind.Missing]));
        Assert.Equal(10, certificate.Differences.Listed.Count);
        Assert.Empty(Directory.GetFileSystemEntries(world.Temporary));
    }

    [Fact]
    public async Task A_repair_goes_through_the_pipeline_and_leaves_both_sides_equal()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("changed", "deleted", "stale", "newer", "extra", "again", "unversioned");
        await world.PutAsync(World.Order("stale", 2));
        await world.PutAsync(World.Order("missing", 3));
        await world.DeleteAsync("extra");
        // The removal and the new life are lost.
        await world.DeliverAsync(await world.PutAsync(World.Order("again", 2)), await world.PutAsync(World.Order("again", 3)));
        await world.LoadAsync();
        await world.DeleteAsync("again");
        await world.PutAsync(World.Order("again", 1));
        await world.PutAsync(new Dictionary<string, AttributeValue> { ["order_id"] = new() { S = "unversioned" }, ["currency"] = new() { S = "USD" } });
        await world.ExecuteAsync("""
            UPDATE orders SET document = replace(document::text, 'BRL', 'BRK')::json WHERE order_id = 'changed';
            DELETE FROM orders WHERE order_id = 'deleted';
            UPDATE orders SET version = 7 WHERE order_id = 'newer';
            """);
        Assert.Equal(8, (await world.ReconcileAsync(deadline: TimeSpan.Zero)).Differences.Total);

        var certificate = await world.ReconcileWhileAsync(TimeSpan.FromSeconds(5), repair: true);
        Assert.True(certificate.Result == Verdict.Equal, certificate.ToJson());
        Assert.Equal((8, 0), (certificate.Repair!.Orders, certificate.Repair.NotRepairable));
        Assert.Equal(certificate.Table.Digest, certificate.Warehouse.Digest);
        Assert.Equal("0", await world.ScalarAsync("""
            SELECT count(*) FROM orders o
            FULL JOIN (SELECT * FROM order_history WHERE is_current) h USING (order_id, version, sequence_number, is_deleted)
            WHERE o.order_id IS NULL OR h.order_id IS NULL
            """));

        // The stream goes on as if nothing had been.
        await world.DeliverAsync(
            await world.PutAsync(World.Order("changed", 2)), await world.PutAsync(World.Order("again", 2)), await world.DeleteAsync("deleted"),
            await world.PutAsync(World.Order("extra", 1)));
        await world.LoadAsync();
        Assert.Equal(Verdict.Equal, (await world.ReconcileAsync()).Result);
    }

    [Fact]
    public async Task A_change_that_was_only_late_takes_its_place_after_a_repair()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("o-1", "o-2");
        var late = new[]
        {
            await world.PutAsync(World.Order("o-1", 2)), await world.PutAsync(World.Order("o-1", 3)),
            await world.DeleteAsync("o-2"), await world.PutAsync(World.Order("o-2", 1)),
        };
        Assert.Equal(Verdict.Equal, (await world.ReconcileWhileAsync(TimeSpan.FromSeconds(3), repair: true)).Result);
        await world.DeliverAsync(late);
        await world.LoadAsync();

        Assert.Equal(Verdict.Equal, (await world.ReconcileAsync()).Result);
        Assert.Equal("insert 1, modify 2, modify 3", await world.ScalarAsync(
            "SELECT string_agg(operation || ' ' || version, ', ' ORDER BY valid_from, version) FROM order_history WHERE order_id = 'o-1'"));
    }

    [Theory]
    [InlineData("changed", true)]
    [InlineData("changed", false)]
    [InlineData("removed", true)]
    [InlineData("removed", false)]
    [InlineData("created again", true)]
    [InlineData("created again", false)]
    public async Task What_is_written_and_loaded_while_a_repair_is_made_ranks_above_it(string what, bool beforeTheTableIsRead)
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("o-1", "o-2");
        await world.ExecuteAsync("UPDATE orders SET document = replace(document::text, 'BRL', 'BRK')::json WHERE order_id = 'o-1'");

        // Without time to wait, the first reading is the only look, and the second one is for the repair.
        async Task HappenAsync(int reading)
        {
            if (reading == 2)
            {
                await world.DeliverAsync(what switch
                {
                    "changed" => [await world.PutAsync(World.Order("o-1", 2))],
                    "removed" => [await world.DeleteAsync("o-1")],
                    _ => [await world.DeleteAsync("o-1"), await world.PutAsync(World.Order("o-1", 1))],
                });
                await world.LoadAsync();
            }
        }

        if (beforeTheTableIsRead)
        {
            world.Dynamo.BeforeBatch = HappenAsync;
        }
        else
        {
            world.Dynamo.AfterBatch = HappenAsync;
        }

        var repair = (await world.ReconcileAsync(repair: true, deadline: TimeSpan.Zero)).Repair!;
        await world.LoadAsync();

        // The order that was created again looks like the one before.
        var isLeftAlone = beforeTheTableIsRead && what != "created again";
        Assert.Equal((isLeftAlone ? 0 : 1, isLeftAlone ? 1 : 0), (repair.Orders, repair.StillChanging));
        Assert.Equal(Verdict.Equal, (await world.ReconcileAsync()).Result);
    }

    [Fact]
    public async Task What_a_repair_knows_of_the_warehouse_is_all_of_one_moment()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("o-1");
        await using var reader = new WarehouseReader(world.Warehouse);
        await using var loader = await world.Database.OpenConnectionAsync(Cancelled);
        await using var load = await loader.BeginTransactionAsync(Cancelled);
        await using var command = new NpgsqlCommand("LOCK TABLE order_changes IN ACCESS EXCLUSIVE MODE", loader, load);
        await command.ExecuteNonQueryAsync(Cancelled);

        // The rows are read; the history waits for the lock, and has a later change when it comes.
        var reading = reader.MomentAsync(["o-1"], DateTimeOffset.UnixEpoch, Cancelled);
        while (await world.ScalarAsync("SELECT count(*) FROM pg_locks WHERE relation = 'order_changes'::regclass AND NOT granted") == "0")
        {
            Assert.False(reading.IsCompleted, "It does not read the history.");
            await Task.Delay(10, Cancelled);
        }

        command.CommandText = "UPDATE order_changes SET sequence_number = repeat('9', 40)";
        await command.ExecuteNonQueryAsync(Cancelled);
        await load.CommitAsync(Cancelled);
        var moment = await reading;

        Assert.Equal(moment.Shown["o-1"].SequenceNumber, moment.Last["o-1"]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task As_long_as_a_repair_is_not_loaded_nobody_can_tell(bool becomesEqualBefore)
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("o-1", "o-2");
        await world.ExecuteAsync("UPDATE orders SET currency = 'BRK' WHERE order_id = 'o-1'");
        if (becomesEqualBefore)
        {
            world.Dynamo.BeforeBatch = async _ =>
            {
                if ((await world.Objects.ListAsync(Names.ChangesPrefix, null, Cancelled)).Objects.Count == 2)
                {
                    await world.ExecuteAsync("UPDATE orders SET currency = 'BRL' WHERE order_id = 'o-1'");
                }
            };
        }

        var certificate = await world.ReconcileWhileAsync(TimeSpan.FromSeconds(3), repair: true, meanwhile: () => Task.CompletedTask);

        Assert.Equal(Verdict.CouldNotTell, certificate.Result);
        Assert.Equal((1, 1, becomesEqualBefore ? 0 : 1), (certificate.Repair!.Orders, certificate.Repair.NotLoaded, certificate.Differences.Total));
    }

    [Fact]
    public void What_a_scan_keeps_on_disk_is_gone_with_the_process_however_it_ends()
    {
        var folder = Directory.CreateTempSubdirectory("ops-tests-").FullName;
        try
        {
            using (var spool = new Spool(folder))
            {
                spool.Write(new ScannedOrder("o-1", 7, 1, 2));

                // On Windows the system watches over them; elsewhere they have no name any more.
                Assert.True(OperatingSystem.IsWindows() || Directory.GetFileSystemEntries(folder).Length == 0);
                Assert.Equal("o-1", Assert.Single(Assert.Single(spool.Read([7], _ => 1, 10)).Orders).OrderId);
            }

            Assert.Empty(Directory.GetFileSystemEntries(folder));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static IEnumerable<(string, DifferenceKind, long?, long?, string?)> Named(Differences differences) => differences.Listed
        .OrderBy(one => one.OrderId, StringComparer.Ordinal)
        .Select(one => (one.OrderId, one.Kind, one.TableVersion, one.WarehouseVersion,
            one.Fields is { } fields ? string.Join(",", fields) : one.Reason ?? one.Rows?.ToString(System.Globalization.CultureInfo.InvariantCulture)));
}
