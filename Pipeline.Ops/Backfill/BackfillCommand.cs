using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Amazon.S3;
using Pipeline.Core;
using Pipeline.Loader;
using Spectre.Console;

namespace Pipeline.Ops.Backfill;

/// <summary><c>backfill</c>: the command line around a <see cref="BackfillRun"/>.</summary>
internal static class BackfillCommand
{
    private const int Failed = 2;

    public static Command Create()
    {
        var endpoints = new Endpoints();
        var export = new Option<string?>("--export")
        {
            Description = "Read this export of the table instead of the table: the folder with manifest-summary.json, here or as s3://bucket/prefix/AWSDynamoDB/ID.",
            HelpName = "PLACE",
        };
        var segments = Options.Segments();
        var rate = Options.Rate();
        var restart = new Option<bool>("--restart") { Description = "Begin anew instead of going on with an interrupted backfill. Both are harmless." };
        var temporary = Options.Temporary("for data files of an export");
        var json = Options.Json();
        segments.MustBeIn(1, 256);
        var command = new Command(
            "backfill",
            "Bring the table's items into the warehouse while changes flow: each becomes a snapshot in a change file, which never overwrites a newer change. "
            + "An interrupted run goes on when the command is given again. Exit code 0 when every item is in a file, 1 when some cannot be decoded (they are named; "
            + "mend them in the table), 2 when the table or the bucket was away. Then let reconcile prove it.")
        {
            export, segments, rate, restart, temporary, json,
        };
        endpoints.AddTo(command, endpoints.Aws, endpoints.DynamoDb, endpoints.S3, endpoints.Table, endpoints.Bucket, endpoints.PersonalDataKey);
        command.SetAction((parsed, cancellationToken) => Terminal.GuardAsync(Failed, async () =>
        {
            var console = Terminal.Create(parsed.GetValue(json));
            var table = endpoints.TableOf(parsed);
            using var protector = endpoints.PersonalDataOf(parsed);
            using var dynamo = endpoints.DynamoDbOf(parsed, Terminal.RequestTimeout, Terminal.RequestRetries);
            using var s3 = endpoints.S3Of(parsed, Terminal.RequestTimeout, Terminal.RequestRetries);
            var budget = new ReadBudget(parsed.GetValue(rate) ?? (parsed.GetValue(endpoints.Aws) ? Options.RateOnAws : null), TimeProvider.System);
            IBackfillSource source = parsed.GetValue(export) is { } place
                ? new ExportSource(Open(place, s3), protector, Options.TemporaryOf(parsed, temporary))
                : new TableSource(new OrderTable(dynamo, table, budget), protector);
            using var run = new BackfillRun(
                new S3ObjectStore(s3, endpoints.BucketOf(parsed)), source, parsed.GetValue(segments), ObjectKeys.BackfillState(table), TimeProvider.System);

            var report = await Terminal.WatchAsync(
                console, run.RunAsync(parsed.GetValue(restart), cancellationToken), () => run.Items, () => run.ItemsAbout,
                () => string.Create(CultureInfo.InvariantCulture, $"{run.Items:N0} of about {run.ItemsAbout:N0} items"));
            Print(report, console);
            if (parsed.GetValue(json))
            {
                Console.Out.WriteLine(JsonSerializer.Serialize(report, BackfillJsonContext.Default.BackfillReport));
            }

            return report.Undecodable == 0 ? 0 : 1;
        }));
        return command;
    }

    private static OpenExportFile Open(string place, IAmazonS3 s3)
    {
        if (!place.StartsWith("s3://", StringComparison.Ordinal))
        {
            return ExportSource.InFolder(place);
        }

        var (bucket, prefix) = place["s3://".Length..].Split('/', 2) is [{ Length: > 0 } first, { Length: > 0 } rest]
            ? (first, rest)
            : throw new OperatorException($"--export takes a folder or s3://bucket/prefix/AWSDynamoDB/ID, not {place}.");
        return ExportSource.InBucket(s3, bucket, prefix);
    }

    private static void Print(BackfillReport report, IAnsiConsole console)
    {
        console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{report.Snapshots:N0} items in {report.Files:N0} change files{(report.Resumed ? " (gone on with an interrupted run)" : "")}, {report.Seconds:0.0} s."));
        if (report.Undecodable > 0)
        {
            console.MarkupLine(string.Create(CultureInfo.InvariantCulture, $"[red]{report.Undecodable:N0} items cannot be decoded[/] and are not in the files:"));
            foreach (var item in report.Examples)
            {
                console.WriteLine($"  {item.OrderId}: {item.Reason}");
            }
        }
    }
}
