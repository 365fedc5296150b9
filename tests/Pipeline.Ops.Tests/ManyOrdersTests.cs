using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Pipeline.Core;
using Pipeline.Ops.Backfill;
using Pipeline.Ops.Reconcile;

namespace Pipeline.Ops.Tests;

/// <summary>
/// A table of many orders is brought in by a backfill and compared; then one character, one row more, one row less and one stale
/// version are found among all of them. PIPELINE_ORDERS says how many (a million take eight minutes on two idle cores).
/// </summary>
public class ManyOrdersTests(OpsServers servers)
{
    internal const string CountSetting = "PIPELINE_ORDERS";

    private const int ByDefault = 2_000;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Four_small_differences_are_found_among_many_orders()
    {
        var count = int.Parse(Environment.GetEnvironmentVariable(CountSetting) ?? $"{ByDefault}", CultureInfo.InvariantCulture);
        await using var world = await servers.CreateWorldAsync();
        var filled = await new TableFiller(world).FillAsync(count, seed: 1, Cancelled);
        Tell($"{count:N0} orders written to the table in {filled.TotalSeconds:0.0} s");

        var watch = Stopwatch.StartNew();
        using (var run = new BackfillRun(
            world.Objects, new TableSource(new OrderTable(world.Dynamo, world.Table, new ReadBudget(null, TimeProvider.System)), World.Protector), 4,
            ObjectKeys.BackfillState(world.Table), TimeProvider.System))
        {
            var report = await run.RunAsync(restart: false, Cancelled);
            Assert.Equal((count, 0), (report.Snapshots, report.Undecodable));
            Tell($"backfill: {report.Files:N0} files in {report.Seconds:0.0} s");
        }

        watch.Restart();
        await world.LoadAsync();
        Tell($"loaded in {watch.Elapsed.TotalSeconds:0.0} s");
        await world.ExecuteAsync("ANALYZE");

        var equal = await ReconcileAsync(world, exitCode: 0);
        Assert.Equal(Verdict.Equal, equal.Result);
        Assert.Equal((count, count), (equal.Table.Orders, equal.Warehouse.Orders));
        Assert.Equal(equal.Table.Digest, equal.Warehouse.Digest);

        // One of each, somewhere.
        var random = new Random(count);
        var chosen = Enumerable.Range(0, 4).Select(quarter => TableFiller.OrderId(1, (quarter * (count / 4)) + random.Next(count / 4))).ToList();
        var (changed, deleted, stale, like) = (chosen[0], chosen[1], chosen[2], chosen[3]);
        await world.ExecuteAsync($"""
            UPDATE orders SET document = replace(document::text, '"currency":"BRL"', '"currency":"BRK"')::json WHERE order_id = '{changed}';
            DELETE FROM orders WHERE order_id = '{deleted}';
            UPDATE orders SET version = version - 1 WHERE order_id = '{stale}';
            CREATE TEMPORARY TABLE extra ON COMMIT DROP AS SELECT * FROM orders WHERE order_id = '{like}';
            UPDATE extra SET order_id = 'nobody-ordered-this';
            INSERT INTO orders SELECT * FROM extra;
            """);

        var different = await ReconcileAsync(world, exitCode: 1);
        Assert.Equal(Verdict.Different, different.Result);
        Assert.Equal(
            new[]
            {
                (changed, DifferenceKind.Different), (deleted, DifferenceKind.Missing), ("nobody-ordered-this", DifferenceKind.Extra), (stale, DifferenceKind.Older),
            }.OrderBy(one => one.Item1, StringComparer.Ordinal),
            different.Differences.Listed.Select(one => (one.OrderId, one.Kind)).OrderBy(one => one.OrderId, StringComparer.Ordinal));
        Assert.InRange(different.Cost.TableBytes, count * 500L, count * 5_000L);
        Assert.InRange(different.Cost.WarehouseBytes, 1, 10_000_000);
        Assert.Equal(["document"], different.Differences.Listed.Single(one => one.OrderId == changed).Fields);

        // However many orders: it keeps a digest for each bucket.
        Assert.InRange(different.Cost.PeakMemoryBytes, 1, 500_000_000);
    }

    /// <summary>The command in a process of its own, as operators start it: its memory is that of the comparison and nothing else.</summary>
    private async Task<Certificate> ReconcileAsync(World world, int exitCode)
    {
        var start = new ProcessStartInfo(
            "dotnet",
            [
                typeof(Reconciliation).Assembly.Location, "reconcile", "--json", "--segments", "4", "--deadline", "2s", "--temp", world.Temporary,
                "--dynamodb", servers.DynamoDbUrl, "--s3", servers.S3Url, "--table", world.Table, "--bucket", world.Bucket, "--warehouse", world.Warehouse,
            ])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (name, value) in OpsServers.Credentials)
        {
            start.Environment[name] = value;
        }

        start.Environment[Names.Settings.PersonalDataKey] = World.PersonalDataKey;

        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync(Cancelled);
        var error = process.StandardError.ReadToEndAsync(Cancelled);
        await process.WaitForExitAsync(Cancelled);
        Assert.True(process.ExitCode == exitCode, $"reconcile ended with code {process.ExitCode} instead of {exitCode}:\n{await error}\n{await output}");
        Tell($"reconcile: {await output}");
        return JsonSerializer.Deserialize(await output, CertificateJsonContext.Default.Certificate)!;
    }

    private static void Tell(FormattableString text) => TestContext.Current.TestOutputHelper?.WriteLine(text.ToString(CultureInfo.InvariantCulture));
}
