using System.Text;
using System.Text.Json;
using Amazon.Lambda.DynamoDBEvents;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using Pipeline.Core;
using Pipeline.Ops.Quarantine;
using Pipeline.Ops.Replay;
using Pipeline.Processor;

namespace Pipeline.Loader.Tests;

/// <summary>What the warehouse refuses is parked, what comes behind it waits, and an operator brings it back or takes it out: on a real PostgreSQL.</summary>
public class QuarantineTests(PostgresFixture postgres)
{
    /// <summary>All that the warehouse knows of changes but when it learned it.</summary>
    private const string Everything = """
        SELECT 'orders' AS t, order_id, version, sequence_number, is_deleted::text AS x, document::text AS d, last_removal AS l FROM orders
        UNION ALL
        SELECT 'changes', order_id, version, sequence_number, operation, document::text, NULL FROM order_changes
        UNION ALL
        SELECT 'waiting', order_id, version, sequence_number, operation, document::text, NULL FROM waiting_changes
        ORDER BY 1, 2, 4
        """;

    private const string Refused = "23514: new row for relation \"order_changes\" violates check constraint \"no_poison\"";

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("text with U+0000", "22021")]
    [InlineData("a document that is no JSON", "22P02")]
    [InlineData("a column that is too narrow", "22001")]
    [InlineData("a number that is out of range", "22003")]
    [InlineData("a constraint of the history", "23514")]
    [InlineData("a constraint of the current orders", "23514")]
    [InlineData("a constraint that is checked at COMMIT", "23505")]
    [InlineData("a column that must not be null", "23502")]
    [InlineData("a key that is too long for its index", "54000")]
    public async Task A_change_that_the_warehouse_refuses_is_found_and_parked_and_stops_no_other(string kind, string code)
    {
        await using var database = await postgres.CreateDatabaseAsync();
        var poison = Changes.Change("poison", 21, 1) with { MerchantId = "m-77777777" };
        switch (kind)
        {
            case "text with U+0000":
                poison = poison with { CustomerId = "a\0b" };
                break;
            case "a document that is no JSON":
                poison = poison with { Document = "{\"name\":\"Ana Souza\"" };
                break;
            case "a column that is too narrow":
                await database.ExecuteAsync("DROP VIEW order_history; ALTER TABLE order_changes ALTER COLUMN merchant_id TYPE varchar(5)");
                break;
            case "a number that is out of range":
                poison = poison with { TotalAmount = 123_456.78m };
                await database.ExecuteAsync("DROP VIEW order_history; ALTER TABLE order_changes ALTER COLUMN total_amount TYPE numeric(6, 2)");
                break;
            case "a constraint of the history":
                await database.ExecuteAsync("ALTER TABLE order_changes ADD CHECK (merchant_id = 'm-1')");
                break;
            case "a constraint of the current orders":
                await database.ExecuteAsync("ALTER TABLE orders ADD CHECK (merchant_id = 'm-1')");
                break;
            case "a constraint that is checked at COMMIT":
                poison = poison with { TraceParent = "t-3" };
                await database.ExecuteAsync("ALTER TABLE order_changes ADD UNIQUE (trace_parent) DEFERRABLE INITIALLY DEFERRED");
                break;
            case "a column that must not be null":
                poison = poison with { MerchantId = null };
                await database.ExecuteAsync("ALTER TABLE order_changes ALTER COLUMN merchant_id SET NOT NULL");
                break;
            default:
                var random = new Random(7);
                poison = poison with { OrderId = string.Create(6_000, random, (text, r) => r.GetItems("abcdefghijklmnopqrstuvwxyz0123456789", text)) };
                break;
        }

        using var harness = new Harness(new PostgresWarehouse(database));
        for (var n = 1; n <= 20; n++)
        {
            await harness.Objects.PutAsync([Changes.Change($"o-{n}", n, 1) with { TraceParent = $"t-{n}" }]);
        }

        // Its file has good ones before and after it.
        await harness.Objects.PutAsync([Changes.Change("before", 20, 1), poison, Changes.Change("after", 22, 1)]);
        await harness.DrainAsync();

        Assert.Equal(["22|22|21|0|0"], await CountsAsync(database));
        var key = Assert.Single(harness.Objects.Keys(Names.QuarantinePrefix));
        Assert.Equal($"{Names.QuarantinePrefix}dt=2026-11-24/poison-21.json", key);
        var parked = QuarantinedChange.Parse(harness.Objects.Read(key));
        Assert.StartsWith(code, parked.Reason, StringComparison.Ordinal);
        Assert.DoesNotContain("Ana", parked.Reason, StringComparison.Ordinal);
        Assert.Equal((poison, 1), (parked.Change, parked.Attempt));
    }

    [Fact]
    public async Task Half_of_a_surrogate_pair_does_not_survive_the_change_file_and_stops_nothing()
    {
        await using var database = await postgres.CreateDatabaseAsync();
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Changes.Change("o-1", 1, 1) with { MerchantId = "a\ud800b", Document = """{"half":"\ud800"}""" }]);
        await harness.DrainAsync();

        Assert.Equal(["a\ufffdb"], await database.RowsAsync("SELECT merchant_id FROM orders"));
        Assert.Empty(harness.Objects.Keys(Names.QuarantinePrefix));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task One_poison_value_among_10_000_rows_parks_one_change_and_a_redrive_makes_table_and_warehouse_equal(bool withKeys)
    {
        await using var database = await PoisonedAsync(withKeys);
        using var harness = new Harness(new PostgresWarehouse(database));

        // 2,000 orders with five versions each; three of the poisoned order come behind the poison.
        Change[] table = [.. Enumerable.Range(0, 10_000).Select(n => Changes.Change($"o-{n % 2_000}", n, (n / 2_000) + 1))];
        table[2_777] = table[2_777] with { MerchantId = "poison" };
        await harness.Objects.PutAsync(table);
        await harness.DrainAsync();

        Assert.Equal(["9996|2000|1|3|0"], await CountsAsync(database));
        var parked = QuarantinedChange.Parse(harness.Objects.Read(Assert.Single(harness.Objects.Keys(Names.QuarantinePrefix))));
        Assert.Equal((Refused, table[2_777], 1), (parked.Reason, parked.Change, parked.Attempt));

        await MendAsync(database);
        await RedriveAllAsync(harness.Objects);
        await SettleAsync(harness);

        Assert.Equal(["10000|2000|2|0|0"], await CountsAsync(database));
        Assert.Empty(harness.Objects.Keys(Names.QuarantinePrefix));
        Assert.Equal(
            table[8_000..].Select(c => $"{c.OrderId}|{c.Version}|{c.SequenceNumber}|{c.Document}").Order(StringComparer.Ordinal),
            (await database.RowsAsync("SELECT order_id, version, sequence_number, document::text FROM orders")).Order(StringComparer.Ordinal));
        Assert.Equal(
            table.Select(c => $"{c.OrderId}|{c.Version}|{c.SequenceNumber}|{c.EventId}|{c.MerchantId}").Order(StringComparer.Ordinal),
            (await database.RowsAsync("SELECT order_id, version, sequence_number, event_id, merchant_id FROM order_changes")).Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Later_changes_of_the_order_wait_wherever_they_come_from_and_everything_else_goes_on(bool withKeys)
    {
        await using var database = await PoisonedAsync(withKeys);
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Good("o-1", 1), Poison("o-1", 2), Good("o-1", 3), Good("o-2", 4)]);
        await harness.DrainAsync();
        await harness.Objects.PutAsync([Good("o-2", 5), Good("o-1", 6), Changes.Change("o-1", 7, 6, Operation.Remove)]);
        // Delivered again, and one that comes before the parked one, late.
        await harness.Objects.PutAsync([Good("o-1", 6), Good("o-1", 0)]);
        await harness.DrainAsync();

        Assert.Equal(["o-1|1|false", "o-2|5|false"], await database.RowsAsync("SELECT order_id, version, is_deleted FROM orders ORDER BY order_id"));
        Assert.Equal(["0", "1", "4", "5"], await database.RowsAsync("SELECT version FROM order_changes ORDER BY sequence_number"));
        Assert.Equal(["3|modify", "6|modify", "6|remove"], await database.RowsAsync("SELECT version, operation FROM waiting_changes ORDER BY sequence_number"));

        await MendAsync(database);
        await RedriveAllAsync(harness.Objects);
        await SettleAsync(harness);

        Assert.Equal(["o-1|6|true", "o-2|5|false"], await database.RowsAsync("SELECT order_id, version, is_deleted FROM orders ORDER BY order_id"));
        Assert.Equal(["8|2|4|0|0"], await CountsAsync(database));
    }

    [Fact]
    public async Task Every_field_of_a_change_survives_the_wait_and_the_quarantine()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        using var harness = new Harness(new PostgresWarehouse(database));
        var full = Changes.Change("o-1", 2, 7) with
        {
            Operation = Operation.Snapshot,
            SequenceNumber = Changes.Sequence(2).Next(),
            TraceParent = "00-a",
            MerchantId = "poison",
            CustomerId = "c\t1\"\u2028",
            TotalAmount = -9_999_999_999_999_999.99m,
            ChangedAt = Harness.Start.AddTicks(10),
            CreatedAt = DateTimeOffset.MinValue,
            UpdatedAt = new DateTimeOffset(DateTimeOffset.MaxValue.Ticks / 10 * 10, TimeSpan.Zero),
            Document = """{"z":12345678901234567890123456789012345678,"a":"é\u2028 🛒","e":1E-7}""",
        };
        var bare = Changes.Change("o-1", 3, 0, status: null) with { MerchantId = null, Currency = null, TotalAmount = null, UpdatedAt = null, Document = "{}" };
        Change[] all = [full, full with { SequenceNumber = Changes.Sequence(4), EventId = "later", MerchantId = "merçado 🛒" }, bare];
        await harness.Objects.PutAsync(all);
        await harness.DrainAsync();

        Assert.Equal(full, QuarantinedChange.Parse(harness.Objects.Read(Assert.Single(harness.Objects.Keys(Names.QuarantinePrefix)))).Change);
        Assert.Equal(all[1..].OrderBy(c => c.SequenceNumber), await new PostgresWarehouse(database).ReleasableAsync([], 10, Cancelled));

        await MendAsync(database);
        await RedriveAllAsync(harness.Objects);
        await SettleAsync(harness);

        await using var other = await postgres.CreateDatabaseAsync();
        using var untroubled = new Harness(new PostgresWarehouse(other));
        await untroubled.Objects.PutAsync(all);
        await untroubled.DrainAsync();
        const string Columns = "SELECT order_id, version, sequence_number, event_id, operation, changed_at, trace_parent, merchant_id, customer_id, status, currency, total_amount, created_at AT TIME ZONE 'UTC' AS c, updated_at AT TIME ZONE 'UTC' AS u, document::text FROM order_changes ORDER BY sequence_number";
        Assert.Equal(await other.RowsAsync(Columns), await database.RowsAsync(Columns));
    }

    [Fact]
    public async Task Behind_a_record_that_could_not_be_decoded_its_orders_changes_wait_until_it_is_discarded()
    {
        await using var database = await postgres.CreateDatabaseAsync();
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Good("o-1", 1), Good("o-2", 1)]);
        var key = ParkRecord(harness.Objects, "o-1", 2);
        await harness.DrainAsync();
        await harness.Objects.PutAsync([Good("o-1", 3), Good("o-2", 4)]);
        await harness.DrainAsync();

        Assert.Equal(["o-1|1", "o-2|4"], await database.RowsAsync("SELECT order_id, version FROM orders ORDER BY order_id"));
        Assert.Equal(["3|2|2|1|0"], await CountsAsync(database));

        // As little decodable as before: it stays, tried once more.
        var desk = Desk(harness.Objects);
        Assert.Equal([new Redriven(key, RedriveResult.StillUndecodable, "attribute 'version' is not a number")], await desk.RedriveAsync([key], null, null, Cancelled));
        var listed = Assert.Single(await desk.ListAsync(null, Cancelled));
        Assert.Equal(("o-1", Changes.Sequence(2).ToString(), 2, "attribute 'version' is not a number"), (listed.OrderId, listed.SequenceNumber, listed.Attempt, listed.Reason));

        Assert.Equal(DiscardResult.Discarded, await desk.DiscardAsync(key, "written by hand", "ana", Cancelled));
        await SettleAsync(harness);
        Assert.Equal(["o-1|3", "o-2|4"], await database.RowsAsync("SELECT order_id, version FROM orders ORDER BY order_id"));
        Assert.Equal(["4|2|2|0|0"], await CountsAsync(database));
    }

    [Fact]
    public async Task What_was_parked_with_clear_personal_data_is_redriven_with_a_key_only_and_protected_then()
    {
        using var harness = new Harness(new MemoryWarehouse());
        var record = Record("o-1", 2);
        record.Dynamodb.NewImage["customer"] = new() { M = new() { ["email"] = new() { S = "ana@example.com" } } };
        var content = new QuarantinedRecord("attribute 'version' is not a number", record) { Attempt = 3 }.ToJson();
        var key = EventRecord.QuarantineKey(record, content);
        harness.Objects.Put(key, content.ToArray());
        var desk = Desk(harness.Objects);

        Assert.Equal(RedriveResult.Unreadable, Assert.Single(await desk.RedriveAsync([key], null, null, Cancelled)).Result);
        using var protector = new PersonalDataProtector("a key of the tests, which nobody else has");
        Assert.Equal(RedriveResult.StillUndecodable, Assert.Single(await desk.RedriveAsync([key], protector, null, Cancelled)).Result);

        var parked = System.Text.Encoding.UTF8.GetString((await desk.ShowAsync(key, Cancelled))!);
        Assert.DoesNotContain("ana@example.com", parked, StringComparison.Ordinal);
        Assert.Contains(protector.KeyId, parked, StringComparison.Ordinal);
        Assert.Equal(4, Assert.Single(await desk.ListAsync(null, Cancelled)).Attempt);
        Assert.Equal(RedriveResult.StillUndecodable, Assert.Single(await desk.RedriveAsync([key], null, null, Cancelled)).Result);
    }

    [Fact]
    public async Task A_record_that_newer_code_can_decode_is_redriven_with_every_field()
    {
        await using var database = await postgres.CreateDatabaseAsync();
        using var harness = new Harness(new PostgresWarehouse(database));
        // What is in the object is what counts: this one was put there by a version that knew less.
        var record = Record("o-1", 2);
        record.Dynamodb.NewImage["version"] = new() { N = "2" };
        var content = (new QuarantinedRecord("attribute 'version' is not a number", record) { ProtectedWith = "12345678" }).ToJson();
        harness.Objects.Put(EventRecord.QuarantineKey(record, content), content.ToArray());
        await harness.Objects.PutAsync([Good("o-1", 1), Good("o-1", 3)]);
        await harness.DrainAsync();
        Assert.Equal(["1"], await database.RowsAsync("SELECT version FROM orders"));

        await RedriveAllAsync(harness.Objects);
        await SettleAsync(harness);

        Assert.Equal(["1", "2", "3"], await database.RowsAsync("SELECT version FROM order_changes ORDER BY version"));
        Assert.Equal(["""{"note":"Ana Souza","order_id":"o-1","version":2}"""], await database.RowsAsync("SELECT document::text FROM order_changes WHERE version = 2"));
        Assert.Empty(harness.Objects.Keys(Names.QuarantinePrefix));
    }

    [Theory]
    [InlineData("""{"reason":"no order id","record":{"eventID":"e","dynamodb":{"SequenceNumber":"1"}},"attempt":1}""")]
    [InlineData("""{"reason":"no sequence number","record":{"dynamodb":{"Keys":{"order_id":{"S":"o-1"}},"SequenceNumber":"first"}},"attempt":1}""")]
    [InlineData("""{"reason":"an order id of another type","record":{"dynamodb":{"Keys":{"order_id":{"N":"1"}},"SequenceNumber":"1"}},"attempt":1}""")]
    [InlineData("""{"record":null}""")]
    [InlineData("[1]")]
    [InlineData("no JSON")]
    [InlineData("")]
    public async Task An_object_that_tells_no_order_holds_nothing_back(string content)
    {
        await using var database = await postgres.CreateDatabaseAsync();
        using var harness = new Harness(new PostgresWarehouse(database));
        const string Key = $"{Names.QuarantinePrefix}dt=2026-11-24/x.json";
        harness.Objects.Put(Key, Encoding.UTF8.GetBytes(content));
        await harness.Objects.PutAsync([Good("o-1", 1)]);
        await harness.DrainAsync();
        Assert.Equal(["1|1|1|0|0"], await CountsAsync(database));

        // And is shown, redriven and discarded like any other.
        var desk = Desk(harness.Objects);
        Assert.Equal(Key, Assert.Single(await desk.ListAsync(null, Cancelled)).Key);
        Assert.NotEqual(RedriveResult.Written, Assert.Single(await desk.RedriveAsync([Key], null, null, Cancelled)).Result);
        Assert.Equal(DiscardResult.Discarded, await desk.DiscardAsync(Key, "rubbish", "ana", Cancelled));
        Assert.Empty(harness.Objects.Keys(Names.QuarantinePrefix));
    }

    [Fact]
    public async Task An_object_that_cannot_be_read_holds_nothing_back_and_is_not_asked_for_again_and_again()
    {
        await using var database = await postgres.CreateDatabaseAsync();
        using var harness = new Harness(new PostgresWarehouse(database));
        var key = ParkRecord(harness.Objects, "o-1", 1);
        harness.Objects.Forbidden.Add(key);
        await harness.Objects.PutAsync([Good("o-1", 2)]);
        await harness.DrainAsync();
        Assert.Equal(["1|1|1|0|0"], await CountsAsync(database));

        harness.Objects.Forbidden.Clear();
        await harness.Objects.PutAsync([Good("o-1", 3)]);
        await harness.DrainAsync();
        Assert.Equal(["2|1|2|0|0"], await CountsAsync(database));
    }

    [Fact]
    public async Task Without_an_answer_about_what_is_parked_nothing_is_loaded()
    {
        await using var database = await postgres.CreateDatabaseAsync();
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Good("o-1", 1)]);
        harness.Objects.LostPrefix = Names.QuarantinePrefix;
        await Assert.ThrowsAsync<ObjectStoreException>(harness.DrainAsync);
        Assert.Equal(["0|0|0|0|0"], await CountsAsync(database));

        harness.Objects.LostPrefix = null;
        await harness.DrainAsync();
        Assert.Equal(["1|1|1|0|0"], await CountsAsync(database));
    }

    [Fact]
    public async Task What_one_loader_held_back_another_lets_in_and_two_at_once_let_it_in_once()
    {
        await using var database = await PoisonedAsync(withKeys: false);
        var objects = new MemoryObjects();
        using (var first = new Harness(new PostgresWarehouse(database), objects))
        {
            await objects.PutAsync([Poison("o-1", 1), .. Enumerable.Range(2, 40).Select(n => Good("o-1", n))]);
            await first.DrainAsync();
        }

        Assert.Equal(["0|0|1|40|0"], await CountsAsync(database));
        await MendAsync(database);
        await RedriveAllAsync(objects);
        var harnesses = Enumerable.Range(0, 4).Select(_ => new Harness(new PostgresWarehouse(database), objects, o => o.ReleaseMax = 7)).ToList();
        await Task.WhenAll(harnesses.Select(h => Task.Run(() => SettleAsync(h), Cancelled)));
        harnesses.ForEach(h => h.Dispose());

        Assert.Equal(["41|1|2|0|0"], await CountsAsync(database));
        Assert.Equal(["41"], await database.RowsAsync("SELECT version FROM orders"));
        Assert.Empty(objects.Keys(Names.QuarantinePrefix));
    }

    [Fact]
    public async Task A_zombie_that_held_its_load_through_the_parking_holds_back_what_has_to_wait()
    {
        await using var database = await PoisonedAsync(withKeys: false);
        var objects = new MemoryObjects();
        await objects.PutAsync([Good("o-1", 3)]);

        // It has found its file and sleeps before BEGIN; meanwhile another one parks the change before.
        var asleep = new TaskCompletionSource();
        var awake = new TaskCompletionSource();
        using var zombie = new Harness(new SleepyWarehouse(new PostgresWarehouse(database), asleep, awake.Task), objects);
        var late = Task.Run(zombie.DrainAsync, Cancelled);
        await asleep.Task.WaitAsync(Cancelled);
        await objects.PutAsync([Poison("o-1", 2)]);
        using (var other = new Harness(new PostgresWarehouse(database), objects))
        {
            await other.DrainAsync();
        }

        Assert.Equal(["0|0|2|1|0"], await CountsAsync(database));
        awake.SetResult();
        await late;
        Assert.Equal(["0|0|2|1|0"], await CountsAsync(database));
    }

    [Fact]
    public async Task A_zombie_that_wakes_up_with_what_it_wanted_to_let_in_lets_nothing_in_twice()
    {
        await using var database = await PoisonedAsync(withKeys: false);
        var objects = new MemoryObjects();
        using (var first = new Harness(new PostgresWarehouse(database), objects))
        {
            await objects.PutAsync([Poison("o-1", 1), Good("o-1", 2), Good("o-1", 3)]);
            await first.DrainAsync();
        }

        await Desk(objects).DiscardAsync(Assert.Single(objects.Keys(Names.QuarantinePrefix)), "not ours", "ana", Cancelled);
        var asleep = new TaskCompletionSource();
        var awake = new TaskCompletionSource();
        using var zombie = new Harness(new SleepyWarehouse(new PostgresWarehouse(database), asleep, awake.Task), objects);
        var late = Task.Run(zombie.DrainAsync, Cancelled);
        await asleep.Task.WaitAsync(Cancelled);
        using (var other = new Harness(new PostgresWarehouse(database), objects))
        {
            await SettleAsync(other);
        }

        var before = await database.RowsAsync(Everything);
        awake.SetResult();
        await late;
        Assert.Equal(before, await database.RowsAsync(Everything));
        Assert.Equal(["2|1|1|0|0"], await CountsAsync(database));
    }

    [Fact]
    public async Task A_redrive_that_is_refused_again_stays_with_the_new_reason_and_counts_on_and_is_never_lost()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Poison("o-1", 1), Good("o-1", 2)]);
        await harness.DrainAsync();

        for (var attempt = 2; attempt <= 4; attempt++)
        {
            await RedriveAllAsync(harness.Objects);
            Assert.Equal(attempt, Parked(harness).Attempt);
            await SettleAsync(harness);
            Assert.Equal((Refused, attempt), (Parked(harness).Reason, Parked(harness).Attempt));
            Assert.Equal([$"0|0|{attempt}|1|0"], await CountsAsync(database));
        }

        // Its first file once more: the count is not set back, or a later redrive could have a key that the ledger knows.
        await database.ExecuteAsync("DELETE FROM load_ledger");
        using var replay = new Harness(new PostgresWarehouse(database), harness.Objects);
        await replay.DrainAsync();
        Assert.Equal(4, Parked(harness).Attempt);

        await MendAsync(database);
        await RedriveAllAsync(harness.Objects);
        await SettleAsync(replay);
        Assert.Equal(["2|1|5|0|0"], await CountsAsync(database));
        Assert.Empty(harness.Objects.Keys(Names.QuarantinePrefix));
    }

    [Fact]
    public async Task A_redrive_twice_before_the_loader_comes_is_one_change()
    {
        await using var database = await PoisonedAsync(withKeys: false);
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Poison("o-1", 1), Good("o-1", 2)]);
        await harness.DrainAsync();
        await MendAsync(database);

        await RedriveAllAsync(harness.Objects);
        await RedriveAllAsync(harness.Objects);
        await SettleAsync(harness);

        Assert.Equal(["2|1|3|0|0"], await CountsAsync(database));
        Assert.Empty(harness.Objects.Keys(Names.QuarantinePrefix));
        Assert.Empty(await Desk(harness.Objects).RedriveAsync([], null, null, Cancelled));
        Assert.Equal(RedriveResult.Gone, Assert.Single(await Desk(harness.Objects).RedriveAsync([$"{Names.QuarantinePrefix}x.json"], null, null, Cancelled)).Result);
    }

    [Fact]
    public async Task A_parked_change_that_is_loaded_by_other_means_holds_nothing_back_and_is_taken_away()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        var objects = new MemoryObjects();
        using (var harness = new Harness(new PostgresWarehouse(database), objects))
        {
            await objects.PutAsync([Poison("o-1", 1), Good("o-1", 2)]);
            await harness.DrainAsync();
        }

        // The cause is mended, and somebody replays the file instead of redriving.
        await MendAsync(database);
        await database.ExecuteAsync("DELETE FROM load_ledger");
        using var replay = new Harness(new PostgresWarehouse(database), objects);
        await SettleAsync(replay);
        Assert.Equal(["2|1|1|0|0"], await CountsAsync(database));
        Assert.Empty(objects.Keys(Names.QuarantinePrefix));

        // A batch that is delivered again parks its record again, loaded as it is.
        ParkRecord(objects, "o-1", 1);
        await objects.PutAsync([Good("o-1", 3)]);
        await replay.DrainAsync();
        Assert.Equal(["3|1|2|0|0"], await CountsAsync(database));
        Assert.Empty(objects.Keys(Names.QuarantinePrefix));
    }

    [Fact]
    public async Task What_a_loader_left_in_quarantine_when_it_died_is_taken_away_at_the_next_start_although_there_is_nothing_to_load()
    {
        await using var database = await postgres.CreateDatabaseAsync();
        var objects = new MemoryObjects();
        await objects.PutAsync([Good("o-1", 1)]);
        using (var first = new Harness(new PostgresWarehouse(database), objects))
        {
            await first.DrainAsync();
        }

        ParkRecord(objects, "o-1", 1);
        using var second = new Harness(new PostgresWarehouse(database), objects);
        await second.DrainAsync();
        Assert.Empty(objects.Keys(Names.QuarantinePrefix));
    }

    [Fact]
    public async Task A_discarded_record_that_comes_back_holds_nothing_back_although_the_loader_never_saw_it_parked()
    {
        await using var database = await postgres.CreateDatabaseAsync();
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Good("o-1", 1)]);
        await harness.DrainAsync();

        // Between two loads it is parked and discarded; then its batch is delivered again.
        var key = ObjectKeys.Quarantine(Good("o-1", 2));
        var payload = new QuarantinedChange("undecodable", Good("o-1", 2), 1).ToJson();
        harness.Objects.Put(key, payload);
        Assert.Equal(DiscardResult.Discarded, await Desk(harness.Objects).DiscardAsync(key, "rubbish", "ana", Cancelled));
        harness.Objects.Put(key, payload);
        await harness.Objects.PutAsync([Good("o-1", 3)]);
        await harness.DrainAsync();

        Assert.Equal(["o-1|3"], await database.RowsAsync("SELECT order_id, version FROM orders"));
    }

    [Fact]
    public async Task What_another_loader_parked_and_an_operator_discarded_is_not_loaded_by_one_that_saw_neither()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        var objects = new MemoryObjects();
        using var late = new Harness(new PostgresWarehouse(database), objects);
        await late.DrainAsync();
        await objects.PutAsync([Poison("o-1", 1)]);
        using (var other = new Harness(new PostgresWarehouse(database), objects))
        {
            await other.DrainAsync();
        }

        Assert.Equal(DiscardResult.Discarded, await Desk(objects).DiscardAsync(Assert.Single(objects.Keys(Names.QuarantinePrefix)), "rubbish", "ana", Cancelled));
        await MendAsync(database);
        await objects.PutAsync([Poison("o-1", 1), Good("o-2", 2)]);
        await late.DrainAsync();

        Assert.Equal(["o-2"], await database.RowsAsync("SELECT order_id FROM orders"));
    }

    [Fact]
    public async Task A_parked_change_that_cannot_be_read_any_more_stops_no_other()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Poison("o-1", 1)]);
        await harness.DrainAsync();
        var key = Assert.Single(harness.Objects.Keys(Names.QuarantinePrefix));
        var parked = harness.Objects.Read(key);
        harness.Objects.Forbidden.Add(key);

        await harness.Objects.PutAsync([Poison("o-1", 1), Good("o-2", 2)]);
        await harness.DrainAsync();

        Assert.Equal(["o-2"], await database.RowsAsync("SELECT order_id FROM orders"));
        Assert.Equal(parked, harness.Objects.Read(key));
    }

    [Fact]
    public async Task Whoever_may_not_read_the_quarantine_parks_all_the_same()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        using var harness = new Harness(new PostgresWarehouse(database));
        harness.Objects.Forbidden.Add(ObjectKeys.Quarantine(Poison("o-1", 1)));
        harness.Objects.Forbidden.Add(ObjectKeys.Discarded(ObjectKeys.Quarantine(Poison("o-1", 1))));

        await harness.Objects.PutAsync([Poison("o-1", 1), Good("o-2", 2)]);
        await harness.DrainAsync();

        Assert.Equal(["o-2"], await database.RowsAsync("SELECT order_id FROM orders"));
        Assert.Equal(ObjectKeys.Quarantine(Poison("o-1", 1)), Assert.Single(harness.Objects.Keys(Names.QuarantinePrefix)));
    }

    [Fact]
    public async Task A_parked_snapshot_is_not_taken_for_another_version_of_its_order()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        using var harness = new Harness(new PostgresWarehouse(database));
        Change Snapshot(long version) => Good("o-1", 1) with { Operation = Operation.Snapshot, SequenceNumber = SequenceNumber.Zero, Version = version, EventId = $"snapshot-{version}" };
        await harness.Objects.PutAsync([Snapshot(2) with { MerchantId = "poison" }]);
        await harness.DrainAsync();
        var key = Assert.Single(harness.Objects.Keys(Names.QuarantinePrefix));

        await harness.Objects.PutAsync([Snapshot(1)]);
        await harness.DrainAsync();
        Assert.Equal(key, Assert.Single(harness.Objects.Keys(Names.QuarantinePrefix)));

        await MendAsync(database);
        await RedriveAllAsync(harness.Objects);
        await SettleAsync(harness);
        Assert.Equal(["o-1|2"], await database.RowsAsync("SELECT order_id, version FROM orders"));
        Assert.Empty(harness.Objects.Keys(Names.QuarantinePrefix));
    }

    [Fact]
    public async Task A_discard_leaves_a_record_of_who_did_it_when_and_why_and_a_second_one_says_so()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Poison("o-1", 1)]);
        await harness.DrainAsync();
        var key = Assert.Single(harness.Objects.Keys(Names.QuarantinePrefix));
        var payload = harness.Objects.Read(key);
        var desk = Desk(harness.Objects);

        Assert.Equal(DiscardResult.Discarded, await desk.DiscardAsync(key, "a test order", "ana", Cancelled));
        Assert.Equal(DiscardResult.AlreadyDiscarded, await desk.DiscardAsync(key, "a test order", "ana", Cancelled));
        Assert.Equal(DiscardResult.NotThere, await desk.DiscardAsync($"{Names.QuarantinePrefix}dt=2026-11-24/none.json", "?", "ana", Cancelled));

        // It came back (a batch was delivered again), is not redriven, and is discarded once more.
        harness.Objects.Put(key, payload);
        Assert.Equal(RedriveResult.Discarded, Assert.Single(await desk.RedriveAsync([key], null, null, Cancelled)).Result);
        Assert.Equal(DiscardResult.Discarded, await desk.DiscardAsync(key, "again", "ben", Cancelled));

        using var record = JsonDocument.Parse(harness.Objects.Read($"{Names.DiscardedPrefix}dt=2026-11-24/o-1-1.json"));
        Assert.Equal(key, record.RootElement.GetProperty("key").GetString());
        Assert.Equal(
            ["2026-11-24T09:00:00+00:00 ana a test order", "2026-11-24T09:00:00+00:00 ben again"],
            record.RootElement.GetProperty("discarded").EnumerateArray().Select(d => $"{d.GetProperty("at").GetString()} {d.GetProperty("by").GetString()} {d.GetProperty("reason").GetString()}"));
        Assert.Equal(QuarantinedChange.Parse(payload), QuarantinedChange.Parse(Encoding.UTF8.GetBytes(record.RootElement.GetProperty("object").GetRawText())));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Rebuilding_an_empty_warehouse_from_the_bucket_gives_the_same_with_what_is_parked_waits_and_is_discarded(bool mended)
    {
        var objects = new MemoryObjects();
        await using var database = await PoisonedAsync(withKeys: true);
        using var harness = new Harness(new PostgresWarehouse(database), objects);
        await objects.PutAsync([Good("o-1", 1), Poison("o-1", 2), Good("o-1", 3)]);
        await objects.PutAsync([Good("o-2", 4), Poison("o-2", 5), Good("o-2", 6), Poison("o-3", 7)]);
        ParkRecord(objects, "o-4", 8);
        await objects.PutAsync([Good("o-4", 9), Good("o-5", 10)]);
        await harness.DrainAsync();
        var desk = Desk(objects);
        await desk.DiscardAsync(objects.Keys(Names.QuarantinePrefix).Single(k => k.Contains("o-1", StringComparison.Ordinal)), "never", "ana", Cancelled);
        await SettleAsync(harness);
        Assert.Equal(["4|3|3|2|0"], await CountsAsync(database));

        // Also when the discarded one could be loaded by now.
        if (mended)
        {
            await MendAsync(database);
            await RedriveAllAsync(objects);
            await SettleAsync(harness);
        }

        await using var empty = mended ? await postgres.CreateDatabaseAsync() : await PoisonedAsync(withKeys: false);
        using var rebuild = new Harness(new PostgresWarehouse(empty), objects);
        await SettleAsync(rebuild);

        Assert.Equal(await database.RowsAsync(Everything), await empty.RowsAsync(Everything));
        Assert.Empty(await empty.RowsAsync("SELECT order_id FROM order_changes WHERE order_id = 'o-1' AND version = 2"));
        Assert.Equal(["o-1|1", "o-1|3"], await empty.RowsAsync("SELECT order_id, version FROM order_changes WHERE order_id = 'o-1' ORDER BY version"));
    }

    [Fact]
    public async Task A_rebuild_of_another_warehouse_takes_nothing_from_the_quarantine_and_adds_nothing()
    {
        var objects = new MemoryObjects();
        await using var live = await PoisonedAsync(withKeys: true);
        using var loader = new Harness(new PostgresWarehouse(live), objects);
        await objects.PutAsync([Good("o-1", 1), Poison("o-1", 2), Good("o-1", 3)]);
        await loader.DrainAsync();
        var parked = objects.Read(Assert.Single(objects.Keys(Names.QuarantinePrefix)));

        // It takes what the live one refuses, and that is still missing there.
        await using var lenient = await postgres.CreateDatabaseAsync();
        await RebuildAsync(lenient);
        Assert.Equal(["3|1|1|0|0"], await CountsAsync(lenient));
        Assert.Equal(parked, objects.Read(Assert.Single(objects.Keys(Names.QuarantinePrefix))));
        await loader.DrainAsync();
        Assert.Equal(["1|1|1|1|0"], await CountsAsync(live));

        // Made live, it has no use for the object.
        using (var moved = new Harness(new PostgresWarehouse(lenient), objects))
        {
            await moved.DrainAsync();
        }

        Assert.Empty(objects.Keys(Names.QuarantinePrefix));

        // The other way round: nothing may be parked that the live one has.
        await using var strict = await PoisonedAsync(withKeys: true);
        var refused = await Assert.ThrowsAsync<Ops.OperatorException>(() => RebuildAsync(strict));
        Assert.Contains("no_poison", refused.Message, StringComparison.Ordinal);
        Assert.Empty(objects.Keys(Names.QuarantinePrefix));

        async Task RebuildAsync(NpgsqlDataSource into)
        {
            using var run = new LoadRun(into, objects, new HourRange(null, null), ignoreLedger: false, new LoadLimits(), NullLoggerFactory.Instance, TimeProvider.System);
            await run.RunAsync(Cancelled);
        }
    }

    [Fact]
    public async Task A_warehouse_that_refuses_everything_is_not_emptied_into_quarantine_at_once()
    {
        await using var database = await postgres.CreateDatabaseAsync();
        await database.ExecuteAsync("ALTER TABLE order_changes ADD CONSTRAINT no_poison CHECK (merchant_id = 'nobody')");
        using var harness = new Harness(new PostgresWarehouse(database), configure: o => o.ParkedMax = 10);
        await harness.Objects.PutAsync([.. Enumerable.Range(1, 25).Select(n => Changes.Change($"o-{n}", n, 1))]);
        await harness.DrainAsync();

        Assert.Equal(10, harness.Objects.Keys(Names.QuarantinePrefix).Count);
        Assert.StartsWith("1|The warehouse refuses more than 10 changes", Assert.Single(await database.RowsAsync("SELECT attempts, reason FROM load_failures")), StringComparison.Ordinal);
        Assert.Equal(HealthStatus.Degraded, await HealthAsync(harness));

        // Mended in time: what is not parked is loaded, what is comes back.
        await MendAsync(database);
        harness.Time.Advance(TimeSpan.FromSeconds(2));
        await harness.DrainAsync();
        Assert.Equal(["25|25|1|0|0"], await CountsAsync(database));
        Assert.Equal(HealthStatus.Healthy, await HealthAsync(harness));
        Assert.Empty(harness.Objects.Keys(Names.QuarantinePrefix));
    }

    [Fact]
    public async Task More_refused_changes_in_a_file_than_a_turn_may_park_keep_its_good_orders_out_for_some_tries_only()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        using var harness = new Harness(new PostgresWarehouse(database), configure: o => o.ParkedMax = 10);
        await harness.Objects.PutAsync([.. Enumerable.Range(1, 25).Select(n => Poison($"o-{n}", n)), Good("good", 26)]);

        foreach (var parked in (int[])[10, 20, 25])
        {
            await harness.DrainAsync();
            Assert.Equal(parked, harness.Objects.Keys(Names.QuarantinePrefix).Count);
            harness.Time.Advance(TimeSpan.FromMinutes(5));
        }

        Assert.Equal(["1|1|1|0|0"], await CountsAsync(database));
        Assert.Equal(["good"], await database.RowsAsync("SELECT order_id FROM orders"));
    }

    [Fact]
    public async Task However_many_changes_are_parked_the_quarantine_is_listed_once_for_each_load()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        var faults = new Faults();
        using var harness = new Harness(new PostgresWarehouse(database), faults: faults);
        await harness.Objects.PutAsync([.. Enumerable.Range(1, 20).Select(n => Poison($"o-{n}", n))]);
        await harness.DrainAsync();

        Assert.Equal(20, harness.Objects.Keys(Names.QuarantinePrefix).Count);
        // And once at the start, for what an earlier process may have left.
        Assert.Equal(faults.Steps.Count(step => step == "begin") + 1, faults.Steps.Count(step => step == $"list {Names.QuarantinePrefix}"));
    }

    [Fact]
    public async Task A_record_that_is_decoded_by_now_and_refused_by_the_warehouse_stays_the_record_that_it_was()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        using var harness = new Harness(new PostgresWarehouse(database));
        var record = Record("o-1", 2);
        record.Dynamodb.NewImage["version"] = new() { N = "2" };
        record.Dynamodb.NewImage["merchant_id"] = new() { S = "poison" };
        var content = (new QuarantinedRecord("attribute 'version' is not a number", record) { ProtectedWith = "12345678" }).ToJson();
        var key = EventRecord.QuarantineKey(record, content);
        harness.Objects.Put(key, content.ToArray());
        await harness.Objects.PutAsync([Good("o-1", 1), Good("o-1", 3)]);
        await harness.DrainAsync();

        await RedriveAllAsync(harness.Objects);
        await SettleAsync(harness);

        using (var parked = JsonDocument.Parse(harness.Objects.Read(key)))
        using (var before = JsonDocument.Parse(content))
        {
            Assert.Equal(["reason", "record", "attempt", "protected_with"], parked.RootElement.EnumerateObject().Select(member => member.Name));
            Assert.True(JsonElement.DeepEquals(before.RootElement.GetProperty("record"), parked.RootElement.GetProperty("record")));
            Assert.Equal((Refused, 2), (parked.RootElement.GetProperty("reason").GetString(), parked.RootElement.GetProperty("attempt").GetInt32()));
        }

        Assert.Equal(["1|1|2|1|0"], await CountsAsync(database));
        await MendAsync(database);
        await RedriveAllAsync(harness.Objects);
        await SettleAsync(harness);
        Assert.Equal(["poison"], await database.RowsAsync("SELECT merchant_id FROM order_changes WHERE version = 2"));
        Assert.Equal(["3|1|3|0|0"], await CountsAsync(database));
        Assert.Empty(harness.Objects.Keys(Names.QuarantinePrefix));
    }

    [Theory]
    [InlineData("a record that cannot be decoded", "redrive")]
    [InlineData("a change", "redrive")]
    [InlineData("a change", "load")]
    public async Task What_is_discarded_between_a_look_and_a_write_does_not_come_back(string what, string write)
    {
        var objects = new MemoryObjects();
        var change = Poison("o-1", 2);
        var key = ObjectKeys.Quarantine(change);
        if (what == "a change")
        {
            objects.Put(key, new QuarantinedChange("refused", change, 1).ToJson());
        }
        else
        {
            key = ParkRecord(objects, "o-1", 2);
        }

        var discards = 0;
        var interposed = new BeforePut(objects, async put =>
        {
            if (put == key && ++discards == 1)
            {
                Assert.Equal(DiscardResult.Discarded, await Desk(objects).DiscardAsync(key, "never", "ana", Cancelled));
            }
        });
        if (write == "redrive")
        {
            Assert.Equal(RedriveResult.Discarded, Assert.Single(await Desk(interposed).RedriveAsync([key], null, null, Cancelled)).Result);
        }
        else
        {
            Assert.False(await new Quarantine(interposed, NullLogger.Instance).ParkAsync(change, "refused once more", Cancelled));
        }

        Assert.Equal(1, discards);
        Assert.Empty(objects.Keys(Names.QuarantinePrefix));
        Assert.Empty(objects.Keys(Names.ChangesPrefix));
        Assert.Equal([ObjectKeys.Discarded(key)], objects.Keys(Names.DiscardedPrefix));
    }

    [Fact]
    public async Task The_quarantine_is_listed_once_a_load_and_when_nothing_waits_never_else()
    {
        await using var database = await PoisonedAsync(withKeys: true);
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Good("o-1", 1)]);
        await harness.DrainAsync();
        Assert.Equal(0, await ListingsAsync(turns: 100));

        await harness.Objects.PutAsync([Good("o-1", 2)]);
        Assert.Equal(1, await ListingsAsync(turns: 100));

        // 100 turns are 20 s: while something waits, one look every 2 s.
        await harness.Objects.PutAsync([Poison("o-1", 3), Good("o-1", 4)]);
        await harness.DrainAsync();
        Assert.InRange(await ListingsAsync(turns: 100), 9, 11);
        harness.Status.Started();
        Assert.Equal(1, harness.Status.WaitingChanges);

        await MendAsync(database);
        await RedriveAllAsync(harness.Objects);
        await SettleAsync(harness);
        Assert.Equal(0, await ListingsAsync(turns: 100));

        async Task<int> ListingsAsync(int turns)
        {
            harness.Objects.Listings.Clear();
            for (var turn = 0; turn < turns; turn++)
            {
                await harness.DrainAsync();
                harness.Time.Advance(TimeSpan.FromMilliseconds(200));
            }

            return harness.Objects.Listings.Count(l => l.Prefix == Names.QuarantinePrefix);
        }
    }

    [Theory]
    [InlineData("a crash before", false)]
    [InlineData("an outage before", false)]
    [InlineData("an answer lost after", true)]
    public async Task A_fault_at_any_step_ends_in_the_same_state(string kind, bool takesEffect)
    {
        // What only looks for files changes nothing: a crash before it is the same as before the next step.
        static bool IsStep(string step) => step is not "loaded" and not "failures" && !step.StartsWith($"list {Names.ChangesPrefix}", StringComparison.Ordinal);
        await using var database = await postgres.CreateDatabaseAsync();
        var untroubled = new Faults { Counts = IsStep };
        var expected = await RunAsync(untroubled, "run-x");
        Assert.Superset(
            new HashSet<string>
            {
                "begin", "settled", "stage", "drop known", "hold back", "insert history", "merge current", "record ledger", "commit",
                "count waiting", "releasable", "forget waiting", "put", "get", "delete", $"list {Names.QuarantinePrefix}", $"list {Names.DiscardedPrefix}",
            },
            untroubled.Steps.ToHashSet());

        for (var step = 0; step < untroubled.Steps.Count; step++)
        {
            // An answer that is lost is another thing than none only where something was written.
            if (takesEffect && untroubled.Steps[step] is not ("put" or "delete" or "commit" or "forget waiting"))
            {
                continue;
            }

            var faults = new Faults { Counts = IsStep, FailAt = step, TakesEffect = takesEffect };
            if (kind != "a crash before")
            {
                faults.Error = name => name.StartsWith("list", StringComparison.Ordinal) || name is "get" or "put" or "delete"
                    ? new ObjectStoreException(name)
                    : new WarehouseException(WarehouseFault.Unavailable, name);
            }

            var ended = await RunAsync(faults, $"run-{step}");
            // The key of what is looked for among the discarded is in the step's name, and the run's in the key.
            Assert.Equal(untroubled.Steps[step].Replace("run-x.", $"run-{step}.", StringComparison.Ordinal), faults.Steps[step]);
            Assert.True(expected.SequenceEqual(ended), $"With {kind} step {step}, {faults.Steps[step]}:\n{string.Join('\n', ended)}\ninstead of\n{string.Join('\n', expected)}");
        }

        // Load, redrive, discard, load; whatever fails is done again, after a crash by a new process.
        async Task<List<string>> RunAsync(Faults faults, string run)
        {
            await PoisonAsync(database);
            var objects = new MemoryObjects();
            var harness = NewHarness();
            string Order(int n) => $"{run}.{n}";
            await objects.PutAsync([Good(Order(1), 1), Poison(Order(1), 2), Good(Order(1), 3)]);
            await objects.PutAsync([Poison(Order(3), 5), Good(Order(3), 8)]);
            await PhaseAsync(() => SettleAsync(harness, rounds: 2));
            var states = new List<string>(await StateAsync());

            await MendAsync(database);
            var desk = new QuarantineDesk(new FaultyObjects(objects, faults), harness.Time);
            await PhaseAsync(async () => await desk.RedriveAsync([Key(1, 2)], null, null, Cancelled));
            await PhaseAsync(async () => await desk.DiscardAsync(Key(3, 5), "no", "ana", Cancelled));
            await PhaseAsync(() => SettleAsync(harness, rounds: 2));
            states.AddRange(await StateAsync());
            harness.Dispose();
            return states;

            Harness NewHarness() => new(new PostgresWarehouse(database), objects, faults: faults);

            string Key(int order, int n) => $"{Names.QuarantinePrefix}dt=2026-11-24/{Order(order)}-{n}.json";

            async Task PhaseAsync(Func<Task> phase)
            {
                try
                {
                    await phase();
                }
                catch (Exception e) when (e is CrashException or ObjectStoreException or WarehouseException)
                {
                    if (e is CrashException)
                    {
                        harness.Dispose();
                        harness = NewHarness();
                    }

                    await phase();
                }
            }

            async Task<List<string>> StateAsync() =>
            [
                .. (await database.RowsAsync($"SELECT * FROM ({Everything}) e WHERE order_id LIKE '{run}.%'")).Select(row => row.Replace(run, "run", StringComparison.Ordinal)),
                .. objects.Keys(Names.QuarantinePrefix).Concat(objects.Keys(Names.DiscardedPrefix)).Select(key => key.Replace(run, "run", StringComparison.Ordinal)),
                .. await database.RowsAsync("SELECT object_key FROM load_failures"),
            ];
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_conflict_at_any_step_of_any_load_changes_nothing(bool withKeys)
    {
        await using var database = await postgres.CreateDatabaseAsync();
        if (!withKeys)
        {
            await database.DropKeysAsync();
        }

        static bool IsStep(string step) => step is "begin" or "settled" or "stage" or "drop known" or "hold back" or "insert history" or "merge current" or "record ledger" or "commit";
        var untroubled = new Faults { Counts = IsStep };
        var expected = await RunAsync(untroubled, "run-x");
        Assert.InRange(untroubled.Steps.Count, 50, 150);
        for (var step = 0; step < untroubled.Steps.Count; step++)
        {
            // Whether the step took effect does not matter: its transaction is rolled back.
            var faults = new Faults { Counts = IsStep, FailAt = step, Error = name => new WarehouseException(WarehouseFault.Conflict, name) };
            Assert.Equal(expected, await RunAsync(faults, $"run-{step}"));
        }

        async Task<List<string>> RunAsync(Faults faults, string run)
        {
            await PoisonAsync(database);
            var objects = new MemoryObjects();
            using var harness = new Harness(new PostgresWarehouse(database), objects, faults: faults);
            await objects.PutAsync([Good($"{run}.1", 1), Poison($"{run}.1", 2), Good($"{run}.2", 3)]);
            await objects.PutAsync([Good($"{run}.1", 1), Changes.Change($"{run}.2", 4, 3, Operation.Remove), Good($"{run}.1", 5)]);
            await SettleAsync(harness, withClock: true, rounds: 2);
            await MendAsync(database);
            await RedriveAllAsync(objects);
            await SettleAsync(harness, withClock: true, rounds: 2);
            return [.. (await database.RowsAsync($"SELECT * FROM ({Everything}) e WHERE order_id LIKE '{run}.%'")).Select(row => row.Replace(run, "run", StringComparison.Ordinal))];
        }
    }

    [Theory]
    [InlineData("order_changes", "INSERT", "40001", true)]
    [InlineData("order_changes", "INSERT", "40P01", false)]
    [InlineData("orders", "INSERT", "40001", false)]
    [InlineData("orders", "DELETE", "40P01", true)]
    [InlineData("load_ledger", "INSERT", "40001", true)]
    [InlineData("load_ledger", "INSERT", "40P01", false)]
    [InlineData("waiting_changes", "INSERT", "40001", false)]
    [InlineData("waiting_changes", "DELETE", "40P01", true)]
    [InlineData("COMMIT", "INSERT", "40001", true)]
    [InlineData("COMMIT", "INSERT", "40001", false)]
    [InlineData("COMMIT", "INSERT", "40P01", false)]
    public async Task A_real_conflict_of_PostgreSQL_in_any_table_and_at_COMMIT_changes_nothing(string place, string operation, string code, bool withKeys)
    {
        await using var database = await PoisonedAsync(withKeys);

        // Three times in a row for every load, and once not. A sequence counts, since no rollback takes it back.
        var count = $"IF nextval('conflicts') % 4 <> 0 THEN RAISE EXCEPTION 'injected' USING ERRCODE = '{code}'; END IF;";
        await database.ExecuteAsync($"""
            CREATE SEQUENCE conflicts;
            CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {count} RETURN NULL; END $$;
            CREATE FUNCTION conflict_over_rows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT 1 FROM touched) THEN {count} END IF; RETURN NULL; END $$;
            """);
        await database.ExecuteAsync(place == "COMMIT"
            ? $"CREATE CONSTRAINT TRIGGER conflict AFTER {operation} ON load_ledger DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION conflict()"
            : $"CREATE TRIGGER conflict AFTER {operation} ON {place} REFERENCING {(operation == "DELETE" ? "OLD" : "NEW")} TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION conflict_over_rows()");
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync([Good("o-1", 1), Poison("o-1", 2), Good("o-2", 3)]);
        await SettleAsync(harness, withClock: true);
        await harness.Objects.PutAsync([Good("o-1", 1), Good("o-1", 4), Good("o-2", 5)]);
        await SettleAsync(harness, withClock: true);
        Assert.Equal(["3|2|2|1|0"], await CountsAsync(database));
        await MendAsync(database);
        await RedriveAllAsync(harness.Objects);
        await SettleAsync(harness, withClock: true);

        Assert.Equal(["5|2|3|0|0"], await CountsAsync(database));
        Assert.Equal(["true"], await database.RowsAsync("SELECT last_value >= 4 AS injected FROM conflicts"));
    }

    /// <summary>Good until an operator's constraint came that some changes do not meet.</summary>
    private async Task<NpgsqlDataSource> PoisonedAsync(bool withKeys)
    {
        var database = await postgres.CreateDatabaseAsync();
        if (!withKeys)
        {
            await database.DropKeysAsync();
        }

        await PoisonAsync(database);
        return database;
    }

    private static Task PoisonAsync(NpgsqlDataSource database) =>
        database.ExecuteAsync("ALTER TABLE order_changes ADD CONSTRAINT no_poison CHECK (merchant_id <> 'poison') NOT VALID");

    private static Task MendAsync(NpgsqlDataSource database) => database.ExecuteAsync("ALTER TABLE order_changes DROP CONSTRAINT no_poison");

    private static Change Good(string orderId, int n) => Changes.Change(orderId, n, n);

    private static Change Poison(string orderId, int n) => Changes.Change(orderId, n, n) with { MerchantId = "poison" };

    /// <summary>As process_orders does with a record that it cannot decode.</summary>
    private static string ParkRecord(MemoryObjects objects, string orderId, int n)
    {
        var record = Record(orderId, n);
        var content = (new QuarantinedRecord("attribute 'version' is not a number", record) { ProtectedWith = "12345678" }).ToJson();
        var key = EventRecord.QuarantineKey(record, content);
        objects.Put(key, content.ToArray());
        return key;
    }

    private static DynamoDBEvent.DynamodbStreamRecord Record(string orderId, int n) => new()
    {
        EventID = $"event-{orderId}-{n}",
        EventName = "MODIFY",
        Dynamodb = new()
        {
            ApproximateCreationDateTime = Harness.Start.UtcDateTime,
            Keys = new() { ["order_id"] = new() { S = orderId } },
            SequenceNumber = Changes.Sequence(n).ToString().TrimStart('0'),
            NewImage = new() { ["order_id"] = new() { S = orderId }, ["version"] = new() { S = "two" }, ["note"] = new() { S = "Ana Souza" } },
        },
    };

    private static QuarantineDesk Desk(IObjectStore objects) => new(objects, new Microsoft.Extensions.Time.Testing.FakeTimeProvider(Harness.Start.AddMinutes(30)));

    private static int _redrives;

    /// <summary>What <c>quarantine redrive --all</c> does, every time at another time.</summary>
    private static async Task RedriveAllAsync(MemoryObjects objects)
    {
        var time = new Microsoft.Extensions.Time.Testing.FakeTimeProvider(Harness.Start.AddSeconds(Interlocked.Increment(ref _redrives)));
        var desk = new QuarantineDesk(objects, time);
        var keys = (await desk.ListAsync(null, Cancelled)).Select(p => p.Key).ToList();
        Assert.NotEmpty(keys);
        var results = await desk.RedriveAsync(keys, null, null, Cancelled);
        Assert.Equal(keys, results.Select(r => r.Key));
    }

    /// <summary>Until nothing happens any more, with looks at what waits and a sweep in between.</summary>
    private static async Task SettleAsync(Harness harness, bool withClock = false, int rounds = 3)
    {
        for (var round = 0; round < rounds; round++)
        {
            await (withClock ? harness.DrainWithClockAsync() : harness.DrainAsync());
            harness.Time.Advance(TimeSpan.FromSeconds(61));
        }
    }

    private static QuarantinedChange Parked(Harness harness) =>
        QuarantinedChange.Parse(harness.Objects.Read(Assert.Single(harness.Objects.Keys(Names.QuarantinePrefix))));

    private static async Task<HealthStatus> HealthAsync(Harness harness)
    {
        harness.Status.Started();
        return (await harness.Status.CheckHealthAsync(new HealthCheckContext(), Cancelled)).Status;
    }

    /// <summary>Changes, orders, files loaded, changes that wait, files that fail.</summary>
    private static Task<List<string>> CountsAsync(NpgsqlDataSource database) => database.RowsAsync("""
        SELECT (SELECT count(*) FROM order_changes) AS a, (SELECT count(*) FROM orders) AS b, (SELECT count(*) FROM load_ledger) AS c,
               (SELECT count(*) FROM waiting_changes) AS d, (SELECT count(*) FROM load_failures) AS e
        """);

    /// <summary>The bucket, with something happening before a PUT.</summary>
    private sealed class BeforePut(IObjectStore inner, Func<string, Task> happen) : IObjectStore
    {
        public Task<ObjectPage> ListAsync(string prefix, string? startAfter, CancellationToken cancellationToken) => inner.ListAsync(prefix, startAfter, cancellationToken);

        public Task<ObjectContent?> GetAsync(string key, CancellationToken cancellationToken) => inner.GetAsync(key, cancellationToken);

        public async Task PutAsync(string key, ReadOnlyMemory<byte> content, string contentType, CancellationToken cancellationToken)
        {
            await happen(key);
            await inner.PutAsync(key, content, contentType, cancellationToken);
        }

        public Task DeleteAsync(string key, CancellationToken cancellationToken) => inner.DeleteAsync(key, cancellationToken);
    }

    /// <summary>Sleeps before its next load, with whatever it has in hand.</summary>
    private sealed class SleepyWarehouse(IWarehouse inner, TaskCompletionSource asleep, Task awake) : IWarehouse
    {
        public Task<IReadOnlySet<(string Key, string ETag)>> LoadedAsync(string firstKey, string lastKey, CancellationToken cancellationToken) =>
            inner.LoadedAsync(firstKey, lastKey, cancellationToken);

        public Task<IReadOnlyList<FailedFile>> FailuresAsync(int max, CancellationToken cancellationToken) => inner.FailuresAsync(max, cancellationToken);

        public Task<int> RecordFailureAsync(ObjectInfo file, string reason, DateTimeOffset at, CancellationToken cancellationToken) =>
            inner.RecordFailureAsync(file, reason, at, cancellationToken);

        public Task ForgetFailureAsync(string key, CancellationToken cancellationToken) => inner.ForgetFailureAsync(key, cancellationToken);

        public Task<long> CountWaitingAsync(CancellationToken cancellationToken) => inner.CountWaitingAsync(cancellationToken);

        public Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken) =>
            inner.ReleasableAsync(parked, max, cancellationToken);

        public Task ForgetWaitingAsync(Change change, CancellationToken cancellationToken) => inner.ForgetWaitingAsync(change, cancellationToken);

        public async Task<IWarehouseLoad> BeginAsync(CancellationToken cancellationToken)
        {
            asleep.TrySetResult();
            await awake.WaitAsync(cancellationToken);
            return await inner.BeginAsync(cancellationToken);
        }
    }
}
