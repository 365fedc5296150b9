using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Npgsql;

namespace Pipeline.IntegrationTests;

/// <summary>The operator's commands against the running pipeline: compare, bring in, load again, build anew.</summary>
[Collection(nameof(WholePipeline))]
public class OperationsTests(PipelineFixture pipeline)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Reconcile_writes_a_certificate_and_names_what_was_tampered_with_and_repairs_it()
    {
        var changes = await pipeline.ChangesAsync(Cancelled);
        var orderId = await pipeline.CreateOrderAsync(Cancelled);
        await pipeline.AwaitEqualAsync(changes + 1, Cancelled);
        await ExecuteAsync("update orders set document = replace(document::text, 'p-1', 'p-9')::json where order_id = $1", orderId);
        var file = Path.Combine(Path.GetTempPath(), $"certificate-{Guid.NewGuid():N}.json");

        try
        {
            await pipeline.OpsAsync(["reconcile", "--deadline", "1s", "--certificate", file], Cancelled, exitCode: 1);
            using (var certificate = JsonDocument.Parse(await File.ReadAllTextAsync(file, Cancelled)))
            {
                var difference = certificate.RootElement.GetProperty("differences").GetProperty("listed").EnumerateArray().Single();
                Assert.Equal((orderId, "different"), (difference.GetProperty("order_id").GetString(), difference.GetProperty("kind").GetString()));
                Assert.Equal("different", certificate.RootElement.GetProperty("result").GetString());
            }
        }
        finally
        {
            File.Delete(file);
        }

        // What differs may be on its way, so it is repaired when the deadline has passed; the loader's next sweep finds the repair.
        using var repaired = JsonDocument.Parse(await pipeline.OpsAsync(["reconcile", "--repair", "--deadline", "10s", "--json"], Cancelled));
        Assert.Equal("equal", repaired.RootElement.GetProperty("result").GetString());
        Assert.Equal(1, repaired.RootElement.GetProperty("repair").GetProperty("orders").GetInt64());
        await pipeline.AwaitEqualAsync(changes + 2, Cancelled);
    }

    [Fact]
    public async Task Reconcile_cannot_tell_when_a_side_is_away()
    {
        var output = await pipeline.OpsAsync(
            ["reconcile", "--warehouse", "Host=127.0.0.1;Port=1;Database=x;Username=x;Timeout=2"], Cancelled, exitCode: 2, withErrors: true);

        Assert.Contains("127.0.0.1:1", output, StringComparison.Ordinal);
        Assert.Contains("--rate takes a number", await pipeline.OpsAsync(["reconcile", "--rate", "0"], Cancelled, exitCode: 2, withErrors: true), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_backfill_while_orders_flow_ends_equal()
    {
        // Until they are told to stop: so the backfills are in the middle of it, however long they take.
        using var stop = new CancellationTokenSource();
        var hasBegun = new TaskCompletionSource();
        var writing = Task.WhenAll(Enumerable.Range(0, 2).Select(_ => WriteAsync()));
        try
        {
            await await Task.WhenAny(hasBegun.Task, writing);
            await pipeline.OpsAsync(["backfill", "--segments", "3"], Cancelled);
            await pipeline.OpsAsync(["backfill"], Cancelled);
        }
        finally
        {
            await stop.CancelAsync();
            await writing;
        }

        async Task WriteAsync()
        {
            for (var n = 0; !stop.IsCancellationRequested; n++)
            {
                var orderId = await pipeline.CreateOrderAsync(Cancelled, $"flow-{Guid.NewGuid():N}");
                await pipeline.ChangeStatusAsync(orderId, "approved", version: 1, Cancelled);
                if (n == 10)
                {
                    hasBegun.TrySetResult();
                }
            }
        }

        // Snapshots may be in the history or known already, so the changes are not counted.
        await pipeline.OpsAsync(["reconcile", "--deadline", "100s"], Cancelled);
        Assert.Empty(await TableAndWarehouse.DifferencesAsync(pipeline.DynamoDb, Core.Names.Table, pipeline.PersonalDataKey, pipeline.Warehouse, Cancelled));
        await FilesAreLoadedAsync();
    }

    [Fact]
    public async Task A_rebuild_from_the_bucket_alone_gives_the_same_digest()
    {
        await SomeOrdersAsync("rebuild", 30);
        await FilesAreLoadedAsync();
        var connectionString = await pipeline.CreateDatabaseAsync("rebuilt", Cancelled);

        await pipeline.OpsAsync(["rebuild", "--warehouse", connectionString], Cancelled);

        await using var rebuilt = NpgsqlDataSource.Create(connectionString);
        Assert.Equal(await pipeline.DigestOfWarehouseAsync(Cancelled), await pipeline.DigestOfWarehouseAsync(Cancelled, database: rebuilt));
        await pipeline.OpsAsync(["reconcile", "--warehouse", connectionString, "--deadline", "10s"], Cancelled);
        Assert.Contains(
            "The warehouse is not empty",
            await pipeline.OpsAsync(["rebuild", "--warehouse", connectionString], Cancelled, exitCode: 2, withErrors: true),
            StringComparison.Ordinal);
    }

    /// <summary>
    /// PIPELINE_REPLAY_CHANGES says how many changes to write first, for a long run by hand on an idle machine: there the bound is
    /// twice the idle freshness, as it was asked for. Otherwise it leaves room for a machine that has more to do than this.
    /// </summary>
    [Fact]
    public async Task A_replay_of_everything_leaves_old_orders_as_they_are_and_new_ones_fresh()
    {
        var many = int.Parse(Environment.GetEnvironmentVariable("PIPELINE_REPLAY_CHANGES") ?? "0", CultureInfo.InvariantCulture);
        var (samples, slack) = many > 0 ? (100, 0) : (10, 1.0);
        await SomeOrdersAsync("replay", 60);
        if (many > 0)
        {
            var changes = await pipeline.ChangesAsync(Cancelled);
            // An order has some four changes.
            await pipeline.AwaitEqualAsync(changes + (await pipeline.SeedAsync(["--generate", $"{many / 4}", "--seed", "71"], Cancelled)).AcceptedWrites, Cancelled);
        }

        await FilesAreLoadedAsync();
        var old = await pipeline.ChangesAsync(Cancelled);
        var before = await pipeline.DigestOfWarehouseAsync(Cancelled);
        var idle = new List<double>();
        while (idle.Count < samples)
        {
            idle.Add(await FreshnessAsync());
        }

        var busy = new List<double>();
        var replays = new List<double>();
        long files = 0;
        while (busy.Count < samples)
        {
            var watch = Stopwatch.StartNew();
            var replaying = pipeline.OpsAsync(["replay", "--all", "--json"], Cancelled);
            while (!replaying.IsCompleted)
            {
                busy.Add(await FreshnessAsync());
            }

            using var report = JsonDocument.Parse(await replaying);
            replays.Add(watch.Elapsed.TotalSeconds);
            Assert.Equal(0, report.RootElement.GetProperty("failing_files").GetInt64());
            files = report.RootElement.GetProperty("files").GetInt64();
        }

        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"""
            {replays.Count} replays of {old} changes and more in {files} files, each in {Median(replays):0.0} s.
            Seconds until the warehouse shows a new order, in the median, 95 of 100 and at most:
              idle              {Median(idle):0.00} {Percentile(idle, 95):0.00} {idle.Max():0.00} ({idle.Count} orders)
              during a replay   {Median(busy):0.00} {Percentile(busy, 95):0.00} {busy.Max():0.00} ({busy.Count} orders)
            """));
        Assert.True(files > 10);
        Assert.InRange(Median(busy), 0, (2 * Median(idle)) + slack);
        Assert.Equal(before, await pipeline.DigestOfWarehouseAsync(Cancelled, except: "fresh-%"));
    }

    /// <summary>Seconds from the answer of the API until the warehouse shows the order.</summary>
    private async Task<double> FreshnessAsync()
    {
        var orderId = await pipeline.CreateOrderAsync(Cancelled, $"fresh-{Guid.NewGuid():N}");
        var watch = Stopwatch.StartNew();
        await Eventually.TrueAsync(
            async () => await pipeline.ScalarAsync<long>("select count(*) from orders where order_id = $1", Cancelled, orderId) == 1,
            PipelineFixture.FreshnessDeadline,
            () => "the order is in the warehouse",
            Cancelled);
        return watch.Elapsed.TotalSeconds;
    }

    private async Task SomeOrdersAsync(string prefix, int count)
    {
        var changes = await pipeline.ChangesAsync(Cancelled);
        for (var n = 0; n < count; n++)
        {
            var orderId = await pipeline.CreateOrderAsync(Cancelled, $"{prefix}-{Guid.NewGuid():N}");
            await pipeline.ChangeStatusAsync(orderId, "approved", version: 1, Cancelled);
        }

        await pipeline.AwaitEqualAsync(changes + (2 * count), Cancelled);
    }

    /// <summary>Files of a backfill and of repairs are found by the sweep; the tests after this one count changes.</summary>
    private Task FilesAreLoadedAsync() => Eventually.TrueAsync(
        async () => (await pipeline.ReadObjectsAsync(Core.Names.ChangesPrefix, Cancelled)).Count
            == await pipeline.ScalarAsync<long>("select count(distinct object_key) from load_ledger", Cancelled),
        PipelineFixture.CatchUpDeadline,
        () => "every change file is in the ledger",
        Cancelled);

    private static double Median(List<double> values) => Percentile(values, 50);

    /// <summary>The smallest value that at least so many percent of them do not exceed.</summary>
    private static double Percentile(List<double> values, int percent) => values.Order().ElementAt((((values.Count * percent) + 99) / 100) - 1);

    private async Task ExecuteAsync(string sql, string parameter)
    {
        await using var command = pipeline.Warehouse.CreateCommand(sql);
        command.Parameters.Add(new NpgsqlParameter { Value = parameter });
        await command.ExecuteNonQueryAsync(Cancelled);
    }
}
