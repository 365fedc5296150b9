using System.Text.Json;
using Npgsql;
using Pipeline.Core;
using Pipeline.Ops.Compact;

namespace Pipeline.Loader.Tests.Redshift;

/// <summary>The loader as it loads into Redshift: its SQL, its COPY, its connection. What is in between is the stand-in.</summary>
public class RedshiftTests(PostgresFixture postgres)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Every_field_arrives_as_it_was_and_what_is_missing_is_null()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        using var harness = new Harness(redshift.Warehouse, redshift.Objects);
        await redshift.Objects.PutAsync(
        [
            Changes.Change("full", 1, 7) with
            {
                TraceParent = "00-a", MerchantId = "merçado 'n' 🛒", CustomerId = "c\t1", TotalAmount = -9_999_999_999_999_999.99m,
                CreatedAt = DateTimeOffset.MinValue, UpdatedAt = new DateTimeOffset(DateTimeOffset.MaxValue.Ticks / 10 * 10, TimeSpan.Zero),
                Document = """{"n":12345678901234567890123456789012345678,"u":"é\u2028"}""",
            },
            Changes.Change("bare", 2, 0, status: null) with
            {
                MerchantId = null, Currency = null, TotalAmount = null, UpdatedAt = null, Document = "{}",
            },
            Changes.Change("empty", 3, 1) with { MerchantId = "" },
        ]);
        await harness.DrainAsync();

        const string Columns = "order_id, version, trace_parent, merchant_id, customer_id, status, currency, total_amount::text, created_at AT TIME ZONE 'UTC' AS c, updated_at AT TIME ZONE 'UTC' AS u, document";
        string[] expected =
        [
            "bare|0|{}",
            "empty|1||approved|BRL|10.50|2026-11-24T08:33:00|{\"order_id\":\"empty\",\"version\":1}",
            $"full|7|00-a|merçado 'n' 🛒|c\t1|approved|BRL|-9999999999999999.99|0001-01-01T00:00:00|9999-12-31T23:59:59.999999|{{\"n\":12345678901234567890123456789012345678,\"u\":\"é\\u2028\"}}",
        ];
        Assert.Equal(expected, await redshift.Postgres.RowsAsync($"SELECT {Columns} FROM orders ORDER BY order_id"));
        Assert.Equal(expected, await redshift.Postgres.RowsAsync($"SELECT {Columns} FROM order_changes ORDER BY order_id"));
        Assert.Equal(["full"], await redshift.Postgres.RowsAsync("SELECT order_id FROM orders WHERE item ->> 'n' = '12345678901234567890123456789012345678'"));
    }

    [Fact]
    public async Task A_replay_of_everything_changes_nothing_and_every_file_is_in_the_ledger_once()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        Change[] changes = [.. Enumerable.Range(1, 9).Select(n => Changes.Change($"o-{n % 3}", n, n))];
        await redshift.Objects.PutAsync(changes[..6]);
        await redshift.Objects.PutAsync(changes[3..]);
        using (var harness = new Harness(redshift.Warehouse, redshift.Objects))
        {
            await harness.DrainAsync();
        }

        Assert.Equal(["9|3|2"], await CountsAsync(redshift));
        var before = await redshift.Postgres.RowsAsync("SELECT order_id, version, loaded_at FROM orders ORDER BY order_id");

        await redshift.Postgres.ExecuteAsync("DELETE FROM load_ledger");
        using (var harness = new Harness(redshift.Warehouse, redshift.Objects))
        {
            await harness.DrainAsync();
        }

        Assert.Equal(["9|3|2"], await CountsAsync(redshift));
        Assert.Equal(before, await redshift.Postgres.RowsAsync("SELECT order_id, version, loaded_at FROM orders ORDER BY order_id"));
    }

    [Fact]
    public async Task Several_loaders_at_once_load_each_change_and_each_file_once()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        for (var file = 0; file < 20; file++)
        {
            await redshift.Objects.PutAsync([.. Enumerable.Range(file * 10, 15).Select(n => Changes.Change($"o-{n % 7}", n, n))]);
        }

        var harnesses = Enumerable.Range(0, 3)
            .Select(_ => new Harness(redshift.Warehouse, redshift.Objects, o => o.Limits = new LoadLimits(FilesMax: 3)))
            .ToList();
        await Task.WhenAll(harnesses.Select(h => Task.Run(h.DrainAsync, Cancelled)));
        harnesses.ForEach(h => h.Dispose());

        Assert.Equal(["205|7|20"], await CountsAsync(redshift));
        Assert.Empty(await redshift.Postgres.RowsAsync("SELECT order_id FROM order_changes GROUP BY order_id, version, sequence_number HAVING count(*) > 1"));
        Assert.Empty(await redshift.Postgres.RowsAsync("SELECT object_key FROM load_ledger GROUP BY object_key HAVING count(*) > 1"));
    }

    [Fact]
    public async Task A_load_whose_snapshot_is_older_than_the_load_before_it_is_refused_and_tried_again()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        redshift.StandIn.HasEarlySnapshots = true;
        for (var file = 0; file < 10; file++)
        {
            await redshift.Objects.PutAsync([.. Enumerable.Range(file * 10, 15).Select(n => Changes.Change($"o-{n % 7}", n, n))]);
        }

        var harnesses = Enumerable.Range(0, 3)
            .Select(_ => new Harness(redshift.Warehouse, redshift.Objects, o => o.Limits = new LoadLimits(FilesMax: 3)))
            .ToList();
        await Task.WhenAll(harnesses.Select(h => Task.Run(() => DrainAsync(h), Cancelled)));
        harnesses.ForEach(h => h.Dispose());

        Assert.Equal(["105|7|10"], await CountsAsync(redshift));
        Assert.Empty(await redshift.Postgres.RowsAsync("SELECT order_id FROM order_changes GROUP BY order_id, version, sequence_number HAVING count(*) > 1"));

        // Three that meet at one lock may lose five times in a row; the loader outside of a test tries again then, too.
        static async Task DrainAsync(Harness harness)
        {
            while (true)
            {
                try
                {
                    await harness.DrainWithClockAsync();
                    return;
                }
                catch (WarehouseException e) when (e.Fault == WarehouseFault.Conflict)
                {
                }
            }
        }
    }

    [Fact]
    public async Task A_compaction_that_meets_a_load_is_tried_again_and_the_ledger_has_what_it_made()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        for (var file = 0; file < 5; file++)
        {
            await redshift.Objects.PutAsync([.. Enumerable.Range(file * 3, 5).Select(n => Changes.Change($"o-{n % 7}", n, n))]);
        }

        await DrainAsync();
        redshift.StandIn.HasEarlySnapshots = true;
        var run = new CompactRun(
            redshift.Objects, redshift.Warehouse, (keys, ct) => CompactCommand.ForgetAsync(redshift.Source, keys, ct), DateTimeOffset.MaxValue, new CompactLimits(), dryRun: false);
        Task<CompactReport> compaction;
        await using (var load = await redshift.Warehouse.BeginAsync(Cancelled))
        {
            compaction = run.RunAsync(Cancelled);
            const string Waiting = "SELECT 1 AS one FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            for (var deadline = DateTime.UtcNow.AddSeconds(30); (await redshift.Postgres.RowsAsync(Waiting)).Count == 0;)
            {
                Assert.True(DateTime.UtcNow < deadline && !compaction.IsCompleted, "the compaction does not wait for the load");
                await Task.Delay(20, Cancelled);
            }

            await load.CommitAsync(Cancelled);
        }

        Assert.Equal((5, 1), ((await compaction).Merged, (await compaction).Into));
        Assert.Equal(redshift.Objects.Keys(Names.ChangesPrefix), await redshift.Postgres.RowsAsync("SELECT object_key FROM load_ledger"));
        redshift.StandIn.HasEarlySnapshots = false;
        await redshift.Postgres.ExecuteAsync("DELETE FROM load_ledger");
        await DrainAsync();
        Assert.Equal(["17|7|1"], await CountsAsync(redshift));

        async Task DrainAsync()
        {
            using var harness = new Harness(redshift.Warehouse, redshift.Objects);
            await harness.DrainAsync();
        }
    }

    [Fact]
    public async Task A_load_is_one_file_that_its_manifest_demands_with_its_length()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        using var harness = new Harness(redshift.Warehouse, redshift.Objects);
        await redshift.Objects.PutAsync([Changes.Change("o-1", 1, 1)]);
        await redshift.Objects.PutAsync([Changes.Change("o-2", 2, 1)]);
        await harness.DrainAsync();

        var written = await redshift.Objects.ListAsync(Names.ManifestsPrefix, null, Cancelled);
        var file = Assert.Single(written.Objects, o => o.Key.EndsWith(".parquet", StringComparison.Ordinal));
        var manifest = Assert.Single(written.Objects, o => o.Key.EndsWith(".manifest", StringComparison.Ordinal));
        var content = (await redshift.Objects.GetAsync(manifest.Key, Cancelled))!.Bytes;
        Assert.True(JsonElement.DeepEquals(
            JsonDocument.Parse($$"""{"entries":[{"url":"s3://{{RedshiftDatabase.Bucket}}/{{file.Key}}","mandatory":true,"meta":{"content_length":{{file.Bytes}} } }]}""").RootElement,
            JsonDocument.Parse(content).RootElement));
        Assert.Single(redshift.StandIn.Statements, s => s.Contains($"'s3://{RedshiftDatabase.Bucket}/{manifest.Key}'", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_serializable_isolation_violation_is_tried_again_with_the_same_load()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        redshift.StandIn.Conflicts = ("INSERT INTO order_changes", 3);
        using var harness = new Harness(redshift.Warehouse, redshift.Objects);
        await redshift.Objects.PutAsync([Changes.Change("o-1", 1, 1)]);

        var drained = harness.DrainAsync();
        while (!drained.IsCompleted)
        {
            harness.Time.Advance(TimeSpan.FromSeconds(1));
            await Task.Yield();
        }

        await drained;
        Assert.Equal(["1|1|1"], await CountsAsync(redshift));
        Assert.Equal(0, redshift.StandIn.Conflicts.Times);
    }

    [Fact]
    public async Task A_document_of_65_535_bytes_is_loaded_and_a_longer_one_is_parked_with_what_follows_it()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        using var harness = new Harness(redshift.Warehouse, redshift.Objects);
        await redshift.Objects.PutAsync(
        [
            Changes.Change("fits", 1, 1) with { Document = Document(65_535) },
            Changes.Change("grew", 2, 1),
            Changes.Change("grew", 3, 2) with { Document = Document(65_536) },
            Changes.Change("grew", 4, 3),
            Changes.Change("other", 5, 1),
        ]);
        await harness.DrainAsync();

        Assert.Equal(["fits|1", "grew|1", "other|1"], await redshift.Postgres.RowsAsync("SELECT order_id, version FROM orders ORDER BY order_id"));
        Assert.Equal(["grew|3"], await redshift.Postgres.RowsAsync("SELECT order_id, version FROM waiting_changes"));
        Assert.Equal(["1"], await redshift.Postgres.RowsAsync("SELECT count(*) AS files FROM load_ledger"));
        var parked = Assert.Single((await redshift.Objects.ListAsync(Names.QuarantinePrefix, null, Cancelled)).Objects);
        var content = QuarantinedChange.Parse((await redshift.Objects.GetAsync(parked.Key, Cancelled))!.Bytes);
        Assert.Equal("document has 65536 bytes, and Redshift takes 65535", content.Reason);
        Assert.Equal(Document(65_536), content.Change.Document);

        // An operator discards it; what waited goes on, as does a removal whose image is as large.
        await redshift.Objects.PutAsync(ObjectKeys.Discarded(parked.Key), content.ToJson(), "application/json", Cancelled);
        redshift.Objects.Delete(parked.Key);
        harness.Time.Advance(TimeSpan.FromHours(1));
        await harness.DrainAsync();
        Assert.Equal(["grew|3|false"], await redshift.Postgres.RowsAsync("SELECT order_id, version, is_deleted FROM orders WHERE order_id = 'grew'"));
        Assert.Equal(["0"], await redshift.Postgres.RowsAsync("SELECT count(*) AS waiting FROM waiting_changes"));

        await redshift.Objects.PutAsync([Changes.Change("grew", 6, 4, Operation.Remove) with { Document = Document(70_000), MerchantId = new string('m', 3_000) }]);
        await harness.DrainAsync();
        Assert.Equal(["grew|4|true|{}"], await redshift.Postgres.RowsAsync("SELECT order_id, version, is_deleted, merchant_id, document FROM orders WHERE order_id = 'grew'"));
    }

    [Theory]
    [InlineData("order_id ends with a blank")]
    [InlineData("merchant_id has 2049 bytes, and Redshift takes 2048")]
    [InlineData("customer_id has a character U+0000, which Redshift does not take")]
    public async Task What_Redshift_would_store_as_something_else_is_refused_before_it_is_sent(string reason)
    {
        await using var source = RedshiftWarehouse.DataSource("Host=localhost;Port=1;Server Compatibility Mode=Redshift", null);
        var warehouse = new RedshiftWarehouse(source, new MemoryObjects(), RedshiftDatabase.Bucket, RedshiftStandIn.CopyRole);
        var change = Changes.Change("o-1", 1, 1);
        change = reason.Split(' ')[0] switch
        {
            "order_id" => change with { OrderId = "o-1 " },
            "merchant_id" => change with { MerchantId = new string('é', 1_024) + "!" },
            _ => change with { CustomerId = "a\0b" },
        };

        Assert.Equal(reason, warehouse.MisfitOf(change));
        Assert.Equal(reason.StartsWith("order_id", StringComparison.Ordinal) ? reason : null, warehouse.MisfitOf(change with { Operation = Operation.Remove }));
    }

    [Fact]
    public async Task What_does_not_fit_is_parked_before_the_load_and_the_rest_is_loaded_in_one_transaction()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        using var harness = new Harness(redshift.Warehouse, redshift.Objects);
        var tooLong = new string('m', 3_000);
        await redshift.Objects.PutAsync([.. Enumerable.Range(1, 40).Select(n => Changes.Change($"o-{n}", n, 1) with { MerchantId = n % 20 == 0 ? tooLong : "m-1" })]);
        await redshift.Objects.PutAsync([Changes.Change("o-1", 41, 2), Changes.Change("o-20", 42, 2), Changes.Change("o-41", 43, 1) with { MerchantId = tooLong }]);
        await harness.DrainAsync();

        Assert.Single(redshift.StandIn.Statements, s => s.StartsWith("COPY", StringComparison.Ordinal));
        Assert.Single(redshift.StandIn.Statements, s => s == "LOCK load_lock");
        Assert.Equal(3, (await redshift.Objects.ListAsync(Names.QuarantinePrefix, null, Cancelled)).Objects.Count);
        Assert.Equal(["39|38|2"], await CountsAsync(redshift));
        Assert.Equal(["o-20|2"], await redshift.Postgres.RowsAsync("SELECT order_id, version FROM waiting_changes"));
    }

    [Theory]
    [InlineData("Value too long for character type", "8001", "Value too long for type character varying(64)")]
    [InlineData("Numeric data overflow (result precision)", "1058", "64 bit overflow")]
    [InlineData("String contains invalid or unsupported UTF8 codepoints", "1220", "Bad UTF8 hex sequence: c3 28 (error 2)")]
    [InlineData("Spectrum Scan Error", "15007", "The length of the data column document is longer than the length defined in the table. Table: 65535, Data: 65536, File name: https://x")]
    public async Task A_value_that_the_cluster_refuses_is_parked_and_what_the_detail_quotes_is_kept_from_the_log(string message, string code, string context)
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        redshift.StandIn.Failure = ("m-refused", message, Detail(message, code, context + " 'quoted'"));
        using var harness = new Harness(redshift.Warehouse, redshift.Objects);
        await redshift.Objects.PutAsync([Changes.Change("o-1", 1, 1), Changes.Change("o-2", 2, 1) with { MerchantId = "m-refused" }, Changes.Change("o-3", 3, 1)]);
        await harness.DrainAsync();

        Assert.Equal(["2|2|1"], await CountsAsync(redshift));
        var parked = Assert.Single((await redshift.Objects.ListAsync(Names.QuarantinePrefix, null, Cancelled)).Objects);
        Assert.Equal($"XX000: {message}", QuarantinedChange.Parse((await redshift.Objects.GetAsync(parked.Key, Cancelled))!.Bytes).Reason);
    }

    [Theory]
    [InlineData("User arn:aws:redshift:us-east-1:1:dbuser:c/loader is not authorized to assume IAM Role arn:aws:iam::1:role/x", "8001", "IAM Role=arn:aws:iam::1:role/x")]
    [InlineData("S3ServiceException:Access Denied,Status 403,Error AccessDenied", "8001", "S3 key being read : s3://bucket/x")]
    [InlineData("Spectrum Scan Error", "15007", "Forbidden: HTTP response error code: 403 Message: AccessDenied Access Denied")]
    public async Task What_is_not_about_a_value_is_an_outage_and_parks_nothing(string message, string code, string context)
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        redshift.StandIn.Failure = ("o-1", message, Detail(message, code, context));
        using var harness = new Harness(redshift.Warehouse, redshift.Objects);
        await redshift.Objects.PutAsync([Changes.Change("o-1", 1, 1)]);

        var outage = await Assert.ThrowsAsync<WarehouseException>(harness.DrainAsync);
        Assert.Equal(WarehouseFault.Unavailable, outage.Fault);
        Assert.DoesNotContain(context, outage.ToString(), StringComparison.Ordinal);
        Assert.Empty((await redshift.Objects.ListAsync(Names.QuarantinePrefix, null, Cancelled)).Objects);
    }

    [Fact]
    public async Task Files_of_which_nothing_fits_are_done_all_the_same()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        using var harness = new Harness(redshift.Warehouse, redshift.Objects);
        await redshift.Objects.PutAsync([Changes.Change("o-1 ", 1, 1)]);
        await harness.DrainAsync();
        Assert.Equal(["0|0|1"], await CountsAsync(redshift));
        Assert.Single((await redshift.Objects.ListAsync(Names.QuarantinePrefix, null, Cancelled)).Objects);
    }

    [Fact]
    public async Task A_file_that_cannot_be_read_is_recorded_with_its_tries_and_forgotten_when_it_is_gone()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        var file = new ObjectInfo("orders/changes/x.parquet", "e-1", 3);
        Assert.Equal(1, await redshift.Warehouse.RecordFailureAsync(file, "broken", Harness.Start, Cancelled));
        Assert.Equal(2, await redshift.Warehouse.RecordFailureAsync(file, "still broken", Harness.Start.AddMinutes(1), Cancelled));
        Assert.Equal(1, await redshift.Warehouse.RecordFailureAsync(file with { ETag = "e-2" }, "broken anew", Harness.Start.AddMinutes(2), Cancelled));
        Assert.Equal([new FailedFile(file.Key, "e-2", 1, Harness.Start.AddMinutes(2))], await redshift.Warehouse.FailuresAsync(10, Cancelled));

        await redshift.Warehouse.ForgetFailureAsync(file.Key, Cancelled);
        Assert.Empty(await redshift.Warehouse.FailuresAsync(10, Cancelled));
    }

    [Fact]
    public async Task Two_loaders_that_start_at_once_migrate_an_empty_cluster_together()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres, migrate: false);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => redshift.MigrateAsync()));

        Assert.Equal(RedshiftMigrator.Scripts.Select(s => s.Name), await redshift.Postgres.RowsAsync("SELECT script FROM schema_migrations ORDER BY 1"));
        Assert.Equal(["0|0|0"], await CountsAsync(redshift));
    }

    [Fact]
    public async Task Connections_ask_for_the_password_each_time_and_a_server_that_cannot_prove_itself_gets_none()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        var asked = 0;
        await using var source = redshift.Open(_ => ValueTask.FromResult(++asked > 0 ? redshift.StandIn.Password : ""));
        await (await source.OpenConnectionAsync(Cancelled)).DisposeAsync();
        source.Clear();
        await (await source.OpenConnectionAsync(Cancelled)).DisposeAsync();
        Assert.Equal(2, asked);

        // The certificate is for localhost, and this is another name of it.
        var elsewhere = redshift.ConnectionString.Replace("Host=localhost", "Host=127.0.0.1", StringComparison.Ordinal);
        await using var impostor = RedshiftWarehouse.DataSource(elsewhere, _ => ValueTask.FromResult(++asked > 0 ? redshift.StandIn.Password : ""));
        await Assert.ThrowsAsync<NpgsqlException>(async () => await impostor.OpenConnectionAsync(Cancelled));
        Assert.Equal(2, asked);
    }

    [Theory]
    [InlineData("Host=h;Server Compatibility Mode=Redshift", true)]
    [InlineData("Host=h;server compatibility mode=redshift", true)]
    [InlineData("Host=h", false)]
    public void The_connection_string_tells_the_dialect(string connectionString, bool isRedshift) =>
        Assert.Equal(isRedshift, RedshiftWarehouse.IsMeant(connectionString));

    /// <summary>As Redshift writes it.</summary>
    private static string Detail(string error, string code, string context) => $"""

          -----------------------------------------------
          error:  {error}
          code:      {code}
          context:   {context}
          query:     139
          location:  funcs_string.hpp:395
          process:   query4_35 [pid=18194]
          -----------------------------------------------
        """;

    private static string Document(int bytes) => "{\"x\":\"" + new string('x', bytes - 8) + "\"}";

    private static Task<List<string>> CountsAsync(RedshiftDatabase redshift) => redshift.Postgres.RowsAsync(
        "SELECT (SELECT count(*) FROM order_changes) AS a, (SELECT count(*) FROM orders) AS b, (SELECT count(*) FROM load_ledger) AS c");
}
