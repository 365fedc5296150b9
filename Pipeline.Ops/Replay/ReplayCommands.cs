using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.Extensions.Logging;
using Npgsql;
using Pipeline.Loader;
using Spectre.Console;

namespace Pipeline.Ops.Replay;

/// <summary><c>replay</c> and <c>rebuild</c>: change files into the warehouse, once more or from nothing.</summary>
internal static class ReplayCommands
{
    private const int Failed = 2;

    /// <summary>
    /// The other loader waits for at most one such load, some 0.1 s, so that new changes stay fresh. A larger file is loaded alone.
    /// </summary>
    private static readonly LoadLimits BesideALiveLoader = new(BytesMax: 1L << 20, FilesMax: 50, RowsMax: 2_000);

    public static Command CreateReplay()
    {
        var endpoints = new Endpoints();
        var from = Instant(
            "--from",
            "The first hour: a time in UTC like 2026-11-24T08:00Z, or a date, which begins at midnight. Files lie in the hour of their first change; those "
            + "of a backfill, a repair or a redrive in the hour in which they were written.",
            ofDate: TimeSpan.Zero);
        var to = Instant("--to", "The last hour, included: a time, or a date, all of it.", ofDate: TimeSpan.FromHours(23));
        var all = new Option<bool>("--all") { Description = "All change files there are, instead of --from and --to." };
        var json = Options.Json();
        var command = new Command(
            "replay",
            "Load the change files of a time again, whether they are loaded or not, while the loader goes on. What the warehouse has stays as it "
            + "is; changes that it lost come back. (Orders that were deleted and whose changes are still there come back with reconcile --repair.) Exit code 0 when all of them are loaded, 1 when some cannot be (see load_failures), 2 when the store or "
            + "the warehouse was away.")
        {
            from, to, all, json,
        };
        endpoints.AddTo(command, endpoints.Aws, endpoints.S3, endpoints.Bucket, endpoints.Warehouse);
        command.Validators.Add(result =>
        {
            var bounds = (result.GetResult(from) is null ? 0 : 1) + (result.GetResult(to) is null ? 0 : 1);
            if (result.GetValue(all) ? bounds != 0 : bounds != 2)
            {
                result.AddError("Say which files: --from TIME --to TIME, or --all.");
            }
        });
        command.SetAction((parsed, cancellationToken) => Terminal.GuardAsync(Failed, () =>
        {
            // Not a validator: the library throws when one asks for a value that could not be parsed.
            var range = new HourRange(parsed.GetValue(from), parsed.GetValue(to));
            return range.From > range.To
                ? throw new OperatorException("--from is later than --to.")
                : RunAsync(parsed, endpoints, json, range, isRebuild: false, cancellationToken);
        }));
        return command;
    }

    public static Command CreateRebuild()
    {
        var endpoints = new Endpoints();
        var json = Options.Json();
        var command = new Command(
            "rebuild",
            "Fill an empty warehouse from the change files alone. Its schema is made. An interrupted rebuild goes on when the command is given again; "
            + "a warehouse that is not empty is refused. Exit code 0 when all files are loaded, 1 when some cannot be (see load_failures), 2 when it was "
            + "refused or the store or the warehouse was away.")
        {
            json,
        };
        endpoints.AddTo(command, endpoints.Aws, endpoints.S3, endpoints.Bucket, endpoints.Warehouse);
        command.SetAction((parsed, cancellationToken) => Terminal.GuardAsync(Failed, () => RunAsync(
            parsed, endpoints, json, new HourRange(null, null), isRebuild: true, cancellationToken)));
        return command;
    }

    private static async Task<int> RunAsync(
        ParseResult parsed, Endpoints endpoints, Option<bool> json, HourRange range, bool isRebuild, CancellationToken cancellationToken)
    {
        var console = Terminal.Create(parsed.GetValue(json));
        using var logging = LoggerFactory.Create(builder => builder
            .SetMinimumLevel(LogLevel.Warning)
            .AddSimpleConsole(format => format.SingleLine = true)
            .AddConsole(output => output.LogToStandardErrorThreshold = LogLevel.Trace));
        using var s3 = endpoints.S3Of(parsed, Terminal.RequestTimeout, Terminal.RequestRetries);
        await using var database = Open(endpoints.WarehouseOf(parsed) ?? throw Terminal.NoWarehouse());
        if (isRebuild && await EmptyWarehouse.ClaimAsync(database, new Migrator(database, logging.CreateLogger<Migrator>()), cancellationToken))
        {
            console.WriteLine("Going on with an interrupted rebuild.");
        }

        using var run = new LoadRun(
            database, new S3ObjectStore(s3, endpoints.BucketOf(parsed)), range, ignoreLedger: !isRebuild,
            isRebuild ? new LoadLimits() : BesideALiveLoader, logging, TimeProvider.System);
        var report = await Terminal.WatchAsync(
            console, run.RunAsync(cancellationToken), () => run.FilesRead, () => run.Files,
            () => string.Create(CultureInfo.InvariantCulture, $"{run.FilesRead:N0} of {run.Files:N0} files, {run.NewChanges:N0} new changes"));
        if (isRebuild && report.IsComplete)
        {
            await EmptyWarehouse.FinishAsync(database, cancellationToken);
        }

        console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{report.Files:N0} files loaded, with {report.NewChanges:N0} changes that the warehouse did not have; {report.FailingFiles:N0} files cannot be loaded."));
        if (report.GoneFiles > 0)
        {
            console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{report.GoneFiles:N0} files were gone when they were to be read: a compaction has put them into others. Give the command again when it has ended."));
        }

        if (parsed.GetValue(json))
        {
            Console.Out.WriteLine(JsonSerializer.Serialize(report, ReplayJsonContext.Default.LoadReport));
        }

        return report.IsComplete ? 0 : 1;
    }

    /// <exception cref="OperatorException">It is none of a PostgreSQL database.</exception>
    internal static NpgsqlDataSource Open(string connectionString)
    {
        try
        {
            if (RedshiftWarehouse.IsMeant(connectionString))
            {
                throw new OperatorException(
                    "replay and rebuild load into PostgreSQL only, and this connection string is one of Redshift: there, let the loader load the files "
                    + "(again), as docs/reconcile.md says.");
            }

            return NpgsqlDataSource.Create(PostgresWarehouse.ConnectionString(connectionString));
        }
        catch (ArgumentException e)
        {
            throw new OperatorException($"The warehouse's connection string is not one: {e.Message}", e);
        }
    }

    /// <param name="name">Of the option.</param>
    /// <param name="description">For --help.</param>
    /// <param name="ofDate">Which time of the day a date without one means.</param>
    private static Option<DateTimeOffset?> Instant(string name, string description, TimeSpan ofDate) => new(name)
    {
        Description = description,
        HelpName = "TIME",
        CustomParser = result =>
        {
            var text = result.Tokens.Single().Value;
            if (DateOnly.TryParseExact(text, "yyyy-MM-dd", CultureInfo.InvariantCulture, DateTimeStyles.None, out var date))
            {
                return new DateTimeOffset(date.ToDateTime(TimeOnly.MinValue) + ofDate, TimeSpan.Zero);
            }

            if (DateTimeOffset.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out var time))
            {
                return time;
            }

            result.AddError($"{name} takes a time like 2026-11-24T08:00Z or a date like 2026-11-24, not {text}.");
            return null;
        },
    };
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true)]
[JsonSerializable(typeof(LoadReport))]
internal sealed partial class ReplayJsonContext : JsonSerializerContext;
