using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Npgsql;
using Pipeline.Loader;
using Spectre.Console;

namespace Pipeline.Ops.Compact;

/// <summary><c>compact</c>: the command line around a <see cref="CompactRun"/>.</summary>
internal static class CompactCommand
{
    private const int Failed = 2;

    /// <summary>The stream keeps a change for 24 hours, so a file for an hour before that is not written any more; two hours for clocks.</summary>
    private static readonly TimeSpan OlderThanByDefault = TimeSpan.FromHours(26);

    /// <summary>Keys of one statement.</summary>
    private const int KeysMax = 500;

    public static Command Create()
    {
        var endpoints = new Endpoints();
        var olderThan = Options.Time("--older-than", "Only hours that ended so long ago, so never the present one: no more files come to them.", OlderThanByDefault);
        var rows = new Option<int>("--rows")
        {
            Description = "Changes of a large file (1000 to 50000). A load has one file at least, and new changes wait for it.",
            HelpName = "N",
            DefaultValueFactory = _ => CompactLimits.RowsByDefault,
        };
        var dryRun = new Option<bool>("--dry-run") { Description = "Count what would be merged, and change nothing." };
        var json = Options.Json();
        rows.MustBeIn(1_000, 50_000);
        var command = new Command(
            "compact",
            "Merge the small change files of past hours into large ones with the same changes, so that listings and rebuilds are faster. Only files that "
            + "the warehouse's ledger has are merged. It may be stopped at any time and given again; one at a time, and not while a rebuild or a replay runs. Exit code 0 when all is merged, 1 when files "
            + "were left alone because they are gone, unreadable or changed, 2 when the store or the warehouse was away.")
        {
            olderThan, rows, dryRun, json,
        };
        endpoints.AddTo(command, endpoints.Aws, endpoints.S3, endpoints.Bucket, endpoints.Warehouse);
        command.SetAction((parsed, cancellationToken) => Terminal.GuardAsync(Failed, async () =>
        {
            var console = Terminal.Create(parsed.GetValue(json));
            using var s3 = endpoints.S3Of(parsed, Terminal.RequestTimeout, Terminal.RequestRetries);
            var bucket = endpoints.BucketOf(parsed);
            var objects = new S3ObjectStore(s3, bucket);
            var connectionString = endpoints.WarehouseOf(parsed) ?? throw Terminal.NoWarehouse();
            var isRedshift = RedshiftWarehouse.IsMeant(connectionString);
            await using var database = isRedshift
                ? RedshiftWarehouse.DataSource(connectionString, password: null)
                : NpgsqlDataSource.Create(PostgresWarehouse.ConnectionString(connectionString));

            // Nothing is copied here, so no role for COPY is needed.
            IWarehouse warehouse = isRedshift ? new RedshiftWarehouse(database, objects, bucket, copyRole: "") : new PostgresWarehouse(database);
            var run = new CompactRun(
                objects, warehouse, (keys, ct) => ForgetAsync(database, keys, ct), TimeProvider.System.GetUtcNow() - parsed.GetValue(olderThan),
                new CompactLimits(parsed.GetValue(rows)), parsed.GetValue(dryRun));
            var report = await Terminal.WatchAsync(
                console, run.RunAsync(cancellationToken), () => run.Done, () => run.Listed,
                () => string.Create(CultureInfo.InvariantCulture, $"{run.Done:N0} of {run.Listed:N0} files listed so far"));
            console.WriteLine(report.DryRun
                ? string.Create(CultureInfo.InvariantCulture, $"{report.Merged:N0} of {report.Files:N0} files in past hours, with {report.BytesBefore:N0} bytes, may be merged; {report.NotLoaded:N0} are not loaded.")
                : string.Create(CultureInfo.InvariantCulture, $"{report.Merged:N0} of {report.Files:N0} files in past hours became {report.Into:N0}, {report.BytesBefore:N0} bytes {report.BytesAfter:N0}; {report.NotLoaded:N0} are not loaded, {report.LeftAlone:N0} were left alone."));
            if (parsed.GetValue(json))
            {
                Console.Out.WriteLine(JsonSerializer.Serialize(report, CompactJsonContext.Default.CompactReport));
            }

            return report.LeftAlone == 0 ? 0 : 1;
        }));
        return command;
    }

    /// <summary>In the SQL that both dialects know: Redshift has no array parameters.</summary>
    /// <exception cref="WarehouseException">Some may be forgotten; it may be called again.</exception>
    internal static Task ForgetAsync(NpgsqlDataSource database, IReadOnlyList<string> keys, CancellationToken cancellationToken) => SqlWarehouse.CallAsync(async () =>
    {
        var forgotten = 0;
        foreach (var chunk in keys.Chunk(KeysMax))
        {
            await using var command = database.CreateCommand(
                $"DELETE FROM load_ledger WHERE object_key IN ({string.Join(", ", chunk.Select((_, i) => string.Create(CultureInfo.InvariantCulture, $"${i + 1}")))})");
            foreach (var key in chunk)
            {
                command.Parameters.Add(new() { Value = key });
            }

            forgotten += await command.ExecuteNonQueryAsync(cancellationToken);
        }

        return forgotten;
    });
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true)]
[JsonSerializable(typeof(CompactReport))]
internal sealed partial class CompactJsonContext : JsonSerializerContext;
