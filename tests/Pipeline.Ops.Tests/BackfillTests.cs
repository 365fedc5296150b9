using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Amazon.DynamoDBv2.Model;
using Amazon.Lambda.DynamoDBEvents;
using Amazon.S3.Model;
using Microsoft.Extensions.Time.Testing;
using Pipeline.Core;
using Pipeline.Loader;
using Pipeline.Ops.Backfill;
using Pipeline.Ops.Reconcile;

namespace Pipeline.Ops.Tests;

public class BackfillTests(OpsServers servers)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_table_that_was_there_before_the_pipeline_is_brought_in()
    {
        await using var world = await servers.CreateWorldAsync();
        for (var n = 0; n < 200; n++)
        {
            await world.PutAsync(World.Order($"o-{n}", 1 + (n % 3)));
        }

        var report = await BackfillAsync(world);
        await world.LoadAsync();

        Assert.Equal((200, 0), (report.Snapshots, report.Undecodable));
        Assert.Equal(Verdict.Equal, (await world.ReconcileAsync()).Result);
        Assert.All((await KeysAsync(world)), key => Assert.Contains($"/{SequenceNumber.Zero}-{SequenceNumber.Zero}-", key, StringComparison.Ordinal));
        Assert.Equal("snapshot 200", await world.ScalarAsync("SELECT string_agg(DISTINCT operation, ',') || ' ' || count(*) FROM order_history WHERE is_current"));
    }

    [Fact]
    public async Task A_second_backfill_changes_nothing()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("o-1", "o-2");
        var before = await World.ContentAsync(world.Database);

        await BackfillAsync(world);
        await world.LoadAsync();
        await BackfillAsync(world);
        await world.LoadAsync();

        Assert.Equal("2 of 4", await world.ScalarAsync("SELECT count(*) FILTER (WHERE operation = 'snapshot') || ' of ' || count(*) FROM order_changes"));
        Assert.Equal("2", await world.ScalarAsync("SELECT count(*) FROM order_history"));
        await world.ExecuteAsync("DELETE FROM order_changes WHERE operation = 'snapshot'");
        Assert.Equal(before, await World.ContentAsync(world.Database));
    }

    /// <summary>
    /// Orders are created, changed, removed and created again while the table is read, their changes are delivered late and the
    /// files of both are loaded in between, in whatever order.
    /// </summary>
    [Fact]
    public async Task A_backfill_while_changes_flow_ends_equal()
    {
        await using var world = await servers.CreateWorldAsync();
        var versions = new Dictionary<string, int>();
        for (var n = 0; n < 400; n++)
        {
            await world.PutAsync(World.Order($"o-{n}", 5));
            versions[$"o-{n}"] = 5;
        }

        var random = new Random(20261124);
        var undelivered = new List<DynamoDBEvent.DynamodbStreamRecord>();
        using var stop = new CancellationTokenSource();
        var writing = Task.Run(async () =>
        {
            while (!stop.IsCancellationRequested)
            {
                var orderId = $"o-{random.Next(450)}";
                if (versions.TryGetValue(orderId, out var version) && random.Next(4) == 0)
                {
                    undelivered.Add(await world.DeleteAsync(orderId));
                    versions.Remove(orderId);
                }
                else
                {
                    undelivered.Add(await world.PutAsync(World.Order(orderId, versions[orderId] = version + 1)));
                }

                if (undelivered.Count >= 60)
                {
                    await world.DeliverAsync([.. undelivered.Take(40)]);
                    undelivered.RemoveRange(0, 40);
                }
            }
        }, Cancelled);

        // Slowly enough that changes happen between the pages, and several times.
        for (var round = 0; round < 3; round++)
        {
            await BackfillAsync(world, segments: 16, onPage: () => world.LoadAsync());
        }

        await stop.CancelAsync();
        await writing;
        if (undelivered.Count > 0)
        {
            await world.DeliverAsync([.. undelivered]);
        }

        await world.LoadAsync();
        var certificate = await world.ReconcileAsync();
        Assert.True(certificate.Result == Verdict.Equal, string.Join(", ", certificate.Differences.Listed));
        Assert.Equal("0", await world.ScalarAsync("""
            SELECT count(*) FROM orders o
            FULL JOIN (SELECT * FROM order_history WHERE is_current) h USING (order_id, version, sequence_number, is_deleted)
            WHERE o.order_id IS NULL OR h.order_id IS NULL
            """));
    }

    [Fact]
    public async Task An_interrupted_backfill_goes_on_and_writes_the_same_files()
    {
        await using var world = await servers.CreateWorldAsync();
        const int Orders = 120;
        for (var n = 0; n < Orders; n++)
        {
            // Of 100 KB, so that a page of 1 MB has few of them and each segment several pages.
            var order = World.Order($"o-{n}");
            order["note"] = new AttributeValue { S = new string('x', 100_000) };
            await world.PutAsync(order);
        }

        // Both runs in the same hour.
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        using var kill = new CancellationTokenSource();
        var puts = 0;
        var killed = new HookedObjects(world.Objects)
        {
            // Killed when the first file is stored and not noted yet.
            AfterPut = async key =>
            {
                if (key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal) && Interlocked.Increment(ref puts) == 1)
                {
                    await kill.CancelAsync();
                    kill.Token.ThrowIfCancellationRequested();
                }
            },
        };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => BackfillAsync(world, objects: killed, segments: 2, rowsPerFile: 25, kill: kill.Token, time: time));
        var before = await KeysAsync(world);
        Assert.NotEmpty(before);

        var report = await BackfillAsync(world, segments: 7, rowsPerFile: 25, time: time);
        await world.LoadAsync();

        Assert.True(report.Resumed);
        Assert.Equal(Orders, report.Snapshots);
        Assert.Equal(Verdict.Equal, (await world.ReconcileAsync()).Result);
        // What the killed run had stored was written again under the same key, so nothing is there twice.
        var after = await KeysAsync(world);
        Assert.Subset(after, before);
        Assert.Equal($"{Orders}", await world.ScalarAsync("SELECT sum(rows) FROM load_ledger"));
        Assert.Equal(report.Files, after.Count);

        // The next one is a new one.
        Assert.False((await BackfillAsync(world)).Resumed);
    }

    /// <summary>The loader looks at all hours only a few times a day, and at the last ones once a minute.</summary>
    [Fact]
    public async Task A_backfill_that_goes_on_days_later_writes_into_the_hour_that_it_is_then()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.PutAsync(World.Order("o-1"));
        await world.PutAsync(World.Order("o-2"));
        var time = new FakeTimeProvider(new DateTimeOffset(2026, 11, 21, 8, 30, 0, TimeSpan.Zero));
        using var kill = new CancellationTokenSource();
        var killed = new HookedObjects(world.Objects) { BeforePut = key => key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal) ? kill.CancelAsync() : Task.CompletedTask };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => BackfillAsync(world, objects: killed, segments: 1, kill: kill.Token, time: time));
        Assert.Empty(await KeysAsync(world));

        time.SetUtcNow(new DateTimeOffset(2026, 11, 24, 10, 59, 0, TimeSpan.Zero));
        Assert.True((await BackfillAsync(world, segments: 1, time: time)).Resumed);

        Assert.StartsWith($"{Names.ChangesPrefix}dt=2026-11-24/hour=10/{SequenceNumber.Zero}-", Assert.Single(await KeysAsync(world)), StringComparison.Ordinal);
        await world.LoadAsync();
        Assert.Equal("2026-11-21 08:30", await world.ScalarAsync("SELECT DISTINCT to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM order_changes"));
    }

    [Fact]
    public async Task A_part_whose_last_file_was_not_stored_is_not_done_although_another_one_made_its_note_meanwhile()
    {
        await using var world = await servers.CreateWorldAsync();
        TaskCompletionSource storing = new(TaskCreationOptions.RunContinuationsAsynchronously), noted = new(TaskCreationOptions.RunContinuationsAsynchronously);
        var state = ObjectKeys.BackfillState(world.Table);
        var objects = new HookedObjects(world.Objects)
        {
            // The file of the first part, since the second one waits for it to begin.
            BeforePut = async key =>
            {
                if (key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal) && storing.TrySetResult())
                {
                    await noted.Task.WaitAsync(Cancelled);
                    throw new ObjectStoreException("503 Slow Down");
                }
            },
            AfterPut = key =>
            {
                if (key == state && storing.Task.IsCompleted)
                {
                    noted.TrySetResult();
                }

                return Task.CompletedTask;
            },
        };

        await Assert.ThrowsAsync<ObjectStoreException>(() => BackfillAsync(world, objects, segments: 2, source: new TwoParts(storing.Task), rowsPerFile: 2));
        var report = await BackfillAsync(world, segments: 2, source: new TwoParts(storing.Task), rowsPerFile: 2);
        await world.LoadAsync();

        Assert.Equal((true, 4), (report.Resumed, report.Snapshots));
        Assert.Equal("first-1,second-1,second-2,second-3", await world.ScalarAsync("SELECT string_agg(order_id, ',' ORDER BY order_id) FROM orders"));
    }

    [Fact]
    public async Task An_item_that_cannot_be_decoded_is_named_and_stops_no_other()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.PutAsync(World.Order("good"));
        await world.PutAsync(new Dictionary<string, AttributeValue> { ["order_id"] = new() { S = "poison" }, ["version"] = new() { S = "one" } });

        var report = await BackfillAsync(world);

        Assert.Equal((1, 1), (report.Snapshots, report.Undecodable));
        Assert.Equal([new UndecodableItem("poison", "attribute 'version' is not a number")], report.Examples);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_export_is_read_from_a_bucket_or_a_folder(bool inBucket)
    {
        await using var world = await servers.CreateWorldAsync();
        var items = Enumerable.Range(0, 250).Select(n => World.Order($"o-{n}", 2)).Append(EveryType()).ToList();
        foreach (var item in items)
        {
            await world.PutAsync(item);
        }

        var export = await ExportAsync(world);
        if (inBucket)
        {
            foreach (var file in Directory.GetFiles(export, "*", SearchOption.AllDirectories))
            {
                await world.S3.PutObjectAsync(
                    new PutObjectRequest { BucketName = world.Bucket, Key = $"exports/AWSDynamoDB/01/{Path.GetRelativePath(export, file)}", FilePath = file }, Cancelled);
            }
        }

        // Newer than the export, and already loaded: the export must not bring the older one back.
        await world.DeliverAsync(await world.PutAsync(World.Order("o-7", 3)));
        await world.LoadAsync();

        var source = new ExportSource(
            inBucket ? ExportSource.InBucket(world.S3, world.Bucket, "exports/AWSDynamoDB/01/") : ExportSource.InFolder(export), World.Protector, world.Temporary);
        var report = await BackfillAsync(world, source: source);
        await world.LoadAsync();

        Assert.Equal((251, 0), (report.Snapshots, report.Undecodable));
        Assert.Equal(Verdict.Equal, (await world.ReconcileAsync()).Result);
    }

    [Theory]
    [InlineData("data", "is damaged: its MD5 is")]
    [InlineData("count", "manifest-summary.json 4: the export is not whole")]
    [InlineData("format", "format ION; only DYNAMODB_JSON is read")]
    [InlineData("type", "INCREMENTAL_EXPORT; only a FULL_EXPORT")]
    [InlineData("table", "is no item with an order_id")]
    public async Task An_export_that_is_not_whole_or_of_another_kind_is_refused(string fault, string message)
    {
        await using var world = await servers.CreateWorldAsync();
        await world.PutAsync(World.Order("o-1"));
        await world.PutAsync(World.Order("o-2"));
        await world.PutAsync(World.Order("o-3"));
        var export = await ExportAsync(world, attribute: fault == "table" ? "customer_id" : "order_id");
        var summary = Path.Combine(export, "manifest-summary.json");
        switch (fault)
        {
            case "data":
                var data = Directory.GetFiles(Path.Combine(export, "data")).MaxBy(file => new FileInfo(file).Length)!;
                var bytes = await File.ReadAllBytesAsync(data, Cancelled);
                bytes[^12] ^= 1;
                await File.WriteAllBytesAsync(data, bytes, Cancelled);
                break;
            case "count":
                await ReplaceAsync(summary, "\"itemCount\":3", "\"itemCount\":4");
                break;
            case "format":
                await ReplaceAsync(summary, "DYNAMODB_JSON", "ION");
                break;
            case "type":
                await ReplaceAsync(summary, "FULL_EXPORT", "INCREMENTAL_EXPORT");
                break;
        }

        var refused = await Assert.ThrowsAsync<OperatorException>(() => BackfillAsync(world, source: new ExportSource(ExportSource.InFolder(export), World.Protector, world.Temporary)));

        Assert.Contains(message, refused.Message, StringComparison.Ordinal);
        if (fault is not "table")
        {
            Assert.Empty(await KeysAsync(world));
        }
    }

    private static async Task ReplaceAsync(string file, string what, string by)
    {
        var text = await File.ReadAllTextAsync(file, Cancelled);
        Assert.Contains(what, text, StringComparison.Ordinal);
        await File.WriteAllTextAsync(file, text.Replace(what, by, StringComparison.Ordinal), Cancelled);
    }

    private static async Task<BackfillReport> BackfillAsync(
        World world, IObjectStore? objects = null, int segments = 4, IBackfillSource? source = null, Func<Task>? onPage = null,
        int rowsPerFile = ChangeWriter.RowsMax, CancellationToken? kill = null, TimeProvider? time = null)
    {
        source ??= new TableSource(new OrderTable(world.Dynamo, world.Table, new ReadBudget(null, TimeProvider.System)), World.Protector);
        using var run = new BackfillRun(
            objects ?? world.Objects, onPage is null ? source : new Slowly(source, onPage), segments, ObjectKeys.BackfillState(world.Table), time ?? TimeProvider.System,
            rowsPerFile);
        return await run.RunAsync(restart: false, kill ?? Cancelled);
    }

    private static async Task<HashSet<string>> KeysAsync(World world) =>
        [.. (await world.Objects.ListAsync(Names.ChangesPrefix, null, Cancelled)).Objects.Select(o => o.Key)];

    /// <summary>Values of every type of DynamoDB.</summary>
    private static Dictionary<string, AttributeValue> EveryType() => new()
    {
        ["order_id"] = new() { S = "every type" },
        ["version"] = new() { N = "1" },
        ["number"] = new() { N = "12345678901234567890123456789012345678" },
        ["small"] = new() { N = "1E-130" },
        ["binary"] = new() { B = new MemoryStream([1, 2, 255]) },
        ["flag"] = new() { BOOL = false },
        ["nothing"] = new() { NULL = true },
        ["texts"] = new() { SS = ["b", "a"] },
        ["numbers"] = new() { NS = ["2", "10"] },
        ["binaries"] = new() { BS = [new MemoryStream([3])] },
        ["list"] = new() { L = [new() { S = "é\u2028\ud83d\uded2" }, new() { M = new() { ["in"] = new() { N = "-0.5" } } }] },
    };

    /// <summary>What "export table to S3" makes of a table: two data files and an empty one, and the manifests.</summary>
    private static async Task<string> ExportAsync(World world, string attribute = "order_id")
    {
        const string Prefix = "exports/AWSDynamoDB/01/data/";
        var folder = Directory.CreateDirectory(Path.Combine(world.Temporary, "export")).FullName;
        var data = Directory.CreateDirectory(Path.Combine(folder, "data")).FullName;
        var lines = (await world.Dynamo.ScanAsync(new ScanRequest(world.Table) { ConsistentRead = true }, Cancelled)).Items
            .Select(item => new JsonObject { ["Item"] = new JsonObject(item.Where(entry => entry.Key != attribute || attribute == "order_id").Select(entry => KeyValuePair.Create(entry.Key == "order_id" ? attribute : entry.Key, (JsonNode?)Tagged(entry.Value)))) })
            .Select(item => item.ToJsonString()).ToList();
        var manifest = new StringBuilder();
        foreach (var (name, part) in new[] { ("a", lines[..(lines.Count / 2)]), ("b", lines[(lines.Count / 2)..]), ("c", []) })
        {
            using var packed = new MemoryStream();
            await using (var gzip = new GZipStream(packed, CompressionMode.Compress, leaveOpen: true))
            {
                await gzip.WriteAsync(Encoding.UTF8.GetBytes(string.Concat(part.Select(line => line + "\n"))), Cancelled);
            }

            await File.WriteAllBytesAsync(Path.Combine(data, $"{name}.json.gz"), packed.ToArray(), Cancelled);
#pragma warning disable CA5351 // As in the manifests of AWS.
            manifest.AppendLine(new JsonObject
            {
                ["itemCount"] = part.Count,
                ["md5Checksum"] = Convert.ToBase64String(MD5.HashData(packed.ToArray())),
                ["etag"] = "x-1",
                ["dataFileS3Key"] = $"{Prefix}{name}.json.gz",
            }.ToJsonString());
#pragma warning restore CA5351
        }

        await File.WriteAllTextAsync(Path.Combine(folder, "manifest-files.json"), manifest.ToString(), Cancelled);
        await File.WriteAllTextAsync(Path.Combine(folder, "manifest-summary.json"), new JsonObject
        {
            ["version"] = "2023-08-01",
            ["exportArn"] = $"arn:aws:dynamodb:us-east-1:123456789012:table/{world.Table}/export/01",
            ["exportTime"] = "2026-11-24T07:28:34.028Z",
            ["s3Bucket"] = world.Bucket,
            ["s3Prefix"] = "exports",
            ["itemCount"] = lines.Count,
            ["outputFormat"] = "DYNAMODB_JSON",
            ["exportType"] = "FULL_EXPORT",
        }.ToJsonString(), Cancelled);
        return folder;
    }

    private static JsonObject Tagged(AttributeValue value) => value switch
    {
        { S: { } text } => new() { ["S"] = text },
        { N: { } number } => new() { ["N"] = number },
        { BOOL: { } boolean } => new() { ["BOOL"] = boolean },
        { NULL: true } => new() { ["NULL"] = true },
        { M: { } map } => new() { ["M"] = new JsonObject(map.Select(entry => KeyValuePair.Create(entry.Key, (JsonNode?)Tagged(entry.Value)))) },
        { L: { } list } => new() { ["L"] = new JsonArray([.. list.Select(Tagged)]) },
        { SS: { } texts } => new() { ["SS"] = new JsonArray([.. texts.Select(text => JsonValue.Create(text))]) },
        { NS: { } numbers } => new() { ["NS"] = new JsonArray([.. numbers.Select(number => JsonValue.Create(number))]) },
        { BS: { } binaries } => new() { ["BS"] = new JsonArray([.. binaries.Select(binary => JsonValue.Create(Convert.ToBase64String(binary.ToArray())))]) },
        { B: { } binary } => new() { ["B"] = Convert.ToBase64String(binary.ToArray()) },
        _ => throw new NotSupportedException("An attribute without a type."),
    };

    /// <summary>A part with one order, and one with three that waits and can be gone on with.</summary>
    private sealed class TwoParts(Task wait) : IBackfillSource
    {
        public Task<BackfillSource> DescribeAsync(CancellationToken cancellationToken) => Task.FromResult(new BackfillSource("two parts", 2, 4));

        public async IAsyncEnumerable<BackfillPage> ReadAsync(
            int part, int parts, string? after, DateTimeOffset readAt, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
        {
            if (part == 0)
            {
                yield return new BackfillPage([Item("first-1")], After: null);
            }
            else if (after is null)
            {
                await wait.WaitAsync(cancellationToken);
                yield return new BackfillPage([Item("second-1"), Item("second-2"), Item("second-3")], After: "second-3");
            }

            TableItem Item(string orderId) => TableItem.Decode(World.Order(orderId), SequenceNumber.Zero, readAt, World.Protector);
        }
    }

    /// <summary>Something happens at each page that is read.</summary>
    private sealed class Slowly(IBackfillSource inner, Func<Task> onPage) : IBackfillSource
    {
        public Task<BackfillSource> DescribeAsync(CancellationToken cancellationToken) => inner.DescribeAsync(cancellationToken);

        public async IAsyncEnumerable<BackfillPage> ReadAsync(
            int part, int parts, string? after, DateTimeOffset readAt, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
        {
            await foreach (var page in inner.ReadAsync(part, parts, after, readAt, cancellationToken))
            {
                await onPage();
                yield return page;
            }
        }
    }
}
