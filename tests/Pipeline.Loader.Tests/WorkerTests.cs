using System.Diagnostics;
using System.Net;
using System.Text;
using Amazon.Runtime;
using Amazon.S3;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;
using Npgsql;
using Pipeline.Core;
using Pipeline.NativeServers;

namespace Pipeline.Loader.Tests;

/// <summary>The worker around the loader, and the bucket through the AWS SDK on a real S3 server.</summary>
public class WorkerTests(PostgresFixture postgres)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_worker_migrates_loads_survives_an_outage_and_stops_when_asked()
    {
        await using var database = await postgres.CreateDatabaseAsync(empty: true);
        var warehouse = new PostgresWarehouse(database);
        using var harness = new Harness(warehouse);
        await harness.Objects.PutAsync([Changes.Change("o-1", 1, 1)]);
        using var worker = Worker(harness, database);

        Assert.Equal(HealthStatus.Unhealthy, await HealthAsync(harness));
        await worker.StartAsync(Cancelled);
        await UntilAsync(async () => await HealthAsync(harness) == HealthStatus.Healthy);
        await UntilAsync(async () => (await database.RowsAsync("SELECT version FROM orders")) is ["1"]);

        harness.Objects.IsAway = true;
        await UntilAsync(async () =>
        {
            harness.Time.Advance(TimeSpan.FromSeconds(1));
            return await HealthAsync(harness) == HealthStatus.Degraded;
        });
        await harness.Objects.PutAsync([Changes.Change("o-1", 2, 2)]);
        harness.Objects.IsAway = false;
        await UntilAsync(async () =>
        {
            harness.Time.Advance(TimeSpan.FromSeconds(1));
            return await HealthAsync(harness) == HealthStatus.Healthy && (await database.RowsAsync("SELECT version FROM orders")) is ["2"];
        });

        await worker.StopAsync(Cancelled);
        await worker.ExecuteTask!;
        Assert.False(worker.HasGivenUp);
    }

    [Fact]
    public async Task A_warehouse_that_never_comes_ends_the_worker_with_its_reason_when_patience_is_over()
    {
        await using var nowhere = NpgsqlDataSource.Create($"Host=127.0.0.1;Port={LoopbackPorts.Free()};Username=nobody;Timeout=2");
        using var harness = new Harness(new PostgresWarehouse(nowhere));
        using var worker = Worker(harness, nowhere);

        await worker.StartAsync(Cancelled);
        await UntilAsync(() =>
        {
            harness.Time.Advance(TimeSpan.FromSeconds(10));
            return Task.FromResult(worker.ExecuteTask!.IsCompleted);
        });

        Assert.Equal(WarehouseFault.Unavailable, (await Assert.ThrowsAsync<WarehouseException>(() => worker.ExecuteTask!)).Fault);
        Assert.Equal(HealthStatus.Unhealthy, await HealthAsync(harness));
        Assert.True(worker.HasGivenUp);
    }

    [Fact]
    public async Task A_process_whose_worker_gives_up_does_not_exit_with_0()
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "Pipeline.Loader.dll")])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment =
            {
                ["ASPNETCORE_URLS"] = "http://127.0.0.1:0",
                ["AWS_REGION"] = "us-east-1",
                ["AWS_ACCESS_KEY_ID"] = "local",
                ["AWS_SECRET_ACCESS_KEY"] = "local",
                ["Pipeline__BucketName"] = "bucket",
                ["Pipeline__StartupPatience"] = "00:00:00.001",
                ["ConnectionStrings__warehouse"] = $"Host=127.0.0.1;Port={LoopbackPorts.Free()};Username=nobody;Timeout=2",
            },
        };
        using var process = Process.Start(start)!;
        try
        {
            using var patience = CancellationTokenSource.CreateLinkedTokenSource(Cancelled);
            patience.CancelAfter(TimeSpan.FromSeconds(120));
            var output = process.StandardOutput.ReadToEndAsync(patience.Token);
            var errors = process.StandardError.ReadToEndAsync(patience.Token);
            await process.WaitForExitAsync(patience.Token);

            // 1 is the program's own answer; a crash has another.
            Assert.True(process.ExitCode == 1, $"{process.ExitCode}\n{await output}\n{await errors}");
            Assert.Contains("The HostOptions.BackgroundServiceExceptionBehavior", await output, StringComparison.Ordinal);
        }
        finally
        {
            process.Kill();
        }
    }

    [Fact]
    public async Task A_real_S3_server_is_listed_in_pages_read_and_told_apart_from_one_that_is_away()
    {
        await using var server = await NativeServer.StartAsync(S3Server.Define(LoopbackPorts.Free(), dataDirectory: null), Cancelled);
        using var s3 = new AmazonS3Client(
            new BasicAWSCredentials("local", "local"), new AmazonS3Config { ServiceURL = server.Url, MaxErrorRetry = 0, AuthenticationRegion = "us-east-1" });
        await s3.PutBucketAsync("bucket", Cancelled);
        await Parallel.ForEachAsync(Enumerable.Range(0, 1_005), Cancelled, async (n, ct) =>
            await s3.PutObjectAsync(new() { BucketName = "bucket", Key = $"orders/changes/{n:D5}", ContentBody = $"{n}" }, ct));
        var store = new S3ObjectStore(s3, "bucket");

        var first = await store.ListAsync("orders/changes/", null, Cancelled);
        var rest = await store.ListAsync("orders/changes/", first.Objects[^1].Key, Cancelled);
        Assert.True(first.IsTruncated);
        Assert.Equal(1_000, first.Objects.Count);
        Assert.False(rest.IsTruncated);
        Assert.Equal(["01000", "01001", "01002", "01003", "01004"], rest.Objects.Select(o => o.Key[^5..]));
        Assert.Empty((await store.ListAsync("orders/other/", null, Cancelled)).Objects);

        var content = await store.GetAsync("orders/changes/00042", Cancelled);
        Assert.Equal("42"u8.ToArray(), content!.Bytes);
        Assert.Equal(first.Objects[42] with { Bytes = 2 }, first.Objects[42]);
        Assert.Equal(first.Objects[42].ETag, content.ETag);
        Assert.Null(await store.GetAsync("orders/changes/none", Cancelled));

        // No bucket is not "no object".
        await Assert.ThrowsAsync<ObjectStoreException>(() => new S3ObjectStore(s3, "nowhere").GetAsync("k", Cancelled));
        await Assert.ThrowsAsync<ObjectStoreException>(() => new S3ObjectStore(s3, "nowhere").ListAsync("k", null, Cancelled));
        await server.KillAsync();
        await Assert.ThrowsAsync<ObjectStoreException>(() => store.ListAsync("orders/changes/", null, Cancelled));
        await Assert.ThrowsAsync<ObjectStoreException>(() => store.GetAsync("orders/changes/00042", Cancelled));
    }

    [Theory]
    [InlineData(403, "AccessDenied", true)]
    [InlineData(403, "InvalidObjectState", true)]
    [InlineData(400, "InvalidRequest", true)]
    [InlineData(403, "ExpiredToken", false)]
    [InlineData(404, "NoSuchBucket", false)]
    [InlineData(400, "KMS.ThrottlingException", false)]
    [InlineData(400, "RequestTimeout", false)]
    [InlineData(429, "TooManyRequests", false)]
    [InlineData(500, "InternalError", false)]
    [InlineData(503, "SlowDown", false)]
    public async Task A_refusal_of_one_object_is_told_apart_from_an_outage(int status, string code, bool isAboutTheObject)
    {
        using var s3 = Answering(() => new HttpResponseMessage((HttpStatusCode)status)
        {
            Content = new StringContent($"<Error><Code>{code}</Code><Message>no</Message></Error>", Encoding.UTF8, "application/xml"),
        });

        var error = await Assert.ThrowsAnyAsync<Exception>(() => new S3ObjectStore(s3, "bucket").GetAsync("key", Cancelled));

        Assert.Equal(isAboutTheObject ? typeof(ObjectUnreadableException) : typeof(ObjectStoreException), error.GetType());
    }

    [Fact]
    public async Task An_object_that_does_not_match_its_checksum_is_unreadable_and_no_outage()
    {
        using var s3 = Answering(() => new HttpResponseMessage(HttpStatusCode.OK)
        {
            Headers = { ETag = new($"\"{new string('0', 32)}-1\"") },
            Content = new ByteArrayContent([1, 2, 3]) { Headers = { { "x-amz-checksum-crc32", "AAAAAA==" } } },
        });

        await Assert.ThrowsAsync<ObjectUnreadableException>(() => new S3ObjectStore(s3, "bucket").GetAsync("key", Cancelled));
    }

    [Fact]
    public async Task An_object_that_is_too_large_is_refused_before_its_body_is_read()
    {
        using var s3 = Answering(() => new HttpResponseMessage(HttpStatusCode.OK)
        {
            Headers = { ETag = new($"\"{new string('0', 32)}-1\"") },
            Content = new StreamContent(new UnreadStream()) { Headers = { ContentLength = ChangeFile.BytesMax + 1L } },
        });

        await Assert.ThrowsAsync<ObjectUnreadableException>(() => new S3ObjectStore(s3, "bucket").GetAsync("key", Cancelled));
    }

    /// <summary>S3 by the SDK, with the same answer to every request.</summary>
    private static AmazonS3Client Answering(Func<HttpResponseMessage> answer) => new(
        new BasicAWSCredentials("local", "local"),
        new AmazonS3Config
        {
            ServiceURL = "http://s3.invalid",
            AuthenticationRegion = "us-east-1",
            MaxErrorRetry = 0,
            HttpClientFactory = new CannedClients(answer),
        });

    private sealed class CannedClients(Func<HttpResponseMessage> answer) : HttpClientFactory
    {
        public override HttpClient CreateHttpClient(IClientConfig clientConfig) => new(new Handler(answer));

        public override bool UseSDKHttpClientCaching(IClientConfig clientConfig) => false;

        private sealed class Handler(Func<HttpResponseMessage> answer) : HttpMessageHandler
        {
            protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
            {
                var response = answer();
                response.RequestMessage = request;
                return Task.FromResult(response);
            }
        }
    }

    /// <summary>A body that must not be read.</summary>
    private sealed class UnreadStream : MemoryStream
    {
        public override int Read(byte[] buffer, int offset, int count) => throw new InvalidOperationException("The body is read.");

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            throw new InvalidOperationException("The body is read.");

        public override Task CopyToAsync(Stream destination, int bufferSize, CancellationToken cancellationToken) =>
            throw new InvalidOperationException("The body is read.");
    }

    private static LoadWorker Worker(Harness harness, NpgsqlDataSource database) => new(
        harness.Loader, new Migrator(database, NullLogger<Migrator>.Instance), harness.Status, Options.Create(new LoaderOptions { BucketName = "bucket" }),
        harness.Time, NullLogger<LoadWorker>.Instance);

    private static async Task<HealthStatus> HealthAsync(Harness harness) =>
        (await harness.Status.CheckHealthAsync(new HealthCheckContext(), Cancelled)).Status;

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        for (var deadline = DateTime.UtcNow.AddSeconds(30); !await condition();)
        {
            Assert.True(DateTime.UtcNow < deadline, "Waited too long");
            await Task.Delay(20, Cancelled);
        }
    }
}
