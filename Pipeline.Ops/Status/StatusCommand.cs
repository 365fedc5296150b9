using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Amazon.S3;
using Pipeline.Core;
using Pipeline.NativeServers;
using Spectre.Console;

namespace Pipeline.Ops.Status;

/// <summary><c>status</c>: the command line around <see cref="StatusProbe"/>.</summary>
internal static class StatusCommand
{
    // For a request, of which there may be many: a local server that is up answers in milliseconds, and a person waits.
    private static readonly TimeSpan RequestTimeout = TimeSpan.FromSeconds(10);

    public static Command Create()
    {
        var aws = new Option<bool>("--aws")
        {
            Description = "Ask AWS, with the environment's region and credentials, instead of the local AppHost's servers.",
        };
        var dynamoDb = Endpoint("--dynamodb", "DynamoDB", "AWS_ENDPOINT_URL_DYNAMODB", LocalDefaults.DynamoDb);
        var s3 = Endpoint("--s3", "S3", "AWS_ENDPOINT_URL_S3", LocalDefaults.S3);
        var emulator = Options.Address(
            "--emulator", $"The Lambda emulator, which knows the oldest unread change. [default: {LocalDefaults.Emulator}; with --aws none]", null);
        var table = new Option<string?>("--table")
        {
            Description = $"The orders' table. [default: {Names.Settings.TableName}, else {Names.Table}]",
            HelpName = "NAME",
        };
        var bucket = new Option<string?>("--bucket")
        {
            Description = $"The pipeline's bucket. [default: {Names.Settings.BucketName}, else {LocalDefaults.Bucket}; with --aws it must be given]",
            HelpName = "NAME",
        };
        var warehouse = Options.Warehouse("; with --aws it must be given");
        var json = Options.Json();

        var command = new Command(
            "status",
            "Show where things are: items in the table, the oldest change that is not read yet, change files and quarantine in the bucket, "
            + "rows in the warehouse, the last load, and files not yet loaded. The parts are asked while the pipeline works, so their numbers are "
            + "of slightly different instants. Exit code 0 when every part answered, 2 when one could not be reached (its row says why).")
        {
            aws, dynamoDb, s3, emulator, table, bucket, warehouse, json,
        };
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var onAws = parsed.GetValue(aws);
            var asJson = parsed.GetValue(json);
            var bucketName = parsed.GetValue(bucket) ?? Options.Setting(Names.Settings.BucketName) ?? (onAws ? null : LocalDefaults.Bucket);
            if (bucketName is null)
            {
                await Console.Error.WriteLineAsync($"With --aws the bucket must be given: --bucket NAME, or {Names.Settings.BucketName}.");
                return 1;
            }

            using var dynamoClient = Client(
                new AmazonDynamoDBConfig(), parsed.GetValue(dynamoDb), onAws, LocalDefaults.DynamoDb,
                (config, credentials) => credentials is null ? new AmazonDynamoDBClient(config) : new AmazonDynamoDBClient(credentials, config));
            using var s3Client = Client(
                new AmazonS3Config { ForcePathStyle = !onAws }, parsed.GetValue(s3), onAws, LocalDefaults.S3,
                (config, credentials) => credentials is null ? new AmazonS3Client(config) : new AmazonS3Client(credentials, config));
            var emulatorAddress = parsed.GetValue(emulator) ?? (onAws ? null : new Uri(LocalDefaults.Emulator));
            using var emulatorClient = emulatorAddress is null ? null : new HttpClient { BaseAddress = emulatorAddress, Timeout = RequestTimeout };
            var probe = new StatusProbe(
                dynamoClient,
                parsed.GetValue(table) ?? Options.Setting(Names.Settings.TableName) ?? Names.Table,
                s3Client,
                bucketName,
                parsed.GetValue(warehouse) ?? Options.Setting(Options.WarehouseSetting) ?? (onAws ? null : LocalDefaults.Warehouse()),
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

    private static Option<Uri?> Endpoint(string name, string service, string setting, string local) =>
        Options.Address(name, $"{service}'s endpoint. [default: {setting}, else {local}; with --aws that of the region]", Options.Setting(setting));

    private static TClient Client<TConfig, TClient>(TConfig config, Uri? endpoint, bool onAws, string local, Func<TConfig, AWSCredentials?, TClient> create)
        where TConfig : ClientConfig
    {
        config.Timeout = RequestTimeout;
        config.MaxErrorRetry = 1;
        if (onAws && endpoint is null)
        {
            return create(config, null);
        }

        config.ServiceURL = (endpoint?.ToString() ?? local).TrimEnd('/');
        config.AuthenticationRegion = Options.Setting("AWS_REGION") ?? LocalSettings.Region;
        var hasCredentials = onAws || Options.Setting("AWS_ACCESS_KEY_ID") is not null;
        return create(config, hasCredentials ? null : new BasicAWSCredentials(LocalSettings.AccessKey, LocalSettings.AccessKey));
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
            ? $"{Number(rowsOf.Orders)} orders ({Number(rowsOf.Removed)} removed), {Number(rowsOf.OrderChanges)} changes, "
              + $"{Number(rowsOf.FilesLoaded)} files loaded, {Number(rowsOf.FilesFailing)} failing"
            : null);
        Row("last_load", report.Warehouse is { } loaded
            ? loaded.LastLoadAt is { } at ? $"{Number(loaded.LastLoadRows)} rows, {Ago(at)}" : "none yet"
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
