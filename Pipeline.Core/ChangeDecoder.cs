using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Pipeline.Core;

/// <summary>
/// One record of the table's stream, free of any AWS type: its keys and metadata, and its image (the new one,
/// for a removal the old one) as canonical plain JSON in UTF-8.
/// </summary>
public sealed record StreamRecord
{
    public required string? EventId { get; init; }

    /// <summary>INSERT, MODIFY or REMOVE; SNAPSHOT for an item that was read from the table.</summary>
    public required string? EventName { get; init; }
    public required string? SequenceNumber { get; init; }
    public required DateTimeOffset ChangedAt { get; init; }

    /// <summary>The partition key; null when the record has none or one that is not a string.</summary>
    public required string? OrderId { get; init; }

    /// <summary>See <see cref="Change.Document"/>; empty when the record carries no image.</summary>
    public required ReadOnlyMemory<byte> Image { get; init; }
}

/// <summary>
/// The record cannot become a <see cref="Change"/>: it belongs in quarantine. The message names the attribute and
/// what is wrong with it, and never the value, which may be personal data.
/// </summary>
public sealed class UndecodableRecordException(string reason)
    : Exception(reason.Length <= ReasonLengthMax ? reason : reason[..ReasonLengthMax] + "…")
{
    /// <summary>The name of an attribute may have 64 KB; a reason is for logs and people.</summary>
    private const int ReasonLengthMax = 200;
}

/// <summary>
/// Stream record → <see cref="Change"/>. An attribute that is missing (or NULL) is null in the change, a missing
/// version is 0: items may be written by something other than the Orders API. An attribute that is there and
/// does not fit its column is refused, because the warehouse could not hold it; for a removal, which is more than
/// its old image, all fields but the version are null then and the document is empty.
/// </summary>
public static class ChangeDecoder
{
    private const int StatusShown = 32;

    /// <exception cref="UndecodableRecordException">The record does not fit; the message says why.</exception>
    public static Change Decode(StreamRecord record)
    {
        var operation = record.EventName switch
        {
            "INSERT" => Operation.Insert,
            "MODIFY" => Operation.Modify,
            "REMOVE" => Operation.Remove,
            "SNAPSHOT" => Operation.Snapshot,
            _ => throw new UndecodableRecordException("the event name is none of INSERT, MODIFY, REMOVE"),
        };

        if (record.OrderId is null)
        {
            throw new UndecodableRecordException("the keys have no string 'order_id'");
        }

        RefuseNul(record.OrderId, "key 'order_id'");
        if (string.IsNullOrEmpty(record.EventId))
        {
            throw new UndecodableRecordException("the record has no event id");
        }

        RefuseNul(record.EventId, "the event id");
        if (record.Image.IsEmpty)
        {
            throw new UndecodableRecordException(operation == Operation.Remove
                ? "the record has no old image; the stream must be NEW_AND_OLD_IMAGES"
                : "the record has no new image; the stream must be NEW_AND_OLD_IMAGES");
        }

        if (!SequenceNumber.TryParse(record.SequenceNumber, out var sequenceNumber))
        {
            throw new UndecodableRecordException($"the sequence number is not 1 to {SequenceNumber.Digits} decimal digits");
        }

        try
        {
            return Decode(record, operation, sequenceNumber);
        }
        catch (UndecodableRecordException) when (operation == Operation.Remove)
        {
            // The removal must arrive, whatever the order looked like: it ends the order's life, and without it an
            // order that is created again would stay hidden behind the old one.
            return new Change
            {
                OrderId = record.OrderId,
                Version = RemovedVersion(record.Image.Span),
                SequenceNumber = sequenceNumber,
                EventId = record.EventId,
                Operation = operation,
                ChangedAt = ToMicroseconds(record.ChangedAt),
                Document = "{}",
            };
        }
    }

    /// <summary>The version alone; 0 when it is what does not fit.</summary>
    private static long RemovedVersion(ReadOnlySpan<byte> image)
    {
        var reader = new Utf8JsonReader(image);
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("version"u8))
            {
                reader.Read();
                return reader.TokenType == JsonTokenType.Number && JsonNumber.TryScale(reader.ValueSpan, 0, out var version) && version >= 0 ? version : 0;
            }

            reader.Skip();
        }

        return 0;
    }

    private static Change Decode(StreamRecord record, Operation operation, SequenceNumber sequenceNumber)
    {
        var image = record.Image.Span;
        RefuseNul(image);

        string? traceParent = null, merchantId = null, customerId = null, currency = null;
        OrderStatus? status = null;
        decimal? totalAmount = null;
        DateTimeOffset? createdAt = null, updatedAt = null;
        long version = 0;

        var reader = new Utf8JsonReader(image);
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("version"u8))
            {
                version = Version(ref reader) ?? 0;
            }
            else if (reader.ValueTextEquals("trace_parent"u8))
            {
                traceParent = Text(ref reader, "trace_parent");
            }
            else if (reader.ValueTextEquals("merchant_id"u8))
            {
                merchantId = Text(ref reader, "merchant_id");
            }
            else if (reader.ValueTextEquals("customer_id"u8))
            {
                customerId = Text(ref reader, "customer_id");
            }
            else if (reader.ValueTextEquals("status"u8))
            {
                status = Status(ref reader);
            }
            else if (reader.ValueTextEquals("currency"u8))
            {
                currency = Text(ref reader, "currency");
            }
            else if (reader.ValueTextEquals("total_amount"u8))
            {
                totalAmount = Money(ref reader, "total_amount");
            }
            else if (reader.ValueTextEquals("created_at"u8))
            {
                createdAt = Time(ref reader, "created_at");
            }
            else if (reader.ValueTextEquals("updated_at"u8))
            {
                updatedAt = Time(ref reader, "updated_at");
            }
            else
            {
                reader.Skip();
            }
        }

        return new Change
        {
            OrderId = record.OrderId!,
            Version = version,
            SequenceNumber = sequenceNumber,
            EventId = record.EventId!,
            Operation = operation,
            ChangedAt = ToMicroseconds(record.ChangedAt),
            TraceParent = traceParent,
            MerchantId = merchantId,
            CustomerId = customerId,
            Status = status,
            Currency = currency,
            TotalAmount = totalAmount,
            CreatedAt = createdAt,
            UpdatedAt = updatedAt,
            Document = Encoding.UTF8.GetString(image),
        };
    }

    private static string? Text(ref Utf8JsonReader reader, string attribute)
    {
        reader.Read();
        return reader.TokenType switch
        {
            JsonTokenType.Null => null,
            JsonTokenType.String => reader.GetString(),
            _ => throw WrongType(attribute, "a string"),
        };
    }

    internal static long? Version(ref Utf8JsonReader reader)
    {
        reader.Read();
        return reader.TokenType switch
        {
            JsonTokenType.Null => null,
            JsonTokenType.Number when JsonNumber.TryScale(reader.ValueSpan, 0, out var value) && value >= 0 => value,
            JsonTokenType.Number => throw new UndecodableRecordException("attribute 'version' is not a whole number from 0 to 10^18 - 1"),
            _ => throw WrongType("version", "a number"),
        };
    }

    internal static decimal? Money(ref Utf8JsonReader reader, string attribute)
    {
        reader.Read();
        return reader.TokenType switch
        {
            JsonTokenType.Null => null,
            JsonTokenType.Number when JsonNumber.TryScale(reader.ValueSpan, 2, out var hundredths) => hundredths / 100.00m,
            JsonTokenType.Number => throw new UndecodableRecordException($"attribute '{attribute}' does not fit DECIMAL(18, 2)"),
            _ => throw WrongType(attribute, "a number"),
        };
    }

    internal static OrderStatus? Status(ref Utf8JsonReader reader)
    {
        var text = Text(ref reader, "status");
        return text switch
        {
            null => null,
            _ when OrderStatusText.TryParse(text, out var status) => status,
            { Length: <= StatusShown } when text.All(char.IsAsciiLetterOrDigit) =>
                throw new UndecodableRecordException($"attribute 'status' has the unknown value '{text}'"),
            _ => throw new UndecodableRecordException("attribute 'status' has an unknown value"),
        };
    }

    /// <summary>
    /// RFC 3339, cut to microseconds, the resolution of Parquet and SQL. The reader alone would take ISO 8601
    /// forms without an offset as local time.
    /// </summary>
    internal static DateTimeOffset? Time(ref Utf8JsonReader reader, string attribute)
    {
        reader.Read();
        if (reader.TokenType == JsonTokenType.Null)
        {
            return null;
        }

        if (reader.TokenType != JsonTokenType.String)
        {
            throw WrongType(attribute, "a string");
        }

        var text = reader.ValueSpan;
        var hasOffset = text is [.., (byte)'Z'] || (text.Length > 6 && text[^6] is (byte)'+' or (byte)'-' && text[^3] == ':');
        return hasOffset && text.Contains((byte)'T') && reader.TryGetDateTimeOffset(out var time)
            ? ToMicroseconds(time)
            : throw new UndecodableRecordException($"attribute '{attribute}' is not a time in RFC 3339");
    }

    /// <summary>UTC, cut to the resolution of Parquet and SQL.</summary>
    public static DateTimeOffset ToMicroseconds(DateTimeOffset time)
    {
        var utc = time.UtcTicks;
        return new DateTimeOffset(utc - (utc % TimeSpan.TicksPerMicrosecond), TimeSpan.Zero);
    }

    private static UndecodableRecordException WrongType(string attribute, string expected) =>
        new($"attribute '{attribute}' is not {expected}");

    /// <summary>Neither text of PostgreSQL nor a string of Redshift can hold U+0000.</summary>
    private static void RefuseNul(ReadOnlySpan<byte> image)
    {
        // As a rule there is no such escape at all, and one pass at memory speed shows it. A backslash before
        // the escape makes it plain text, so a find is looked at again token by token.
        if (image.IndexOf(@"\u0000"u8) < 0)
        {
            return;
        }

        var attribute = "";
        var reader = new Utf8JsonReader(image);
        while (reader.Read())
        {
            if (reader.TokenType is not (JsonTokenType.PropertyName or JsonTokenType.String))
            {
                continue;
            }

            var text = reader.GetString()!;
            var isAttribute = reader.TokenType == JsonTokenType.PropertyName && reader.CurrentDepth == 1;
            if (isAttribute)
            {
                attribute = text;
            }

            if (text.Contains('\0', StringComparison.Ordinal))
            {
                throw new UndecodableRecordException(isAttribute
                    ? "the name of an attribute contains U+0000"
                    : string.Create(CultureInfo.InvariantCulture, $"attribute '{attribute}' contains U+0000"));
            }
        }
    }

    private static void RefuseNul(string text, string what)
    {
        if (text.Contains('\0', StringComparison.Ordinal))
        {
            throw new UndecodableRecordException($"{what} contains U+0000");
        }
    }
}
