using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Spectre.Console;

namespace Pipeline.Ops.Status;

/// <summary><c>status</c>: the command line around <see cref="StatusProbe"/>.</summary>
internal static class StatusCommand
{
    // For a request, of which there may be many: a local server that is up answers in milliseconds, and a person waits.
    private static readonly TimeSpan RequestTimeout = TimeSpan.FromSeconds(10);

    public static Command Create()
    {
        var endpoints = new Endpoints();
        var emulator = Options.Address(
            "--emulator", $"The Lambda emulator, which knows the oldest unread change. [default: {LocalDefaults.Emulator}; with --aws none]", null);
        var json = Options.Json();

        var command = new Command(
            "status",
            "Show where things are: items in the table, the oldest change that is not read yet, change files and quarantine in the bucket, "
            + "rows in the warehouse, the last load, how long writes took until their load began (the load itself comes on top), and files not yet loaded. The parts are asked while the pipeline works, so their numbers are "
            + "of slightly different instants. Exit code 0 when every part answered, 2 when one could not be reached (its row says why).")
        {
            emulator, json,
        };
        endpoints.AddTo(command, endpoints.Aws, endpoints.DynamoDb, endpoints.S3, endpoints.Table, endpoints.Bucket, endpoints.Warehouse);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var asJson = parsed.GetValue(json);
            using var dynamoClient = endpoints.DynamoDbOf(parsed, RequestTimeout, retries: 1);
            using var s3Client = endpoints.S3Of(parsed, RequestTimeout, retries: 1);
            var emulatorAddress = parsed.GetValue(emulator) ?? (parsed.GetValue(endpoints.Aws) ? null : new Uri(LocalDefaults.Emulator));
            using var emulatorClient = emulatorAddress is null ? null : new HttpClient { BaseAddress = emulatorAddress, Timeout = RequestTimeout };
            var probe = new StatusProbe(
                dynamoClient,
                endpoints.TableOf(parsed),
                s3Client,
                endpoints.BucketOf(parsed),
                endpoints.WarehouseOf(parsed),
                emulatorClient);

            var report = await probe.AskAsync(cancellationToken);
            Print(report, Terminal.Create(asJson), DateTimeOffset.UtcNow);
            if (asJson)
            {
                Console.Out.WriteLine(JsonSerializer.Serialize(report, StatusJsonContext.Default.StatusReport));
            }

            return report.Unreachable.Count == 0 ? 0 : 2;
        });
        return command;
    }

    private static void Print(StatusReport report, IAnsiConsole console, DateTimeOffset now)
    {
        var rows = new Table().Border(TableBorder.Simple).AddColumns("part", "where it stands");
        Row("table", report.Table is { } table ? $"{Number(table.Items)} items in {table.Name}" : null);
        Row("stream", report.Stream is { } stream
            ? string.Join("; ", [
                $"oldest unread change {stream.OldestUnreadMs / 1000.0:0.0} s",
                .. stream.Mappings.Select(mapping => $"{mapping.Function} {mapping.State}{(mapping.Problem is null ? "" : $" ({mapping.Problem})")}")])
            : null);
        Row("change_files", Files(report.ChangeFiles));
        Row("not_loaded", report.NotLoaded is { } missing ? $"{Number(missing.Files)} files{At(", oldest", missing.Oldest, missing.OldestAt)}" : null);
        Row("quarantine", Files(report.Quarantine));
        Row("warehouse", report.Warehouse is { } rowsOf
            ? $"{Number(rowsOf.Orders)} orders ({Number(rowsOf.Removed)} removed), {Number(rowsOf.OrderChanges)} changes, {Number(rowsOf.WaitingChanges)} waiting, "
              + $"{Number(rowsOf.FilesLoaded)} files loaded, {Number(rowsOf.FilesFailing)} failing"
            : null);
        Row("last_load", report.Warehouse is { } loaded
            ? loaded.LastLoadAt is { } at ? $"{Number(loaded.LastLoadRows)} rows, {Ago(at)}" : "none yet"
            : null);
        Row("freshness", report.Warehouse is { } shown
            ? shown.Freshness is { } fresh
                ? string.Create(CultureInfo.InvariantCulture, $"p50 {fresh.P50:0.00} s, p95 {fresh.P95:0.00} s, p99 {fresh.P99:0.00} s from write to the beginning of its load, of {fresh.Writes:N0} writes in the last hour")
                : "no writes in the last hour"
            : null);
        console.Write(rows);

        void Row(string part, string? text)
        {
            if (report.Unreachable.TryGetValue(part, out var reason))
            {
                rows.AddRow(new Text(part), new Text($"not reachable: {reason}", new Style(Color.Red)));
            }
            else if (text is not null)
            {
                rows.AddRow(new Text(part), new Text(text));
            }
        }

        string? Files(FilesStatus? files) => files is null
            ? null
            : $"{Number(files.Files)} objects, {Number(files.Bytes)} bytes{At(", newest", files.Newest, files.NewestAt)}";

        string At(string what, string? key, DateTimeOffset? at) => at is { } instant ? $"{what} {Ago(instant)} ({key})" : "";

        string Ago(DateTimeOffset at) => string.Create(
            CultureInfo.InvariantCulture, $"{at.UtcDateTime:yyyy-MM-dd HH:mm:ss}Z, {(now - at).TotalSeconds:0} s ago");
    }

    private static string Number(long number) => number.ToString("N0", CultureInfo.InvariantCulture);
}
