using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using OpenTelemetry;
using OpenTelemetry.Metrics;
using OpenTelemetry.Trace;
using Pipeline.Core;

namespace Pipeline.Loader.Tests;

/// <summary>The loader as a Lambda function, and where it has its password from.</summary>
public sealed class WakeUpTests
{
    private static readonly TimeSpan TwoMinutes = TimeSpan.FromMinutes(2);

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_wake_up_loads_until_nothing_is_left_and_prepares_once()
    {
        var warehouse = new MemoryWarehouse();
        using var harness = new Harness(warehouse, configure: o => o.Limits = new LoadLimits(FilesMax: 1));
        var migrator = new Migrations();
        await using var nowhere = Nowhere();
        var wakeUp = Create(harness, migrator, nowhere);
        await FilesAsync(harness, 1, 3);

        await wakeUp.HandleAsync(1, TwoMinutes, Cancelled);
        Assert.Equal(3, warehouse.Ledger.Count);
        await FilesAsync(harness, 4, 2);
        await wakeUp.HandleAsync(1, TwoMinutes, Cancelled);
        Assert.Equal(5, warehouse.Ledger.Count);
        Assert.Equal(1, migrator.Runs);
    }

    [Fact]
    public async Task Spans_and_metrics_leave_before_Lambda_freezes_the_process_also_after_a_failure()
    {
        using var harness = new Harness(new MemoryWarehouse());
        var migrator = new Migrations { Failure = new WarehouseException(WarehouseFault.Unavailable, "away") };
        await using var nowhere = Nowhere();
        using var spans = new FlushedSpans();
        using var metrics = new FlushedMetrics();
        var wakeUp = Create(harness, migrator, nowhere, Sdk.CreateTracerProviderBuilder().AddProcessor(spans), Sdk.CreateMeterProviderBuilder().AddReader(metrics));

        await Assert.ThrowsAsync<WarehouseException>(() => wakeUp.HandleAsync(1, TwoMinutes, Cancelled));
        Assert.Equal((1, 1), (spans.Times, metrics.Times));
        migrator.Failure = null;
        await wakeUp.HandleAsync(1, TwoMinutes, Cancelled);
        Assert.Equal((2, 2), (spans.Times, metrics.Times));
    }

    [Fact]
    public async Task With_little_time_left_it_takes_one_turn_and_leaves_the_rest_to_the_next_wake_up()
    {
        var warehouse = new MemoryWarehouse();
        using var harness = new Harness(warehouse, configure: o => o.Limits = new LoadLimits(FilesMax: 1));
        await using var nowhere = Nowhere();
        var wakeUp = Create(harness, new Migrations(), nowhere);
        await FilesAsync(harness, 1, 3);

        await wakeUp.HandleAsync(1, TimeSpan.FromSeconds(34), Cancelled);
        Assert.Single(warehouse.Ledger);
        await wakeUp.HandleAsync(1, TwoMinutes, Cancelled);
        Assert.Equal(3, warehouse.Ledger.Count);
    }

    [Fact]
    public async Task An_outage_fails_the_invocation_and_the_next_one_begins_where_it_stopped()
    {
        var warehouse = new MemoryWarehouse();
        using var harness = new Harness(warehouse);
        var migrator = new Migrations { Failure = new WarehouseException(WarehouseFault.Unavailable, "away") };
        await using var nowhere = Nowhere();
        var wakeUp = Create(harness, migrator, nowhere);
        await FilesAsync(harness, 1, 1);

        await Assert.ThrowsAsync<WarehouseException>(() => wakeUp.HandleAsync(1, TwoMinutes, Cancelled));
        migrator.Failure = null;
        harness.Objects.IsAway = true;
        await Assert.ThrowsAsync<ObjectStoreException>(() => wakeUp.HandleAsync(1, TwoMinutes, Cancelled));
        harness.Objects.IsAway = false;
        await wakeUp.HandleAsync(1, TwoMinutes, Cancelled);
        Assert.Single(warehouse.Ledger);
        Assert.Equal(2, migrator.Runs);
    }

    [Fact]
    public async Task What_does_not_end_in_time_is_reported_before_Lambda_ends_it()
    {
        using var harness = new Harness(new MemoryWarehouse());
        await using var nowhere = Nowhere();
        var wakeUp = Create(harness, new Migrations { HangsUntilCancelled = true }, nowhere);

        var handling = wakeUp.HandleAsync(1, TwoMinutes, Cancelled);
        harness.Time.Advance(TimeSpan.FromSeconds(114));
        Assert.False(handling.IsCompleted);
        harness.Time.Advance(TimeSpan.FromSeconds(1));
        await Assert.ThrowsAsync<TimeoutException>(() => handling);
    }

    [Fact]
    public async Task With_as_many_wake_ups_as_there_may_be_it_makes_room_for_those_behind_them_after_eight_seconds()
    {
        var warehouse = new MemoryWarehouse();
        using var harness = new Harness(warehouse, configure: o => o.Limits = new LoadLimits(FilesMax: 1));
        warehouse.OnBegin = () => harness.Time.Advance(TimeSpan.FromSeconds(3));
        await using var nowhere = Nowhere();
        var wakeUp = Create(harness, new Migrations(), nowhere);
        await FilesAsync(harness, 1, 8);

        await wakeUp.HandleAsync(10, TwoMinutes, Cancelled);
        Assert.Equal(3, warehouse.Loads.Count);
        await wakeUp.HandleAsync(9, TwoMinutes, Cancelled);
        Assert.Equal(8, warehouse.Loads.Count);
    }

    [Fact]
    public async Task No_turn_is_begun_that_takes_longer_than_what_is_left()
    {
        var warehouse = new MemoryWarehouse();
        using var harness = new Harness(warehouse, configure: o => o.Limits = new LoadLimits(FilesMax: 1));
        warehouse.OnBegin = () => harness.Time.Advance(TimeSpan.FromSeconds(40));
        await using var nowhere = Nowhere();
        var wakeUp = Create(harness, new Migrations(), nowhere);
        await FilesAsync(harness, 1, 3);

        await wakeUp.HandleAsync(1, TwoMinutes, Cancelled);
        Assert.Single(warehouse.Loads);
    }

    [Fact]
    public async Task After_a_failure_the_next_load_is_half_as_large_and_with_each_success_twice_as_large_again()
    {
        var warehouse = new MemoryWarehouse();
        using var harness = new Harness(warehouse, configure: o => o.Limits = new LoadLimits(FilesMax: 8));
        var tooLarge = 2;
        warehouse.OnBegin = () =>
        {
            if (tooLarge-- > 0)
            {
                throw new WarehouseException(WarehouseFault.Unavailable, "57014: canceling statement due to statement timeout");
            }
        };
        await using var nowhere = Nowhere();
        var wakeUp = Create(harness, new Migrations(), nowhere);
        await FilesAsync(harness, 1, 22);

        await Assert.ThrowsAsync<WarehouseException>(() => wakeUp.HandleAsync(1, TwoMinutes, Cancelled));
        await Assert.ThrowsAsync<WarehouseException>(() => wakeUp.HandleAsync(1, TwoMinutes, Cancelled));
        await wakeUp.HandleAsync(1, TwoMinutes, Cancelled);
        Assert.Equal([2, 4, 8, 8], warehouse.Loads.Select(files => files.Length));
    }

    [Theory]
    [InlineData("""{"Records":[{"body":"2026-11-24T08:30:00Z"},{"body":"2026-11-24T08:30:01Z"}]}""", 2)]
    [InlineData("{}", 0)]
    [InlineData("""{"Records":null}""", 0)]
    [InlineData("7", 0)]
    public async Task The_messages_of_an_event_are_counted_and_an_invocation_by_hand_has_none(string input, int wakeUps)
    {
        using var stream = new MemoryStream(Encoding.UTF8.GetBytes(input));
        Assert.Equal(wakeUps, await WakeUp.CountAsync(stream, Cancelled));
    }

    [Fact]
    public async Task The_password_is_asked_of_the_extension_with_the_sessions_token()
    {
        using var extension = new Extension(HttpStatusCode.OK, Secret("""{"username":"loader","password":"p-1"}"""));
        using var http = new HttpClient(extension);
        Assert.Equal("p-1", await Password(http).GetAsync(Cancelled));
        Assert.Equal("http://localhost:2773/secretsmanager/get?secretId=arn%3Aaws%3Asecret%3Aa%2Fb token-1", extension.Asked);
    }

    [Theory]
    [InlineData(HttpStatusCode.Forbidden, "s-1")]
    [InlineData(HttpStatusCode.OK, "s-1")]
    [InlineData(HttpStatusCode.OK, """{"SecretString":"s-1"}""")]
    [InlineData(HttpStatusCode.OK, """{"SecretString":"{\"secret\":\"s-1\"}"}""")]
    [InlineData(HttpStatusCode.OK, """{"SecretString":"{\"password\":7,\"secret\":\"s-1\"}"}""")]
    [InlineData(HttpStatusCode.OK, """{"SecretBinary":"s-1"}""")]
    public async Task A_password_that_is_not_there_is_an_error_that_shows_nothing_of_what_is(HttpStatusCode status, string body)
    {
        using var extension = new Extension(status, body);
        using var http = new HttpClient(extension);
        var error = await Assert.ThrowsAsync<IOException>(async () => await Password(http).GetAsync(Cancelled));
        Assert.DoesNotContain("s-1", error.ToString(), StringComparison.Ordinal);
    }

    private static WarehousePassword Password(HttpClient http) => new(new SecretsExtension(http, new Uri("http://localhost:2773"), "token-1"), "arn:aws:secret:a/b");

    private static string Secret(string content) => JsonSerializer.Serialize(new { ARN = "arn:aws:secret:a/b", SecretString = content });

    private static WakeUp Create(Harness harness, IMigrator migrator, NpgsqlDataSource database) => Create(harness, migrator, database, Sdk.CreateTracerProviderBuilder(), Sdk.CreateMeterProviderBuilder());

    private static WakeUp Create(Harness harness, IMigrator migrator, NpgsqlDataSource database, TracerProviderBuilder traces, MeterProviderBuilder metrics) =>
        new(harness.Loader, migrator, database, traces.Build(), metrics.Build(), harness.Options, harness.Time, NullLogger<WakeUp>.Instance);

    private sealed class FlushedSpans : BaseProcessor<Activity>
    {
        public int Times { get; private set; }

        protected override bool OnForceFlush(int timeoutMilliseconds) => ++Times > 0;
    }

    private sealed class FlushedMetrics : MetricReader
    {
        public int Times { get; private set; }

        protected override bool OnCollect(int timeoutMilliseconds) => ++Times > 0;
    }

    /// <summary>Never connected to: the warehouse is in memory.</summary>
    private static NpgsqlDataSource Nowhere() => NpgsqlDataSource.Create("Host=127.0.0.1;Port=1");

    private static async Task FilesAsync(Harness harness, int first, int count)
    {
        foreach (var n in Enumerable.Range(first, count))
        {
            await harness.Objects.PutAsync([Changes.Change($"o-{n}", n, 1)]);
        }
    }

    private sealed class Migrations : IMigrator
    {
        public int Runs { get; private set; }
        public Exception? Failure { get; set; }
        public bool HangsUntilCancelled { get; init; }

        public async Task MigrateAsync(CancellationToken cancellationToken)
        {
            Runs++;
            if (HangsUntilCancelled)
            {
                await Task.Delay(Timeout.Infinite, cancellationToken);
            }

            if (Failure is not null)
            {
                throw Failure;
            }
        }
    }

    private sealed class Extension(HttpStatusCode status, string body) : HttpMessageHandler
    {
        public string Asked { get; private set; } = "";

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            Asked = $"{request.RequestUri!.AbsoluteUri} {request.Headers.GetValues("X-Aws-Parameters-Secrets-Token").Single()}";
            return Task.FromResult(new HttpResponseMessage(status) { Content = new StringContent(body, Encoding.UTF8, "application/json") });
        }
    }
}
