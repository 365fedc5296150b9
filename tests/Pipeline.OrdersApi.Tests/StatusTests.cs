using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Amazon.S3;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using Pipeline.Loader;
using Pipeline.NativeServers;
using Pipeline.Ops.Status;

namespace Pipeline.OrdersApi.Tests;

public sealed class StatusTests(OrdersDatabase database) : IAsyncLifetime
{
    private const string Bucket = "order-pipeline-000000000000-us-east-1";

    private const string Mappings = """
        [{"uuid":"1","function":"process_orders","stream_arn":"arn","state":"Enabled","problem":null,"idle_environments":1,
          "shards":[{"shard_id":"s1","checkpoint":"1","records_buffered":0,"iterator_age_ms":0},
                    {"shard_id":"s2","checkpoint":"2","records_buffered":3,"iterator_age_ms":1500}]}]
        """;

    private readonly string _folder = Directory.CreateTempSubdirectory("status-tests-").FullName;
    private readonly OrdersApi _api = new(database);

    public ValueTask InitializeAsync() => _api.InitializeAsync();

    public async ValueTask DisposeAsync()
    {
        await _api.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Every_part_says_where_it_stands()
    {
        var token = TestContext.Current.CancellationToken;
        await PostgresServer.InitializeAsync(_folder, "warehouse", token);
        await using var postgres = await NativeServer.StartAsync(PostgresServer.Define(LoopbackPorts.Free(), _folder, isDurable: false), token);
        await using var s3Server = await NativeServer.StartAsync(S3Server.Define(LoopbackPorts.Free(), dataDirectory: null), token);
        var warehouse = PostgresServer.ConnectionString(postgres.Port, _folder, "warehouse");
        await using var data = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(warehouse) { Pooling = false });
        await new Migrator(data, NullLogger<Migrator>.Instance).MigrateAsync(token);
        using var s3 = S3(s3Server.Url);
        await s3.PutBucketAsync(Bucket, token);
        using var emulator = new HttpClient(new Answering(HttpStatusCode.OK, Mappings)) { BaseAddress = new Uri("http://emulator") };
        var probe = new StatusProbe(_api.Table, _api.TableName, s3, Bucket, warehouse, emulator);

        var empty = await probe.AskAsync(token);

        Assert.Equal(new TableStatus(_api.TableName, 0), empty.Table);
        Assert.Equal(new FilesStatus(0, 0, null, null), empty.ChangeFiles);
        Assert.Equal(new WarehouseStatus(0, 0, 0, 0, 0, 0, null, 0), empty.Warehouse);
        Assert.Equal(new NotLoadedStatus(0, null, null), empty.NotLoaded);
        Assert.Empty(empty.Unreachable);

        await _api.CreatedAsync();
        await _api.CreatedAsync();
        var loaded = await PutAsync(s3, "orders/changes/dt=2026-05-04/hour=12/a.parquet", "one");
        await PutAsync(s3, "orders/changes/dt=2026-05-04/hour=12/b.parquet", "three");
        await PutAsync(s3, "orders/changes/README.txt", "no change file");
        await PutAsync(s3, "orders/quarantine/dt=2026-05-04/e.json", "{}");
        await using (var rows = data.CreateCommand($"""
            -- A row of `compact` may be newer than the last load.
            INSERT INTO load_ledger VALUES ('orders/changes/dt=2026-05-04/hour=12/a.parquet', '{loaded}', 3, 3, '2100-01-01T00:00:00Z'),
                                           ('orders/changes/dt=2026-05-04/hour=11/c.compacted.parquet', 'large', 7, 3, '2101-01-01T00:00:00Z'),
                                           ('orders/changes/dt=2026-05-04/hour=12/b.parquet', 'an older object', 2, 3, '2026-05-04T12:00:00Z');
            INSERT INTO orders (order_id, version, sequence_number, is_deleted, changed_at, document, loaded_at)
            VALUES ('a', 1, '1', false, now(), '{EmptyDocument}', now()), ('b', 2, '3', true, now(), '{EmptyDocument}', now());
            INSERT INTO order_changes (order_id, version, sequence_number, event_id, operation, changed_at, document, loaded_at)
            SELECT 'b', n, '999' || n, 'e', 'insert', now(), '{EmptyDocument}', '2100-01-01T00:00:00Z'::timestamptz FROM generate_series(1, 3) n;
            -- From no second to a hundred; a removal and a snapshot with times of long ago do not count.
            INSERT INTO order_changes (order_id, version, sequence_number, event_id, operation, changed_at, updated_at, document, loaded_at)
            SELECT 'f', n, n::text, 'e', CASE WHEN n % 2 = 0 THEN 'insert' ELSE 'modify' END, now(), now() - make_interval(secs => n), '{EmptyDocument}'::json, now() FROM generate_series(0, 100) n
            UNION ALL SELECT 'g', 1, n::text, 'e', CASE WHEN n % 2 = 0 THEN 'remove' ELSE 'snapshot' END, now(), now() - interval '1 day', '{EmptyDocument}', now() FROM generate_series(1, 50) n;
            INSERT INTO waiting_changes (order_id, version, sequence_number, event_id, operation, changed_at, document, waiting_since)
            VALUES ('c', 2, '5', 'e', 'modify', now(), '{EmptyDocument}', now());
            INSERT INTO load_failures VALUES ('x', 'y', 'broken', 1, now(), now());
            """))
        {
            await rows.ExecuteNonQueryAsync(token);
        }

        var report = JsonSerializer.SerializeToNode(await probe.AskAsync(token), StatusJsonContext.Default.StatusReport)!;

        // When an object was written, the server says: it only must be there.
        foreach (var (part, time) in ((string, string)[])[("change_files", "newest_at"), ("quarantine", "newest_at"), ("not_loaded", "oldest_at")])
        {
            Assert.InRange(DateTimeOffset.UtcNow - report[part]![time]!.GetValue<DateTimeOffset>(), TimeSpan.FromSeconds(-2), TimeSpan.FromMinutes(1));
            report[part]!.AsObject().Remove(time);
        }

        report["change_files"]!.AsObject().Remove("newest");
        var expected = JsonNode.Parse($$$"""
            {"table":{"name":"{{{_api.TableName}}}","items":2},
             "stream":{"oldest_unread_ms":1500,"mappings":[{"function":"process_orders","state":"Enabled"}]},
             "change_files":{"files":2,"bytes":8},
             "quarantine":{"files":1,"bytes":2,"newest":"orders/quarantine/dt=2026-05-04/e.json"},
             "warehouse":{"orders":2,"removed":1,"order_changes":154,"waiting_changes":1,"files_loaded":3,"files_failing":1,"last_load_at":"2100-01-01T00:00:00+00:00","last_load_rows":3,"freshness":{"writes":101,"p50":50,"p95":95,"p99":99}},
             "not_loaded":{"files":1,"oldest":"orders/changes/dt=2026-05-04/hour=12/b.parquet"},
             "unreachable":{}}
            """);
        Assert.True(JsonNode.DeepEquals(expected, report), report.ToJsonString());
    }

    [Fact]
    public async Task A_part_that_cannot_be_reached_says_so_and_the_others_are_shown()
    {
        await _api.CreatedAsync();
        using var s3 = S3($"http://127.0.0.1:{LoopbackPorts.Free()}");
        using var emulator = new HttpClient(new Answering(HttpStatusCode.ServiceUnavailable, "")) { BaseAddress = new Uri("http://emulator") };
        var noServer = $"Host=127.0.0.1;Port={LoopbackPorts.Free()};Database=warehouse;Username=postgres";

        var report = await new StatusProbe(_api.Table, _api.TableName, s3, Bucket, noServer, emulator).AskAsync(TestContext.Current.CancellationToken);
        var withoutTable = await new StatusProbe(_api.Table, "NoSuchTable", s3, Bucket, null, null).AskAsync(TestContext.Current.CancellationToken);

        Assert.Equal(1, report.Table?.Items);
        Assert.Equal(["change_files", "quarantine", "stream", "warehouse"], report.Unreachable.Keys);
        Assert.Null(report.NotLoaded);
        Assert.Equal(["change_files", "quarantine", "table", "warehouse"], withoutTable.Unreachable.Keys);
        Assert.Contains("connection string", withoutTable.Unreachable["warehouse"], StringComparison.Ordinal);
        Assert.Null(withoutTable.Stream);
    }

    private const string EmptyDocument = "{}";

    private static AmazonS3Client S3(string url) => new("local", "local", new AmazonS3Config
    {
        ServiceURL = url,
        ForcePathStyle = true,
        AuthenticationRegion = "us-east-1",
        MaxErrorRetry = 0,
    });

    private static async Task<string> PutAsync(AmazonS3Client s3, string key, string content)
    {
        var put = await s3.PutObjectAsync(new() { BucketName = Bucket, Key = key, ContentBody = content }, TestContext.Current.CancellationToken);
        return put.ETag.Trim('"');
    }

    private sealed class Answering(HttpStatusCode status, string body) : HttpMessageHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
            Task.FromResult(new HttpResponseMessage(request.RequestUri!.AbsolutePath == "/event-source-mappings" ? status : HttpStatusCode.NotFound)
            {
                Content = new StringContent(body, Encoding.UTF8, "application/json"),
            });
    }
}
