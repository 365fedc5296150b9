using System.Buffers.Binary;
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
    /// The largest file that is read, 64 MiB. A Lambda batch is at most 6 MB of JSON, some hundred KB as a file; a
    /// reader has to hold all of a file in memory.
    /// </summary>
    public const long BytesMax = 64L << 20;

    /// <summary>The most that a file may unpack to, 512 MiB, so that a small file cannot fill the memory.</summary>
    public const long UnpackedBytesMax = 512L << 20;

    /// <summary>
    /// Parquet ends with its footer, the footer's length (4 bytes, little-endian) and the magic number.
    /// </summary>
    private const int TailBytes = 8;

    private const int HashBytes = 16;

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

    /// <summary>Writes the changes in their order. The stream stays open.</summary>
    public static async Task WriteAsync(IReadOnlyList<Change> changes, Stream destination, CancellationToken cancellationToken)
    {
        using var writer = new ChangeFileWriter();
        foreach (var change in changes)
        {
            writer.Add(change);
        }

        await destination.WriteAsync(writer.Finish(), cancellationToken);
    }

    /// <summary>Reads a change file back, with every value checked. The stream must be seekable and stays open.</summary>
    /// <exception cref="InvalidDataException">The file is corrupt, too large or not a change file; the message says what.</exception>
    public static async Task<IReadOnlyList<Change>> ReadAsync(Stream source, CancellationToken cancellationToken)
    {
        if (source.Length > BytesMax)
        {
            throw new InvalidDataException($"the file has {source.Length} bytes; at most {BytesMax} are read");
        }

        await CheckSealAsync(source, cancellationToken);
        try
        {
            await using var reader = await ParquetReader.CreateAsync(source, cancellationToken: cancellationToken);
            CheckShape(reader);
            var changes = new List<Change>();
            foreach (var group in reader.RowGroups)
            {
                await ReadGroupAsync(group, changes, cancellationToken);
            }

            return changes;
        }
        catch (Exception e) when (e is not (InvalidDataException or OperationCanceledException))
        {
            // The Parquet reader meets what it does not expect with whatever exception comes first.
            throw new InvalidDataException($"the Parquet reader fails: {e.Message}", e);
        }
    }

    private static async Task CheckSealAsync(Stream source, CancellationToken cancellationToken)
    {
        var sealBytes = ChangeFileWriter.Seal.Length + HashBytes;
        if (source.Length < sealBytes + TailBytes)
        {
            throw new InvalidDataException($"not a change file: {source.Length} bytes are too few");
        }

        var tail = new byte[TailBytes];
        source.Seek(-TailBytes, SeekOrigin.End);
        await source.ReadExactlyAsync(tail, cancellationToken);
        var sealAt = source.Length - TailBytes - BinaryPrimitives.ReadInt32LittleEndian(tail) - sealBytes;
        if (!tail.AsSpan(sizeof(int)).SequenceEqual("PAR1"u8) || sealAt < 0 || sealAt > source.Length - sealBytes)
        {
            throw new InvalidDataException("not a whole Parquet file: it does not end with a footer");
        }

        var hash = new XxHash128();
        source.Seek(0, SeekOrigin.Begin);
        await HashAsync(sealAt);
        var seal = new byte[sealBytes];
        await source.ReadExactlyAsync(seal, cancellationToken);
        await HashAsync(source.Length - source.Position);

        if (!seal.AsSpan().StartsWith(ChangeFileWriter.Seal))
        {
            throw new InvalidDataException("not a change file: there is no seal before the footer");
        }

        if (!seal.AsSpan(ChangeFileWriter.Seal.Length).SequenceEqual(hash.GetCurrentHash()))
        {
            throw new InvalidDataException("the file is corrupt: its bytes do not match the hash in its seal");
        }

        async Task HashAsync(long count)
        {
            var buffer = new byte[(int)Math.Min(count, 81_920)];
            while (count > 0)
            {
                var part = buffer.AsMemory(0, (int)Math.Min(count, buffer.Length));
                await source.ReadExactlyAsync(part, cancellationToken);
                hash.Append(part.Span);
                count -= part.Length;
            }
        }
    }

    private static void CheckShape(ParquetReader reader)
    {
        if (!reader.Schema.Equals(Schema))
        {
            throw new InvalidDataException($"not the columns of a change file: {reader.Schema.GetNotEqualsMessage(Schema, "file", "expected")}");
        }

        long unpacked = 0, rows = 0;
        foreach (var group in reader.RowGroups)
        {
            unpacked += Math.Max(group.RowGroup.TotalByteSize, 0);
            rows += group.RowCount;
            if (group.RowCount is < 0 or > ChangeFileWriter.GroupRowsMax)
            {
                throw new InvalidDataException($"a row group has {group.RowCount} rows; at most {ChangeFileWriter.GroupRowsMax} are read");
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
                SequenceNumber = SequenceNumber.TryParse(sequences[i], out var sequence) && sequences[i] == sequence.ToString()
                    ? sequence
                    : throw Wrong(Sequence, i, $"is not {SequenceNumber.Form}"),
                EventId = eventIds[i]!,
                Operation = TryOperation(operations[i], out var operation)
                    ? operation
                    : throw Wrong(OperationName, i, "is none of insert, modify, remove, snapshot"),
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
        Operation.Remove => "remove",
        _ => "snapshot",
    };

    /// <summary>The way back from <see cref="NameOf"/>.</summary>
    public static bool TryOperation(string? name, out Operation operation)
    {
        (operation, var isKnown) = name switch
        {
            "insert" => (Operation.Insert, true),
            "modify" => (Operation.Modify, true),
            "remove" => (Operation.Remove, true),
            "snapshot" => (Operation.Snapshot, true),
            _ => (default, false),
        };
        return isKnown;
    }

    private static DateTimeOffset Utc(DateTime time) => new(time.Ticks, TimeSpan.Zero);

    private static InvalidDataException Wrong(DataField field, int row, string what) =>
        new($"row {row} of a row group: column {field.Name} {what}");
}
