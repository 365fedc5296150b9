using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Unicode;
using Pipeline.Core;

namespace Pipeline.Processor;

/// <summary>What the answer and the log say about a batch.</summary>
/// <param name="First">Sequence number of the first record as it came.</param>
/// <param name="Last">Of the last.</param>
/// <param name="Lowest">The lowest; empty when a record has none that can be used (see <see cref="ProcessOrders"/>).</param>
public sealed record BatchEnds(string? First, string? Last, string Lowest);

/// <summary>
/// The short way of a batch: one pass over its JSON, straight into the columns of the change file, without an object for
/// every value. It knows what orders look like and takes nothing else: at the first record that is in any way unusual (one
/// for quarantine, a set, binary data, text that is no Unicode) it gives up, and the batch goes through
/// <see cref="EventRecord"/>, whose rows are the same to the byte; the tests hold the two together.
/// </summary>
internal ref struct BatchReader
{
    /// <summary>More attributes in one map are left to the long way: they are put in order by insertion.</summary>
    private const int MembersMax = 64;

    /// <summary>38 digits, a sign, a point and an exponent are fewer.</summary>
    private const int NumberLengthMax = 64;

    /// <summary>Lambda's serializer takes a greater number for milliseconds.</summary>
    private const long SecondsMax = 157_753_180_800;

    /// <summary>As in <see cref="EventRecord"/>.</summary>
    private static readonly JavaScriptEncoder Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping;

    private readonly ReadOnlySpan<byte> _payload;
    private readonly PersonalDataProtector _protector;
    private readonly ChangeFileWriter _changes;
    private readonly List<string>? _traceParents;

    /// <summary>The image of the record at hand as canonical JSON.</summary>
    private byte[] _json = ArrayPool<byte>.Shared.Rent(4096);
    private int _length;

    /// <summary>The members of the maps that are open, each map's behind those of the one around it.</summary>
    private Member[] _members = ArrayPool<Member>.Shared.Rent(4 * MembersMax);
    private int _memberCount;

    private string? _first;
    private string? _last;
    private string _lowest = "";
    private SequenceNumber _lowestNumber;

    private BatchReader(ReadOnlySpan<byte> payload, PersonalDataProtector protector, ChangeFileWriter changes, List<string>? traceParents)
    {
        _payload = payload;
        _protector = protector;
        _changes = changes;
        _traceParents = traceParents;
    }

    /// <summary>Adds the batch's changes.</summary>
    /// <param name="payload">The JSON of the event.</param>
    /// <param name="protector">For personal data.</param>
    /// <param name="changes">Without rows; whatever it has after a null is not to be used.</param>
    /// <param name="traceParents">Takes those of the changes; null when nobody asks for them.</param>
    /// <returns>Null: the batch is for the long way.</returns>
    public static BatchEnds? TryRead(ReadOnlySpan<byte> payload, PersonalDataProtector protector, ChangeFileWriter changes, List<string>? traceParents)
    {
        var batch = new BatchReader(payload, protector, changes, traceParents);
        try
        {
            return batch.TryReadRecords() && changes.Count > 0 ? new BatchEnds(batch._first, batch._last, batch._lowest) : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or UndecodableRecordException)
        {
            // The long way tells what it is, and whose fault.
            return null;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(batch._json);
            ArrayPool<Member>.Shared.Return(batch._members);
        }
    }

    private bool TryReadRecords()
    {
        var reader = new Utf8JsonReader(_payload, new JsonReaderOptions { MaxDepth = EntryPoint.JsonDepthMax });
        reader.Read();
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            return false;
        }

        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (!reader.ValueTextEquals("Records"u8))
            {
                reader.Skip();
                continue;
            }

            if (!reader.Read() || reader.TokenType != JsonTokenType.StartArray)
            {
                return false;
            }

            while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
            {
                if (reader.TokenType != JsonTokenType.StartObject || !TryReadRecord(ref reader))
                {
                    return false;
                }
            }
        }

        // Throws for anything behind the event.
        return !reader.Read();
    }

    private bool TryReadRecord(ref Utf8JsonReader reader)
    {
        var row = new ChangeRow { OrderId = default, EventId = default, SequenceNumber = default, Operation = default, ChangedAt = default };
        Operation? operation = null;
        string? sequence = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("eventID"u8))
            {
                reader.Read();
                if (!IsPlainText(ref reader))
                {
                    return false;
                }

                row.EventId = reader.ValueSpan;
            }
            else if (reader.ValueTextEquals("eventName"u8))
            {
                reader.Read();
                operation = reader.TokenType != JsonTokenType.String ? null
                    : reader.ValueTextEquals("INSERT"u8) ? Operation.Insert
                    : reader.ValueTextEquals("MODIFY"u8) ? Operation.Modify
                    : reader.ValueTextEquals("REMOVE"u8) ? Operation.Remove
                    : null;
            }
            else if (reader.ValueTextEquals("dynamodb"u8))
            {
                // Which image counts follows from the event's name, which comes before it.
                if (operation is not { } known || sequence is not null || !reader.Read() || reader.TokenType != JsonTokenType.StartObject
                    || !TryReadChange(ref reader, known, ref row, ref sequence))
                {
                    return false;
                }
            }
            else
            {
                reader.Skip();
            }
        }

        if (reader.TokenType != JsonTokenType.EndObject || sequence is null || row.EventId.IsEmpty || row.OrderId.IsEmpty || row.Document.IsEmpty
            || row.ChangedAt == default || !SequenceNumber.TryParse(sequence, out var number) || sequence.Length > SequenceNumber.Digits)
        {
            return false;
        }

        row.SequenceNumber = number;
        row.Operation = operation!.Value;
        _changes.Add(row);
        if (_traceParents is not null && row.TraceParent.HasValue && TraceLinks.NamesItsRequest(row.Operation))
        {
            _traceParents.Add(Encoding.UTF8.GetString(row.TraceParent.Utf8));
        }

        _first ??= sequence;
        _last = sequence;
        if (_lowest.Length == 0 || number < _lowestNumber)
        {
            (_lowest, _lowestNumber) = (sequence, number);
        }

        return true;
    }

    private bool TryReadChange(ref Utf8JsonReader reader, Operation operation, ref ChangeRow row, ref string? sequence)
    {
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals(operation == Operation.Remove ? "OldImage"u8 : "NewImage"u8))
            {
                if (!row.Document.IsEmpty || !reader.Read() || reader.TokenType != JsonTokenType.StartObject || !TryReadImage(ref reader, ref row))
                {
                    return false;
                }
            }
            else if (reader.ValueTextEquals("ApproximateCreationDateTime"u8))
            {
                reader.Read();
                if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out var seconds) || seconds is <= 0 or > SecondsMax)
                {
                    return false;
                }

                row.ChangedAt = DateTimeOffset.FromUnixTimeSeconds(seconds);
            }
            else if (reader.ValueTextEquals("Keys"u8))
            {
                if (!TryReadKey(ref reader, ref row))
                {
                    return false;
                }
            }
            else if (reader.ValueTextEquals("SequenceNumber"u8))
            {
                reader.Read();
                sequence = reader.GetString();
            }
            else
            {
                reader.Skip();
            }
        }

        return reader.TokenType == JsonTokenType.EndObject;
    }

    /// <summary>{"order_id":{"S":"…"}} and nothing else.</summary>
    private static bool TryReadKey(ref Utf8JsonReader reader, ref ChangeRow row)
    {
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject
            || !reader.Read() || reader.TokenType != JsonTokenType.PropertyName || !reader.ValueTextEquals("order_id"u8)
            || !reader.Read() || reader.TokenType != JsonTokenType.StartObject
            || !reader.Read() || reader.TokenType != JsonTokenType.PropertyName || !reader.ValueTextEquals("S"u8)
            || !reader.Read() || !IsPlainText(ref reader))
        {
            return false;
        }

        row.OrderId = reader.ValueSpan;
        return reader.Read() && reader.TokenType == JsonTokenType.EndObject && reader.Read() && reader.TokenType == JsonTokenType.EndObject;
    }

    private bool TryReadImage(ref Utf8JsonReader reader, ref ChangeRow row)
    {
        _length = 0;
        _memberCount = 0;
        if (!TryWriteMembers(ref reader, PersonalData.Item))
        {
            return false;
        }

        row.Document = _json.AsSpan(0, _length);

        // As ChangeDecoder does; what it has to say about it is said on the long way.
        if (row.Document.IndexOf(@"\u0000"u8) >= 0)
        {
            return false;
        }

        return TryReadFields(ref row);
    }

    /// <summary>The typed columns, by ChangeDecoder's own rules, from the canonical image: from those members alone that they are made of.</summary>
    private readonly bool TryReadFields(ref ChangeRow row)
    {
        var at = 0;
        foreach (ref readonly var member in _members.AsSpan(0, _memberCount))
        {
            // ,"name":value
            var name = Name(member);
            var before = name.Length + 4;
            var length = member.To - member.From;
            if (!TryReadField(name, row.Document.Slice(at + before, length - before), ref row))
            {
                return false;
            }

            at += length;
        }

        return true;
    }

    private static bool TryReadField(scoped ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, ref ChangeRow row)
    {
        var reader = new Utf8JsonReader(value, new JsonReaderOptions { MaxDepth = EntryPoint.JsonDepthMax });
        OptionalText text;
        if (name.SequenceEqual("version"u8))
        {
            row.Version = ChangeDecoder.Version(ref reader) ?? 0;
        }
        else if (name.SequenceEqual("status"u8))
        {
            row.Status = ChangeDecoder.Status(ref reader);
        }
        else if (name.SequenceEqual("total_amount"u8))
        {
            row.TotalAmount = ChangeDecoder.Money(ref reader, "total_amount");
        }
        else if (name.SequenceEqual("created_at"u8))
        {
            row.CreatedAt = ChangeDecoder.Time(ref reader, "created_at");
        }
        else if (name.SequenceEqual("updated_at"u8))
        {
            row.UpdatedAt = ChangeDecoder.Time(ref reader, "updated_at");
        }
        else if (name.SequenceEqual("trace_parent"u8))
        {
            if (!TryText(ref reader, out text))
            {
                return false;
            }

            row.TraceParent = text;
        }
        else if (name.SequenceEqual("merchant_id"u8))
        {
            if (!TryText(ref reader, out text))
            {
                return false;
            }

            row.MerchantId = text;
        }
        else if (name.SequenceEqual("customer_id"u8))
        {
            if (!TryText(ref reader, out text))
            {
                return false;
            }

            row.CustomerId = text;
        }
        else if (name.SequenceEqual("currency"u8))
        {
            if (!TryText(ref reader, out text))
            {
                return false;
            }

            row.Currency = text;
        }

        return true;
    }

    private static bool TryText(scoped ref Utf8JsonReader reader, out OptionalText text)
    {
        reader.Read();
        text = reader.TokenType == JsonTokenType.String ? new OptionalText(reader.ValueSpan) : default;
        return reader.TokenType == JsonTokenType.Null || (reader.TokenType == JsonTokenType.String && !reader.ValueIsEscaped);
    }

    /// <summary>Some text that stands for itself in JSON and is valid UTF-8.</summary>
    private static bool IsPlainText(ref Utf8JsonReader reader) =>
        reader.TokenType == JsonTokenType.String && !reader.ValueIsEscaped && !reader.ValueSpan.IsEmpty && Utf8.IsValid(reader.ValueSpan);

    private bool TryWriteMap(ref Utf8JsonReader reader, PersonalPlace? place)
    {
        var membersFrom = _memberCount;
        var isWritten = TryWriteMembers(ref reader, place);
        _memberCount = membersFrom;
        return isWritten;
    }

    /// <summary>A map from its opening brace to its closing one, its members in the order of their names; they are left behind.</summary>
    private bool TryWriteMembers(ref Utf8JsonReader reader, PersonalPlace? place)
    {
        var membersFrom = _memberCount;
        var from = _length;
        var isSorted = true;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            // Names of ASCII alone: their order as bytes is the one that text has.
            var name = reader.ValueSpan;
            if (reader.ValueIsEscaped || !IsPrintableAscii(name) || _memberCount - membersFrom == MembersMax)
            {
                return false;
            }

            if (_memberCount > membersFrom)
            {
                var order = name.SequenceCompareTo(Name(_members[_memberCount - 1]));
                if (order == 0)
                {
                    return false;
                }

                isSorted &= order > 0;
            }

            var member = new Member { NameAt = (int)reader.TokenStartIndex + 1, NameLength = name.Length, From = _length };
            WriteName(name);
            if (!reader.Read() || !TryWriteValue(ref reader, place?.Member(name)))
            {
                return false;
            }

            member.To = _length;
            Push(member);
        }

        if (reader.TokenType != JsonTokenType.EndObject)
        {
            return false;
        }

        var members = _members.AsSpan(membersFrom.._memberCount);
        if (members.IsEmpty)
        {
            Write("{"u8);
        }
        else if (!isSorted && !TrySort(members, from))
        {
            return false;
        }

        // In the place of the first comma.
        _json[from] = (byte)'{';
        return Write("}"u8);
    }

    /// <summary>Puts the members, and what is written of them, in the order of their names. False: there is one twice.</summary>
    private readonly bool TrySort(Span<Member> members, int from)
    {
        for (var i = 1; i < members.Length; i++)
        {
            var member = members[i];
            var at = i;
            for (; at > 0; at--)
            {
                var order = Name(member).SequenceCompareTo(Name(members[at - 1]));
                if (order == 0)
                {
                    return false;
                }

                if (order > 0)
                {
                    break;
                }

                members[at] = members[at - 1];
            }

            members[at] = member;
        }

        var written = _json.AsSpan(from, _length - from);
        var sorted = ArrayPool<byte>.Shared.Rent(written.Length);
        var length = 0;
        foreach (var member in members)
        {
            var part = _json.AsSpan(member.From..member.To);
            part.CopyTo(sorted.AsSpan(length));
            length += part.Length;
        }

        sorted.AsSpan(0, length).CopyTo(written);
        ArrayPool<byte>.Shared.Return(sorted);
        return true;
    }

    /// <summary>{"S":"…"} and the like: a value with its tag, from its opening brace to its closing one.</summary>
    private bool TryWriteValue(ref Utf8JsonReader reader, PersonalPlace? place)
    {
        if (reader.TokenType != JsonTokenType.StartObject || !reader.Read() || reader.TokenType != JsonTokenType.PropertyName)
        {
            return false;
        }

        var tag = reader.ValueSpan;
        if (!reader.Read())
        {
            return false;
        }

        // A place where text is expected and something else lies is left to the long way.
        var isWritten = tag switch
        {
            [(byte)'S'] => place is null ? TryWriteText(ref reader) : TryWriteProtected(ref reader, place),
            [(byte)'N'] => place is null && TryWriteNumber(ref reader),
            [(byte)'M'] => place is not { IsValue: true } && reader.TokenType == JsonTokenType.StartObject && TryWriteMap(ref reader, place),
            [(byte)'L'] => reader.TokenType == JsonTokenType.StartArray && TryWriteList(ref reader, place),
            [(byte)'B', (byte)'O', (byte)'O', (byte)'L'] => place is null && TryWriteBoolean(ref reader),
            [(byte)'N', (byte)'U', (byte)'L', (byte)'L'] => reader.TokenType == JsonTokenType.True && Write("null"u8),
            _ => false,
        };
        return isWritten && reader.Read() && reader.TokenType == JsonTokenType.EndObject;
    }

    private bool TryWriteList(ref Utf8JsonReader reader, PersonalPlace? place)
    {
        Write("["u8);
        var isFirst = true;
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (!isFirst)
            {
                Write(","u8);
            }

            isFirst = false;
            if (!TryWriteValue(ref reader, place))
            {
                return false;
            }
        }

        return Write("]"u8);
    }

    private bool TryWriteBoolean(ref Utf8JsonReader reader) => reader.TokenType switch
    {
        JsonTokenType.True => Write("true"u8),
        JsonTokenType.False => Write("false"u8),
        _ => false,
    };

    /// <summary>As DynamoDB wrote it, digit for digit.</summary>
    private bool TryWriteNumber(ref Utf8JsonReader reader)
    {
        Span<char> number = stackalloc char[NumberLengthMax];
        return reader.TokenType == JsonTokenType.String && reader.ValueSpan.Length <= NumberLengthMax
            && Ascii.ToUtf16(reader.ValueSpan, number, out var length) == OperationStatus.Done && JsonNumber.IsValid(number[..length])
            && Write(reader.ValueSpan);
    }

    private bool TryWriteText(ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.String)
        {
            return false;
        }

        var text = reader.ValueSpan;
        if (!reader.ValueIsEscaped && IsPrintableAscii(text))
        {
            return Quote(text);
        }

        var unescaped = ArrayPool<byte>.Shared.Rent(text.Length);
        try
        {
            // Throws where an escape is no Unicode.
            var plain = unescaped.AsSpan(0, reader.CopyString(unescaped));
            return Utf8.IsValid(plain) && QuoteEscaped(plain);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(unescaped);
        }
    }

    private bool TryWriteProtected(ref Utf8JsonReader reader, PersonalPlace place)
    {
        if (reader.TokenType != JsonTokenType.String || (!reader.ValueIsEscaped && !Utf8.IsValid(reader.ValueSpan)))
        {
            return false;
        }

        var chars = ArrayPool<char>.Shared.Rent(reader.ValueSpan.Length);
        try
        {
            Span<byte> hash = stackalloc byte[PersonalDataProtector.TextLength];
            var value = chars.AsSpan(0, reader.CopyString(chars));
            return Quote(hash[.._protector.Protect(place, value, hash)]);
        }
        finally
        {
            ArrayPool<char>.Shared.Return(chars, clearArray: true);
        }
    }

    private static bool IsPrintableAscii(ReadOnlySpan<byte> text) => text.IndexOfAnyExceptInRange((byte)' ', (byte)'~') < 0;

    private readonly ReadOnlySpan<byte> Name(in Member member) => _payload.Slice(member.NameAt, member.NameLength);

    private void Push(in Member member)
    {
        if (_memberCount == _members.Length)
        {
            var larger = ArrayPool<Member>.Shared.Rent(2 * _members.Length);
            _members.AsSpan().CopyTo(larger);
            ArrayPool<Member>.Shared.Return(_members);
            _members = larger;
        }

        _members[_memberCount++] = member;
    }

    /// <summary>,"name":</summary>
    private void WriteName(scoped ReadOnlySpan<byte> name)
    {
        var room = Reserve(name.Length + 4);
        room[0] = (byte)',';
        room[1] = (byte)'"';
        name.CopyTo(room[2..]);
        room[name.Length + 2] = (byte)'"';
        room[name.Length + 3] = (byte)':';
        _length += name.Length + 4;
    }

    private bool Quote(scoped ReadOnlySpan<byte> text)
    {
        var room = Reserve(text.Length + 2);
        room[0] = (byte)'"';
        text.CopyTo(room[1..]);
        room[text.Length + 1] = (byte)'"';
        _length += text.Length + 2;
        return true;
    }

    private bool QuoteEscaped(scoped ReadOnlySpan<byte> text)
    {
        Write("\""u8);
        var status = Encoder.EncodeUtf8(text, Reserve(text.Length * Encoder.MaxOutputCharactersPerInputCharacter), out _, out var written);
        _length += written;
        return status == OperationStatus.Done && Write("\""u8);
    }

    /// <summary>True, for the ends of conditions.</summary>
    private bool Write(scoped ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Reserve(bytes.Length));
        _length += bytes.Length;
        return true;
    }

    private Span<byte> Reserve(int count)
    {
        if (_json.Length - _length < count)
        {
            Grow(count);
        }

        return _json.AsSpan(_length);
    }

    private void Grow(int count)
    {
        var larger = ArrayPool<byte>.Shared.Rent(Math.Max(_length + count, 2 * _json.Length));
        _json.AsSpan(0, _length).CopyTo(larger);
        ArrayPool<byte>.Shared.Return(_json);
        _json = larger;
    }

    /// <summary>Where the name lies in the payload, and the member, with the comma before it, in the canonical image.</summary>
    private record struct Member
    {
        public required int NameAt { get; init; }
        public required int NameLength { get; init; }
        public required int From { get; init; }
        public int To { get; set; }
    }
}
