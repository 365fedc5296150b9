using System.IO.Hashing;
using Parquet;
using Parquet.Schema;

namespace Pipeline.Core;

/// <summary>
/// The change file: Parquet, one row a change, columns as in docs/warehouse.md. Text is UTF-8 strings, times are
/// TIMESTAMP(MICROS, UTC), money is DECIMAL(18, 2) on INT64, compression is Snappy: what DuckDB, Athena and the
/// COPY of Redshift read without being told anything. The same changes always give the same bytes.
/// </summary>
public static class ChangeFile
{
    /// <summary>Media type of a change file, as registered with IANA.</summary>
    public const string ContentType = "application/vnd.apache.parquet";

    /// <summary>
    /// The largest file that is read, 256 MiB. A Lambda batch is at most 6 MB of JSON; a file far beyond that did
    /// not come from this pipeline, and a reader has to hold all of it in memory.
    /// </summary>
    public const long BytesMax = 256L << 20;

    /// <summary>The most that a file may unpack to, 1 GiB, so that a small file cannot fill the memory.</summary>
    public const long UnpackedBytesMax = 1L << 30;

    /// <summary>Rows and text (in characters) after which a row group is closed, whichever comes first.</summary>
    private const int GroupRowsMax = 50_000;
    private const long GroupTextMax = 64L << 20;

    // In the footer: what the file is, and a hash of everything before the footer. Parquet has checksums for
    // pages, which hardly any writer sets; without one, a flipped bit can be an order with another amount.
    private const string FormatKey = "pipeline.format";
    private const string Format = "order-changes/1";
    private const string DigestKey = "pipeline.xxh128";

    private static readonly DataField OrderId = new("order_id", typeof(string), isNullable: false);
    private static readonly DataField Version = new("version", typeof(long), isNullable: false);
    private static readonly DataField Sequence = new("sequence_number", typeof(string), isNullable: false);
    private static readonly DataField EventId = new("event_id", typeof(string), isNullable: false);
    private static readonly DataField OperationName = new("operation", typeof(string), isNullable: false);
    private static readonly DataField ChangedAt = Timestamp("changed_at", isNullable: false);
    private static readonly DataField TraceParent = new("trace_parent", typeof(string), isNullable: true);
    private static readonly DataField MerchantId = new("merchant_id", typeof(string), isNullable: true);
    private static readonly DataField CustomerId = new("customer_id", typeof(string), isNullable: true);
    private static readonly DataField Status = new("status", typeof(string), isNullable: true);
    private static readonly DataField Currency = new("currency", typeof(string), isNullable: true);
    private static readonly DataField TotalAmount = new DecimalDataField("total_amount", 18, 2, isNullable: true);
    private static readonly DataField CreatedAt = Timestamp("created_at", isNullable: true);
    private static readonly DataField UpdatedAt = Timestamp("updated_at", isNullable: true);
    private static readonly DataField Document = new("document", typeof(string), isNullable: false);

    private static readonly ParquetSchema Schema = new(
        OrderId, Version, Sequence, EventId, OperationName, ChangedAt, TraceParent,
        MerchantId, CustomerId, Status, Currency, TotalAmount, CreatedAt, UpdatedAt, Document);

    private static readonly ParquetOptions Options = new()
    {
        CompressionMethod = CompressionMethod.Snappy,
        ColumnEncodingHints =
        {
            [OperationName.Name] = EncodingHint.Dictionary,
            [MerchantId.Name] = EncodingHint.Dictionary,
            [Status.Name] = EncodingHint.Dictionary,
            [Currency.Name] = EncodingHint.Dictionary,
        },
    };

    /// <summary>Writes the changes in their order. The stream is written forwards only and stays open.</summary>
    public static async Task WriteAsync(IReadOnlyList<Change> changes, Stream destination, CancellationToken cancellationToken)
    {
        await using var output = new DigestingStream(destination);
        await using var writer = await ParquetWriter.CreateAsync(Schema, output, Options, cancellationToken: cancellationToken);
        for (var from = 0; from < changes.Count;)
        {
            var to = from;
            for (long text = 0; to < changes.Count && to - from < GroupRowsMax && text < GroupTextMax; to++)
            {
                text += changes[to].Document.Length;
            }

            await WriteGroupAsync(writer, new Slice(changes, from, to - from), cancellationToken);
            from = to;
        }

        writer.CustomMetadata = new Dictionary<string, string>
        {
            [FormatKey] = Format,
            [DigestKey] = output.Digest(),
        };
    }

    /// <summary>Reads a change file back, with every value checked. The stream must be seekable and stays open.</summary>
    /// <exception cref="InvalidDataException">The file is corrupt, too large or not a change file; the message says what.</exception>
    public static async Task<IReadOnlyList<Change>> ReadAsync(Stream source, CancellationToken cancellationToken)
    {
        if (source.Length > BytesMax)
        {
            throw new InvalidDataException($"the file has {source.Length} bytes; at most {BytesMax} are read");
        }

        try
        {
            await using var reader = await ParquetReader.CreateAsync(source, Options, cancellationToken: cancellationToken);
            CheckFooter(reader);
            await CheckDigestAsync(reader, source, cancellationToken);

            var changes = new List<Change>();
            foreach (var group in reader.RowGroups)
            {
                await ReadGroupAsync(group, changes, cancellationToken);
            }

            return changes;
        }
        catch (Exception e) when (e is not (InvalidDataException or OperationCanceledException))
        {
            // The Parquet reader meets bytes that are no Parquet with whatever exception comes first.
            throw new InvalidDataException($"not a readable Parquet file: {e.Message}", e);
        }
    }

    private static async Task WriteGroupAsync(ParquetWriter writer, Slice rows, CancellationToken cancellationToken)
    {
        using var group = writer.CreateRowGroup();
        await group.WriteAsync(OrderId, rows.Strings(c => c.OrderId));
        await group.WriteAsync(Version, rows.Values(c => c.Version), cancellationToken: cancellationToken);
        await group.WriteAsync(Sequence, rows.Strings(c => c.SequenceNumber.ToString()));
        await group.WriteAsync(EventId, rows.Strings(c => c.EventId));
        await group.WriteAsync(OperationName, rows.Strings(c => NameOf(c.Operation)));
        await group.WriteAsync(ChangedAt, rows.Values(c => c.ChangedAt.UtcDateTime), cancellationToken: cancellationToken);
        await group.WriteAsync(TraceParent, rows.Strings(c => c.TraceParent));
        await group.WriteAsync(MerchantId, rows.Strings(c => c.MerchantId));
        await group.WriteAsync(CustomerId, rows.Strings(c => c.CustomerId));
        await group.WriteAsync(Status, rows.Strings(c => c.Status is { } status ? OrderStatusText.Of(status) : null));
        await group.WriteAsync(Currency, rows.Strings(c => c.Currency));
        await group.WriteAsync(TotalAmount, rows.Values(c => c.TotalAmount), cancellationToken: cancellationToken);
        await group.WriteAsync(CreatedAt, rows.Values(c => c.CreatedAt?.UtcDateTime), cancellationToken: cancellationToken);
        await group.WriteAsync(UpdatedAt, rows.Values(c => c.UpdatedAt?.UtcDateTime), cancellationToken: cancellationToken);
        await group.WriteAsync(Document, rows.Strings(c => c.Document));
        group.CompleteValidate();
    }

    private static void CheckFooter(ParquetReader reader)
    {
        if (!reader.CustomMetadata.TryGetValue(FormatKey, out var format) || format != Format)
        {
            throw new InvalidDataException($"not a change file: its footer does not say {FormatKey} = {Format}");
        }

        if (!reader.Schema.Equals(Schema))
        {
            throw new InvalidDataException($"not the columns of a change file: {reader.Schema.GetNotEqualsMessage(Schema, "file", "expected")}");
        }

        long unpacked = 0, rows = 0;
        foreach (var group in reader.RowGroups)
        {
            unpacked += Math.Max(group.RowGroup.TotalByteSize, 0);
            rows += group.RowCount;
            if (group.RowCount is < 0 or > GroupRowsMax)
            {
                throw new InvalidDataException($"a row group has {group.RowCount} rows; at most {GroupRowsMax} are read");
            }
        }

        if (unpacked > UnpackedBytesMax)
        {
            throw new InvalidDataException($"the file unpacks to {unpacked} bytes; at most {UnpackedBytesMax} are read");
        }

        if (rows != reader.Metadata!.NumRows)
        {
            throw new InvalidDataException($"the footer counts {reader.Metadata.NumRows} rows, its row groups {rows}");
        }
    }

    private static async Task CheckDigestAsync(ParquetReader reader, Stream source, CancellationToken cancellationToken)
    {
        source.Seek(-8, SeekOrigin.End);
        var tail = new byte[8];
        await source.ReadExactlyAsync(tail, cancellationToken);
        var end = source.Length - 8 - BitConverter.ToInt32(tail);

        var hash = new XxHash128();
        var buffer = new byte[81_920];
        source.Seek(0, SeekOrigin.Begin);
        for (var left = end; left > 0;)
        {
            var read = await source.ReadAsync(buffer.AsMemory(0, (int)Math.Min(left, buffer.Length)), cancellationToken);
            if (read == 0)
            {
                throw new InvalidDataException("the file ends before its footer");
            }

            hash.Append(buffer.AsSpan(0, read));
            left -= read;
        }

        if (!reader.CustomMetadata.TryGetValue(DigestKey, out var digest) || digest != Convert.ToHexStringLower(hash.GetCurrentHash()))
        {
            throw new InvalidDataException($"the file is corrupt: its contents do not match {DigestKey} in its footer");
        }
    }

    private static async Task ReadGroupAsync(ParquetRowGroupReader group, List<Change> changes, CancellationToken cancellationToken)
    {
        var rows = (int)group.RowCount;
        var orderIds = await StringsAsync(OrderId);
        var versions = await ValuesAsync<long>(Version);
        var sequences = await StringsAsync(Sequence);
        var eventIds = await StringsAsync(EventId);
        var operations = await StringsAsync(OperationName);
        var changedAts = await ValuesAsync<DateTime>(ChangedAt);
        var traceParents = await StringsAsync(TraceParent);
        var merchantIds = await StringsAsync(MerchantId);
        var customerIds = await StringsAsync(CustomerId);
        var statuses = await StringsAsync(Status);
        var currencies = await StringsAsync(Currency);
        var totalAmounts = await NullablesAsync<decimal>(TotalAmount);
        var createdAts = await NullablesAsync<DateTime>(CreatedAt);
        var updatedAts = await NullablesAsync<DateTime>(UpdatedAt);
        var documents = await StringsAsync(Document);

        changes.EnsureCapacity(changes.Count + rows);
        for (var i = 0; i < rows; i++)
        {
            changes.Add(new Change
            {
                OrderId = orderIds[i]!,
                Version = versions[i] >= 0 ? versions[i] : throw Wrong(Version, i, "is negative"),
                SequenceNumber = SequenceNumber.TryParse(sequences[i], out var sequence) && sequences[i]!.Length == SequenceNumber.Digits
                    ? sequence
                    : throw Wrong(Sequence, i, $"is not {SequenceNumber.Digits} decimal digits"),
                EventId = eventIds[i]!,
                Operation = operations[i] switch
                {
                    "insert" => Operation.Insert,
                    "modify" => Operation.Modify,
                    "remove" => Operation.Remove,
                    _ => throw Wrong(OperationName, i, "is none of insert, modify, remove"),
                },
                ChangedAt = Utc(changedAts[i]),
                TraceParent = traceParents[i],
                MerchantId = merchantIds[i],
                CustomerId = customerIds[i],
                Status = statuses[i] is not { } text ? null
                    : OrderStatusText.TryParse(text, out var status) ? status
                    : throw Wrong(Status, i, "is not a status"),
                Currency = currencies[i],
                TotalAmount = totalAmounts[i],
                CreatedAt = createdAts[i] is { } createdAt ? Utc(createdAt) : null,
                UpdatedAt = updatedAts[i] is { } updatedAt ? Utc(updatedAt) : null,
                Document = documents[i]!,
            });
        }

        async ValueTask<string?[]> StringsAsync(DataField field)
        {
            var values = new string?[rows];
            await group.ReadAsync(field, values.AsMemory(), cancellationToken: cancellationToken);
            return values;
        }

        async ValueTask<T[]> ValuesAsync<T>(DataField field)
            where T : struct
        {
            var values = new T[rows];
            await group.ReadAsync(field, values.AsMemory(), cancellationToken: cancellationToken);
            return values;
        }

        async ValueTask<T?[]> NullablesAsync<T>(DataField field)
            where T : struct
        {
            var values = new T?[rows];
            await group.ReadAsync(field, values.AsMemory(), cancellationToken: cancellationToken);
            return values;
        }
    }

    private static DateTimeDataField Timestamp(string name, bool isNullable) =>
        new DateTimeDataField(name, DateTimeFormat.Timestamp, isAdjustedToUTC: true, DateTimeTimeUnit.Micros, isNullable);

    /// <summary>The operation's name in files and tables.</summary>
    public static string NameOf(Operation operation) => operation switch
    {
        Operation.Insert => "insert",
        Operation.Modify => "modify",
        _ => "remove",
    };

    private static DateTimeOffset Utc(DateTime time) => new(time.Ticks, TimeSpan.Zero);

    private static InvalidDataException Wrong(DataField field, int row, string what) =>
        new($"row {row} of a row group: column {field.Name} {what}");

    private readonly record struct Slice(IReadOnlyList<Change> Changes, int From, int Count)
    {
        public string?[] Strings(Func<Change, string?> select)
        {
            var values = new string?[Count];
            for (var i = 0; i < Count; i++)
            {
                values[i] = select(Changes[From + i]);
            }

            return values;
        }

        public ReadOnlyMemory<T> Values<T>(Func<Change, T> select)
        {
            var values = new T[Count];
            for (var i = 0; i < Count; i++)
            {
                values[i] = select(Changes[From + i]);
            }

            return values;
        }
    }

    /// <summary>Hands everything on to the stream behind it and hashes it on the way.</summary>
    private sealed class DigestingStream(Stream destination) : Stream
    {
        private readonly XxHash128 _hash = new();
        private long _position;

        public string Digest() => Convert.ToHexStringLower(_hash.GetCurrentHash());

        public override bool CanRead => false;
        public override bool CanSeek => false;
        public override bool CanWrite => true;
        public override long Length => _position;

        public override long Position
        {
            get => _position;
            set => throw new NotSupportedException();
        }

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            destination.Write(buffer);
            _hash.Append(buffer);
            _position += buffer.Length;
        }

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            await destination.WriteAsync(buffer, cancellationToken);
            _hash.Append(buffer.Span);
            _position += buffer.Length;
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));
        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();
        public override void Flush() => destination.Flush();
        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
