using System.Buffers;
using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;
using Snappier;

namespace Pipeline.Core;

/// <summary>
/// One row of a change file with its texts in UTF-8, for who has them so and would only make strings to throw away.
/// Fields and rules are those of <see cref="Change"/>.
/// </summary>
public ref struct ChangeRow
{
    public required ReadOnlySpan<byte> OrderId { get; set; }
    public required ReadOnlySpan<byte> EventId { get; set; }
    public required SequenceNumber SequenceNumber { get; set; }
    public required Operation Operation { get; set; }
    public required DateTimeOffset ChangedAt { get; set; }
    public long Version { get; set; }
    public OptionalText TraceParent { get; set; }
    public OptionalText MerchantId { get; set; }
    public OptionalText CustomerId { get; set; }
    public OrderStatus? Status { get; set; }
    public OptionalText Currency { get; set; }
    public decimal? TotalAmount { get; set; }
    public DateTimeOffset? CreatedAt { get; set; }
    public DateTimeOffset? UpdatedAt { get; set; }
    public ReadOnlySpan<byte> Document { get; set; }
}

/// <summary>Text in UTF-8, or null: the default value.</summary>
public readonly ref struct OptionalText(ReadOnlySpan<byte> utf8)
{
    public bool HasValue { get; } = true;
    public ReadOnlySpan<byte> Utf8 { get; } = utf8;
}

/// <summary>
/// Writes a change file: takes rows, keeps each column as Parquet wants it (PLAIN values in one page, compressed with
/// Snappy), and puts the footer behind them. Every column of every file is of the same few kinds, so this is all of the
/// format that is needed, and rows need no objects in between. All memory is rented; nothing is to be used after Dispose.
/// </summary>
/// <remarks>
/// The format: parquet.apache.org/docs/file-format, and parquet.thrift in the Thrift compact protocol. <see cref="ChangeFile"/>
/// says what the columns are; the tests read what is written here with Parquet.Net and with DuckDB.
/// </remarks>
public sealed class ChangeFileWriter : IDisposable
{
    /// <summary>Rows and text (in bytes) after which a row group is closed, whichever comes first.</summary>
    internal const int GroupRowsMax = 50_000;
    private const int GroupTextMax = 64 << 20;

    /// <summary>
    /// Stands between the last row group and the footer, where no reader looks, with the hash of all other bytes
    /// behind it. Parquet itself has no checksum for the footer, and hardly any for the pages: one flipped bit
    /// there can be another amount, or keep a reader busy for ever. So a file is read only when its hash is right.
    /// </summary>
    internal static ReadOnlySpan<byte> Seal => "order-changes/1\n"u8;

    private static ReadOnlySpan<byte> Magic => "PAR1"u8;

    private readonly ParquetColumn _orderId = new("order_id", ParquetKind.Text, isNullable: false);
    private readonly ParquetColumn _version = new("version", ParquetKind.Whole, isNullable: false);
    private readonly ParquetColumn _sequence = new("sequence_number", ParquetKind.Text, isNullable: false);
    private readonly ParquetColumn _eventId = new("event_id", ParquetKind.Text, isNullable: false);
    private readonly ParquetColumn _operation = new("operation", ParquetKind.Text, isNullable: false);
    private readonly ParquetColumn _changedAt = new("changed_at", ParquetKind.Time, isNullable: false);
    private readonly ParquetColumn _traceParent = new("trace_parent", ParquetKind.Text, isNullable: true);
    private readonly ParquetColumn _merchantId = new("merchant_id", ParquetKind.Text, isNullable: true);
    private readonly ParquetColumn _customerId = new("customer_id", ParquetKind.Text, isNullable: true);
    private readonly ParquetColumn _status = new("status", ParquetKind.Text, isNullable: true);
    private readonly ParquetColumn _currency = new("currency", ParquetKind.Text, isNullable: true);
    private readonly ParquetColumn _totalAmount = new("total_amount", ParquetKind.Money, isNullable: true);
    private readonly ParquetColumn _createdAt = new("created_at", ParquetKind.Time, isNullable: true);
    private readonly ParquetColumn _updatedAt = new("updated_at", ParquetKind.Time, isNullable: true);
    private readonly ParquetColumn _document = new("document", ParquetKind.Text, isNullable: false);
    private readonly ParquetColumn[] _columns;

    private readonly PooledBytes _file = new();
    private readonly List<RowGroup> _groups = [];
    private readonly XxHash128 _eventIds = new();
    private int _rowsInGroup;
    private DateTimeOffset _firstChangedAt;
    private SequenceNumber _first;
    private SequenceNumber _last;

    public ChangeFileWriter()
    {
        _columns =
        [
            _orderId, _version, _sequence, _eventId, _operation, _changedAt, _traceParent,
            _merchantId, _customerId, _status, _currency, _totalAmount, _createdAt, _updatedAt, _document,
        ];
        _file.Add(Magic);
    }

    /// <summary>Rows so far.</summary>
    public int Count { get; private set; }

    /// <summary>The key of the object, see <see cref="ObjectKeys.ChangeFile(IReadOnlyList{Change})"/>.</summary>
    /// <exception cref="InvalidOperationException">There is no row.</exception>
    public string Key => Count > 0
        ? ObjectKeys.ChangeFile(_first, _last, _firstChangedAt, _eventIds)
        : throw new InvalidOperationException("A change file holds at least one change.");

    public void Add(Change change)
    {
        _orderId.Add(change.OrderId);
        _eventId.Add(change.EventId);
        AppendId(Encoding.UTF8.GetBytes(change.EventId));
        _traceParent.Add(change.TraceParent);
        _merchantId.Add(change.MerchantId);
        _customerId.Add(change.CustomerId);
        _currency.Add(change.Currency);
        _document.Add(change.Document);
        AddRest(
            change.Version, change.SequenceNumber, change.Operation, change.ChangedAt, change.Status, change.TotalAmount, change.CreatedAt, change.UpdatedAt);
    }

    public void Add(in ChangeRow row)
    {
        _orderId.Add(row.OrderId);
        _eventId.Add(row.EventId);
        AppendId(row.EventId);
        _traceParent.Add(row.TraceParent);
        _merchantId.Add(row.MerchantId);
        _customerId.Add(row.CustomerId);
        _currency.Add(row.Currency);
        _document.Add(row.Document);
        AddRest(row.Version, row.SequenceNumber, row.Operation, row.ChangedAt, row.Status, row.TotalAmount, row.CreatedAt, row.UpdatedAt);
    }

    /// <summary>The whole file. No row can be added behind it.</summary>
    public ReadOnlyMemory<byte> Finish()
    {
        CloseGroup();
        var footerAt = _file.Length;
        var footer = new ThriftWriter(_file);
        WriteFooter(ref footer);
        _file.AddLittleEndian(_file.Length - footerAt);
        _file.Add(Magic);

        // The seal is not part of what it seals, and lies before the footer: made room for behind the file, then turned.
        var hash = XxHash128.Hash(_file.Written.Span);
        var tail = _file.Length - footerAt;
        _file.Add(Seal);
        _file.Add(hash);
        var sealAndTail = _file.WrittenFrom(footerAt);
        using var tailCopy = new PooledBytes();
        tailCopy.Add(sealAndTail[..tail]);
        sealAndTail[tail..].CopyTo(sealAndTail);
        tailCopy.Written.Span.CopyTo(sealAndTail[^tail..]);
        return _file.Written;
    }

    public void Dispose()
    {
        _file.Dispose();
        foreach (var column in _columns)
        {
            column.Dispose();
        }
    }

    private void AppendId(ReadOnlySpan<byte> eventId) => ObjectKeys.AppendIdentity(_eventIds, eventId);

    private void AddRest(
        long version, SequenceNumber sequenceNumber, Operation operation, DateTimeOffset changedAt, OrderStatus? status, decimal? totalAmount,
        DateTimeOffset? createdAt, DateTimeOffset? updatedAt)
    {
        _version.Add(version);
        _sequence.Add(sequenceNumber.ToString());
        _operation.Add(ChangeFile.NameOf(operation));
        _changedAt.Add(Microseconds(changedAt));
        _status.Add(status is { } known ? OrderStatusText.Of(known) : null);
        _totalAmount.Add(totalAmount is { } amount ? (long)(amount * 100) : null);
        _createdAt.Add(createdAt is { } created ? Microseconds(created) : null);
        _updatedAt.Add(updatedAt is { } updated ? Microseconds(updated) : null);
        if (Count == 0)
        {
            (_first, _firstChangedAt) = (sequenceNumber, changedAt);
        }

        _last = sequenceNumber;
        Count++;
        _rowsInGroup++;
        if (_rowsInGroup == GroupRowsMax || _document.Bytes >= GroupTextMax)
        {
            CloseGroup();
        }
    }

    private static long Microseconds(DateTimeOffset time) => (time.UtcTicks - DateTimeOffset.UnixEpoch.UtcTicks) / TimeSpan.TicksPerMicrosecond;

    private void CloseGroup()
    {
        if (_rowsInGroup > 0)
        {
            _groups.Add(new RowGroup(_rowsInGroup, [.. _columns.Select(column => column.WritePage(_file, _rowsInGroup))]));
            _rowsInGroup = 0;
        }
    }

    private void WriteFooter(ref ThriftWriter thrift)
    {
        // FileMetaData
        thrift.Field(1, 1);
        thrift.List(2, ThriftWriter.Struct, _columns.Length + 1);
        thrift.Begin();
        thrift.Field(4, "root"u8);
        thrift.Field(5, _columns.Length);
        thrift.End();
        foreach (var column in _columns)
        {
            column.WriteSchema(ref thrift);
        }

        thrift.Field(3, (long)Count);
        thrift.List(4, ThriftWriter.Struct, _groups.Count);
        foreach (var group in _groups)
        {
            // RowGroup
            thrift.Begin();
            thrift.List(1, ThriftWriter.Struct, _columns.Length);
            for (var i = 0; i < _columns.Length; i++)
            {
                _columns[i].WriteChunk(ref thrift, group.Pages[i], group.Rows);
            }

            thrift.Field(2, group.Pages.Sum(page => (long)page.UnpackedBytes));
            thrift.Field(3, (long)group.Rows);
            thrift.End();
        }

        // In the form that the format asks for; some readers of old take it apart.
        thrift.Field(6, "order-changes version 1 (build 1)"u8);
        thrift.End();
    }

    private readonly record struct RowGroup(int Rows, ParquetPage[] Pages);
}

/// <summary>What a column holds; the comments are Parquet's names.</summary>
internal enum ParquetKind
{
    /// <summary>BYTE_ARRAY, STRING.</summary>
    Text,

    /// <summary>INT64.</summary>
    Whole,

    /// <summary>INT64, TIMESTAMP(MICROS, UTC).</summary>
    Time,

    /// <summary>INT64, DECIMAL(18, 2).</summary>
    Money,
}

/// <summary>Where a column's one page of a row group is, with its header.</summary>
internal readonly record struct ParquetPage(long At, int PackedBytes, int UnpackedBytes);

/// <summary>A column of the row group that is being filled.</summary>
internal sealed class ParquetColumn(string name, ParquetKind kind, bool isNullable) : IDisposable
{
    private const int TypeInt64 = 2;
    private const int TypeByteArray = 6;
    private const int EncodingPlain = 0;
    private const int EncodingRle = 3;
    private const int CodecSnappy = 1;

    private readonly byte[] _name = Encoding.UTF8.GetBytes(name);

    /// <summary>Values one after the other, texts each with their length (4 bytes) before them; nothing for a null.</summary>
    private readonly PooledBytes _values = new();

    /// <summary>Which values there are: runs, each its length and 1 or 0 (the format's RLE hybrid of width 1).</summary>
    private readonly PooledBytes _levels = new();
    private int _run;
    private bool _runHasValues;

    /// <summary>Of the values so far.</summary>
    public int Bytes => _values.Length;

    public void Add(string? text)
    {
        Mark(text is not null);
        if (text is not null)
        {
            var at = _values.Length;
            var room = _values.Reserve(sizeof(int) + Encoding.UTF8.GetMaxByteCount(text.Length));
            var bytes = Encoding.UTF8.GetBytes(text, room[sizeof(int)..]);
            BinaryPrimitives.WriteInt32LittleEndian(room, bytes);
            _values.Length = at + sizeof(int) + bytes;
        }
    }

    public void Add(ReadOnlySpan<byte> utf8)
    {
        Mark(hasValue: true);
        _values.AddLittleEndian(utf8.Length);
        _values.Add(utf8);
    }

    public void Add(OptionalText text)
    {
        if (text.HasValue)
        {
            Add(text.Utf8);
        }
        else
        {
            Mark(hasValue: false);
        }
    }

    public void Add(long? value)
    {
        Mark(value is not null);
        if (value is { } number)
        {
            BinaryPrimitives.WriteInt64LittleEndian(_values.Reserve(sizeof(long)), number);
            _values.Length += sizeof(long);
        }
    }

    /// <summary>Writes the page and begins the next one.</summary>
    public ParquetPage WritePage(PooledBytes file, int rows)
    {
        using var page = new PooledBytes();
        if (isNullable)
        {
            EndRun();
            page.AddLittleEndian(_levels.Length);
            page.Add(_levels.Written.Span);
        }

        page.Add(_values.Written.Span);
        using var packed = new PooledBytes();
        packed.Length = Snappy.Compress(page.Written.Span, packed.Reserve(Snappy.GetMaxCompressedLength(page.Length)));

        var at = file.Length;
        var header = new ThriftWriter(file);
        header.Field(1, 0);
        header.Field(2, page.Length);
        header.Field(3, packed.Length);
        header.Begin(5);
        header.Field(1, rows);
        header.Field(2, EncodingPlain);
        header.Field(3, EncodingRle);
        header.Field(4, EncodingRle);
        header.End();
        header.End();
        var headerBytes = file.Length - at;
        file.Add(packed.Written.Span);
        _values.Length = 0;
        _levels.Length = 0;
        return new ParquetPage(at, headerBytes + packed.Length, headerBytes + page.Length);
    }

    /// <summary>SchemaElement.</summary>
    public void WriteSchema(ref ThriftWriter thrift)
    {
        thrift.Begin();
        thrift.Field(1, kind == ParquetKind.Text ? TypeByteArray : TypeInt64);
        thrift.Field(3, isNullable ? 1 : 0);
        thrift.Field(4, _name);
        switch (kind)
        {
            case ParquetKind.Text:
                thrift.Field(6, 0);
                thrift.Begin(10);
                thrift.Begin(1);
                thrift.End();
                thrift.End();
                break;
            case ParquetKind.Time:
                thrift.Field(6, 10);
                thrift.Begin(10);
                thrift.Begin(8);
                thrift.Field(1, isTrue: true);
                thrift.Begin(2);
                thrift.Begin(2);
                thrift.End();
                thrift.End();
                thrift.End();
                thrift.End();
                break;
            case ParquetKind.Money:
                thrift.Field(6, 5);
                thrift.Field(7, 2);
                thrift.Field(8, 18);
                thrift.Begin(10);
                thrift.Begin(5);
                thrift.Field(1, 2);
                thrift.Field(2, 18);
                thrift.End();
                thrift.End();
                break;
        }

        thrift.End();
    }

    /// <summary>ColumnChunk with its ColumnMetaData.</summary>
    public void WriteChunk(ref ThriftWriter thrift, ParquetPage page, int rows)
    {
        thrift.Begin();
        thrift.Field(2, page.At);
        thrift.Begin(3);
        thrift.Field(1, kind == ParquetKind.Text ? TypeByteArray : TypeInt64);
        thrift.List(2, ThriftWriter.Int32, 2);
        thrift.Element(EncodingPlain);
        thrift.Element(EncodingRle);
        thrift.List(3, ThriftWriter.Binary, 1);
        thrift.Element(_name);
        thrift.Field(4, CodecSnappy);
        thrift.Field(5, (long)rows);
        thrift.Field(6, (long)page.UnpackedBytes);
        thrift.Field(7, (long)page.PackedBytes);
        thrift.Field(9, page.At);
        thrift.End();
        thrift.End();
    }

    public void Dispose()
    {
        _values.Dispose();
        _levels.Dispose();
    }

    private void Mark(bool hasValue)
    {
        if (!isNullable)
        {
            return;
        }

        if (_run > 0 && _runHasValues != hasValue)
        {
            EndRun();
        }

        _runHasValues = hasValue;
        _run++;
    }

    private void EndRun()
    {
        if (_run > 0)
        {
            _levels.AddVariable((ulong)_run << 1);
            _levels.Add([_runHasValues ? (byte)1 : (byte)0]);
            _run = 0;
        }
    }
}

/// <summary>Thrift's compact protocol, as much of it as Parquet's metadata needs.</summary>
internal ref struct ThriftWriter(PooledBytes to)
{
    public const int Int32 = 5;
    public const int Binary = 8;
    public const int Struct = 12;
    private const int True = 1;
    private const int Int64 = 6;
    private const int ListType = 9;

    /// <summary>A field's number is written as the distance from the one before it in its struct.</summary>
    private readonly Stack<int> _outer = new();
    private int _last;

    public void Field(int id, int value)
    {
        Header(id, Int32);
        Element(value);
    }

    public void Field(int id, long value)
    {
        Header(id, Int64);
        to.AddVariable(ZigZag(value));
    }

    public void Field(int id, bool isTrue) => Header(id, isTrue ? True : True + 1);

    public void Field(int id, ReadOnlySpan<byte> value)
    {
        Header(id, Binary);
        Element(value);
    }

    public void List(int id, int elementType, int count)
    {
        Header(id, ListType);
        if (count < 15)
        {
            to.Add([(byte)((count << 4) | elementType)]);
        }
        else
        {
            to.Add([(byte)(0xF0 | elementType)]);
            to.AddVariable((ulong)count);
        }
    }

    public readonly void Element(int value) => to.AddVariable(ZigZag(value));

    public readonly void Element(ReadOnlySpan<byte> value)
    {
        to.AddVariable((ulong)value.Length);
        to.Add(value);
    }

    /// <summary>Begins a struct in a list.</summary>
    public void Begin()
    {
        _outer.Push(_last);
        _last = 0;
    }

    /// <summary>Begins a struct in a field.</summary>
    public void Begin(int id)
    {
        Header(id, Struct);
        Begin();
    }

    /// <summary>Ends a struct; also the outermost, which nothing begins.</summary>
    public void End()
    {
        to.Add([0]);
        _last = _outer.Count > 0 ? _outer.Pop() : 0;
    }

    private void Header(int id, int type)
    {
        to.Add([(byte)(((id - _last) << 4) | type)]);
        _last = id;
    }

    private static ulong ZigZag(long value) => (ulong)((value << 1) ^ (value >> 63));
}

/// <summary>Bytes in a rented array that grows.</summary>
internal sealed class PooledBytes : IDisposable
{
    private const int FirstBytes = 1024;

    private byte[] _bytes = ArrayPool<byte>.Shared.Rent(FirstBytes);

    public int Length { get; set; }

    public ReadOnlyMemory<byte> Written => _bytes.AsMemory(0, Length);

    public Span<byte> WrittenFrom(int start) => _bytes.AsSpan(start..Length);

    /// <summary>Room behind what is written; who fills it sets the length.</summary>
    public Span<byte> Reserve(int count)
    {
        if (_bytes.Length - Length < count)
        {
            var larger = ArrayPool<byte>.Shared.Rent(Math.Max(checked(Length + count), (int)Math.Min(2L * _bytes.Length, Array.MaxLength)));
            _bytes.AsSpan(0, Length).CopyTo(larger);
            ArrayPool<byte>.Shared.Return(_bytes);
            _bytes = larger;
        }

        return _bytes.AsSpan(Length);
    }

    public void Add(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Reserve(bytes.Length));
        Length += bytes.Length;
    }

    public void AddLittleEndian(int value)
    {
        BinaryPrimitives.WriteInt32LittleEndian(Reserve(sizeof(int)), value);
        Length += sizeof(int);
    }

    /// <summary>Seven bits a byte, the lowest first, with the eighth set in all but the last (ULEB128).</summary>
    public void AddVariable(ulong value)
    {
        for (; value >= 0x80; value >>= 7)
        {
            Add([(byte)(value | 0x80)]);
        }

        Add([(byte)value]);
    }

    public void Dispose()
    {
        ArrayPool<byte>.Shared.Return(_bytes);
        _bytes = [];
        Length = 0;
    }
}
