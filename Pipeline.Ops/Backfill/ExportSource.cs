using System.IO.Compression;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Amazon.Lambda.DynamoDBEvents;
using Amazon.Lambda.Serialization.SystemTextJson;
using Amazon.S3;
using Pipeline.Core;
using Pipeline.Processor;

namespace Pipeline.Ops.Backfill;

/// <summary>Opens a file of an export: a manifest by its name, a data file by its key.</summary>
internal delegate Task<Stream> OpenExportFile(string file, CancellationToken cancellationToken);

/// <summary>
/// A full export of the table to S3, in the format DYNAMODB_JSON (developer guide, "DynamoDB table export output format"):
/// for tables that are too large to scan. Every data file is checked against the manifest's MD5 before a line of it is used, and
/// against its count before the file is noted as done.
/// </summary>
/// <param name="open">Where it lies.</param>
/// <param name="protector">With the key of the function.</param>
/// <param name="temporaryFolder">Where one data file for each parallel reader is kept while it is read.</param>
internal sealed class ExportSource(OpenExportFile open, PersonalDataProtector protector, string temporaryFolder) : IBackfillSource
{
    private const string SummaryName = "manifest-summary.json";
    private const string FilesName = "manifest-files.json";

    /// <summary>Items handed on together.</summary>
    private const int PageItems = 1_000;

    /// <summary>An item has at most 400 KB; with the tags of its types and escapes its line has not more than this, in characters.</summary>
    private const int LineMax = 8 << 20;

    private IReadOnlyList<ExportFile> _files = [];

    /// <summary>An export on this machine: the folder that holds the manifests and <c>data/</c>.</summary>
    public static OpenExportFile InFolder(string folder) => (file, _) => Task.FromResult<Stream>(new FileStream(
        file.Contains('/', StringComparison.Ordinal) ? Path.Combine(folder, "data", file[(file.LastIndexOf('/') + 1)..]) : Path.Combine(folder, file),
        FileMode.Open, FileAccess.Read, FileShare.Read));

    /// <summary>An export in a bucket.</summary>
    /// <param name="s3">Where the bucket is.</param>
    /// <param name="bucket">The bucket that was exported to.</param>
    /// <param name="prefix">Of the manifests, ending with <c>AWSDynamoDB/{export id}/</c>.</param>
    public static OpenExportFile InBucket(IAmazonS3 s3, string bucket, string prefix) => async (file, cancellationToken) =>
        (await s3.GetObjectAsync(bucket, file.Contains('/', StringComparison.Ordinal) ? file : $"{prefix.TrimEnd('/')}/{file}", cancellationToken)).ResponseStream;

    public async Task<BackfillSource> DescribeAsync(CancellationToken cancellationToken)
    {
        var summary = (await ReadLinesAsync(SummaryName, ExportJsonContext.Default.ExportSummary, wholeFile: true, cancellationToken))[0];
        if (summary.OutputFormat != "DYNAMODB_JSON")
        {
            throw new OperatorException($"The export is in the format {summary.OutputFormat}; only DYNAMODB_JSON is read. Export the table once more in that format.");
        }

        if (summary.ExportType is not (null or "FULL_EXPORT"))
        {
            throw new OperatorException($"The export is a {summary.ExportType}; only a FULL_EXPORT has the whole table.");
        }

        // In the order of their keys: a part's number must mean the same when the backfill goes on.
        var files = await ReadLinesAsync(FilesName, ExportJsonContext.Default.ExportFile, wholeFile: false, cancellationToken);
        _files = [.. files.OrderBy(file => file.DataFileS3Key, StringComparer.Ordinal)];
        var items = _files.Sum(file => file.ItemCount);
        return items == summary.ItemCount
            ? new BackfillSource(summary.ExportArn, _files.Count, items)
            : throw new OperatorException($"{FilesName} counts {items} items and {SummaryName} {summary.ItemCount}: the export is not whole.");
    }

    public async IAsyncEnumerable<BackfillPage> ReadAsync(
        int part, int parts, string? after, DateTimeOffset readAt, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var file = _files[part];
        await using var checkedCopy = await CopyCheckedAsync(file, cancellationToken);
        await using var unpacked = new GZipStream(checkedCopy, CompressionMode.Decompress);
        using var reader = new StreamReader(unpacked, Encoding.UTF8);
        var items = new List<TableItem>(PageItems);
        long lines = 0;
        while (await reader.ReadLineAsync(cancellationToken) is { } line)
        {
            lines++;
            items.Add(Decode(line, file, lines, readAt));
            if (items.Count == PageItems)
            {
                yield return new BackfillPage(items, After: null);
                items = new List<TableItem>(PageItems);
            }
        }

        if (lines != file.ItemCount)
        {
            throw new OperatorException($"{file.DataFileS3Key} has {lines} items and should have {file.ItemCount}, says {FilesName}.");
        }

        yield return new BackfillPage(items, After: null);
    }

    private TableItem Decode(string line, ExportFile file, long number, DateTimeOffset readAt)
    {
        try
        {
            if (line.Length > LineMax)
            {
                throw new OperatorException($"Line {number} of {file.DataFileS3Key} has {line.Length} characters; no item has that many.");
            }

            using var json = new MemoryStream(Encoding.UTF8.GetBytes(line), writable: false);
            var parsed = EntryPoint.Serializer.Deserialize<Dictionary<string, Dictionary<string, DynamoDBEvent.AttributeValue>>>(json);
            var item = parsed.GetValueOrDefault("Item");
            return item?.GetValueOrDefault("order_id")?.S is { } orderId
                ? TableItem.Decode(orderId, item, SequenceNumber.Zero, readAt, protector)
                : throw new OperatorException($"Line {number} of {file.DataFileS3Key} is no item with an order_id: the export is of another table.");
        }
        catch (JsonSerializerException e)
        {
            // The parser's message may quote the line.
            throw new OperatorException($"Line {number} of {file.DataFileS3Key} is no item in DYNAMODB_JSON.", e);
        }
    }

    /// <summary>Copies the data file to this machine, and gives it only when its MD5 is that of the manifest.</summary>
    private async Task<FileStream> CopyCheckedAsync(ExportFile file, CancellationToken cancellationToken)
    {
        var copy = TemporaryFile.Create(temporaryFolder, "export", 64 << 10);
        try
        {
            await using (var source = await open(file.DataFileS3Key, cancellationToken))
            {
                await source.CopyToAsync(copy, cancellationToken);
            }

            copy.Seek(0, SeekOrigin.Begin);
#pragma warning disable CA5351 // The manifest's own checksum.
            var md5 = Convert.ToBase64String(await MD5.HashDataAsync(copy, cancellationToken));
#pragma warning restore CA5351
            copy.Seek(0, SeekOrigin.Begin);
            return md5 == file.Md5Checksum
                ? copy
                : throw new OperatorException($"{file.DataFileS3Key} is damaged: its MD5 is {md5} and should be {file.Md5Checksum}, says {FilesName}. Copy or export it again.");
        }
        catch
        {
            await copy.DisposeAsync();
            throw;
        }
    }

    private async Task<List<T>> ReadLinesAsync<T>(
        string name, System.Text.Json.Serialization.Metadata.JsonTypeInfo<T> type, bool wholeFile, CancellationToken cancellationToken)
    {
        await using var stream = await open(name, cancellationToken);
        using var reader = new StreamReader(stream, Encoding.UTF8);
        var text = await reader.ReadToEndAsync(cancellationToken);
        try
        {
            var documents = wholeFile ? [text] : text.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            return [.. documents.Select(document => JsonSerializer.Deserialize(document, type) ?? throw new JsonException("The document is null."))];
        }
        catch (JsonException e)
        {
            throw new OperatorException($"{name} is no manifest of an export: {e.Message}", e);
        }
    }
}

internal sealed record ExportSummary(string ExportArn, long ItemCount, string OutputFormat)
{
    public string? ExportType { get; init; }
}

internal sealed record ExportFile(long ItemCount, string Md5Checksum, string DataFileS3Key);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(ExportSummary))]
[JsonSerializable(typeof(ExportFile))]
internal sealed partial class ExportJsonContext : JsonSerializerContext;
