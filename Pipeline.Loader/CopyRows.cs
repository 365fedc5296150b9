using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace Pipeline.Loader;

/// <summary>
/// Rows in the binary format of PostgreSQL's COPY ("COPY", section "Binary Format", in its manual), in a buffer of its own.
/// Npgsql's importer looks a converter up for each value, and takes three times as long for a row of fifteen.
/// </summary>
internal sealed class CopyRows : IDisposable
{
    /// <summary>Bytes after which the buffer should be flushed: large enough that a flush is one write to the socket.</summary>
    private const int FlushAt = 128 << 10;

    private static readonly long Year2000Ticks = new DateTime(2000, 1, 1, 0, 0, 0, DateTimeKind.Utc).Ticks;

    private byte[] _buffer = ArrayPool<byte>.Shared.Rent(2 * FlushAt);
    private int _length;

    public CopyRows()
    {
        // The signature, then no flags and no extension of the header.
        ReadOnlySpan<byte> header = [.. "PGCOPY\n"u8, 0xFF, .. "\r\n\0"u8, 0, 0, 0, 0, 0, 0, 0, 0];
        header.CopyTo(Take(header.Length));
    }

    public bool IsFull => _length >= FlushAt;

    public void BeginRow(short columns) => BinaryPrimitives.WriteInt16BigEndian(Take(sizeof(short)), columns);

    /// <summary>Behind the last row.</summary>
    public void End() => BinaryPrimitives.WriteInt16BigEndian(Take(sizeof(short)), -1);

    public void WriteNull() => BinaryPrimitives.WriteInt32BigEndian(Take(sizeof(int)), -1);

    public void WriteNulls(int count)
    {
        for (var i = 0; i < count; i++)
        {
            WriteNull();
        }
    }

    public void Write(bool value) => Value(sizeof(byte))[0] = value ? (byte)1 : (byte)0;

    public void Write(long value) => BinaryPrimitives.WriteInt64BigEndian(Value(sizeof(long)), value);

    /// <summary>text, and json, which is sent as text.</summary>
    public void Write(string? value)
    {
        if (value is null)
        {
            WriteNull();
            return;
        }

        // A character has at most three bytes in UTF-8, a pair of them four.
        Reserve(sizeof(int) + (value.Length * 3));
        var bytes = Encoding.UTF8.GetBytes(value, _buffer.AsSpan(_length + sizeof(int)));
        Value(bytes);
    }

    /// <summary>As microseconds since 2000. The edges of the range stay times and do not become infinity.</summary>
    public void Write(DateTimeOffset? value)
    {
        if (value is { } time)
        {
            Write((time.UtcTicks - Year2000Ticks) / TimeSpan.TicksPerMicrosecond);
        }
        else
        {
            WriteNull();
        }
    }

    /// <summary>numeric with two decimals, as a change's amount has at most: groups of four decimal digits, the point between two of them.</summary>
    public void Write(decimal? value)
    {
        if (value is not { } amount)
        {
            WriteNull();
            return;
        }

        const int GroupsMax = 6;
        const long Group = 10_000;
        Span<short> groups = stackalloc short[GroupsMax];
        var cents = decimal.ToInt64(decimal.Round(Math.Abs(amount) * 100));
        var first = GroupsMax - 1;
        groups[first] = (short)(cents % 100 * 100);
        for (var whole = cents / 100; whole > 0; whole /= Group)
        {
            groups[--first] = (short)(whole % Group);
        }

        // Number of groups, weight of the first one (0 for the one before the point), sign, decimals, the groups.
        var count = GroupsMax - first;
        var field = Value(sizeof(short) * (4 + count));
        BinaryPrimitives.WriteInt16BigEndian(field, (short)count);
        BinaryPrimitives.WriteInt16BigEndian(field[2..], (short)(count - 2));
        BinaryPrimitives.WriteInt16BigEndian(field[4..], (short)(amount < 0 ? 0x4000 : 0));
        BinaryPrimitives.WriteInt16BigEndian(field[6..], 2);
        for (var i = 0; i < count; i++)
        {
            BinaryPrimitives.WriteInt16BigEndian(field[(8 + (2 * i))..], groups[first + i]);
        }
    }

    public async ValueTask FlushAsync(Stream stream, CancellationToken cancellationToken)
    {
        await stream.WriteAsync(_buffer.AsMemory(0, _length), cancellationToken);
        _length = 0;
    }

    public void Dispose()
    {
        ArrayPool<byte>.Shared.Return(_buffer);
        _buffer = [];
    }

    /// <summary>A value's length, and room for it.</summary>
    private Span<byte> Value(int bytes)
    {
        var field = Take(sizeof(int) + bytes);
        BinaryPrimitives.WriteInt32BigEndian(field, bytes);
        return field[sizeof(int)..];
    }

    private Span<byte> Take(int bytes)
    {
        Reserve(bytes);
        var taken = _buffer.AsSpan(_length, bytes);
        _length += bytes;
        return taken;
    }

    private void Reserve(int bytes)
    {
        if (_buffer.Length - _length < bytes)
        {
            var larger = ArrayPool<byte>.Shared.Rent(Math.Max(2 * _buffer.Length, _length + bytes));
            _buffer.AsSpan(0, _length).CopyTo(larger);
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = larger;
        }
    }
}
