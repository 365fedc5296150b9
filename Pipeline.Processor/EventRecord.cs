using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Amazon.Lambda.DynamoDBEvents;
using Pipeline.Core;
using AttributeValue = Amazon.Lambda.DynamoDBEvents.DynamoDBEvent.AttributeValue;

namespace Pipeline.Processor;

/// <summary>
/// A record of a Lambda event → the stream record of Core, its tagged image as plain canonical JSON. Personal data is
/// protected on this way, where each value's place and type are known: no clear value gets any further.
/// </summary>
public static class EventRecord
{
    /// <summary>
    /// Text stays readable (é, not \u00E9), with the least escaping that JSON allows: the document is data in a
    /// warehouse and never put into HTML.
    /// </summary>
    private static readonly JsonWriterOptions Canonical = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <exception cref="UndecodableRecordException">The image has no plain JSON form; the message says why.</exception>
    public static StreamRecord ToStreamRecord(DynamoDBEvent.DynamodbStreamRecord? record, PersonalDataProtector protector) =>
        Convert(record, protector);

    /// <summary>Of a record that was parked, in which personal data is protected already: it passes through as it is.</summary>
    /// <exception cref="UndecodableRecordException">The image has no plain JSON form; the message says why.</exception>
    /// <exception cref="ArgumentException">It was parked with clear values (<see cref="QuarantinedRecord.ProtectedWith"/>).</exception>
    public static StreamRecord ToStreamRecord(QuarantinedRecord parked) => parked.ProtectedWith is not null
        ? Convert(parked.Record, protector: null)
        : throw new ArgumentException("The personal data in the parked record is not protected.", nameof(parked));

    private static StreamRecord Convert(DynamoDBEvent.DynamodbStreamRecord? record, PersonalDataProtector? protector)
    {
        var stream = record?.Dynamodb ?? throw new UndecodableRecordException("the record has no 'dynamodb' part");
        return new StreamRecord
        {
            EventId = record.EventID,
            EventName = record.EventName,
            SequenceNumber = stream.SequenceNumber,
            ChangedAt = ChangedAt(stream) ?? throw new UndecodableRecordException("the record has no ApproximateCreationDateTime"),
            OrderId = stream.Keys?.GetValueOrDefault("order_id")?.S,
            Image = (record.EventName == "REMOVE" ? stream.OldImage : stream.NewImage) is { } image ? ToJson(image, protector) : default,
        };
    }

    /// <summary>Under the event's id, or where that is missing or unusable under the hash of the quarantined content.</summary>
    public static string QuarantineKey(DynamoDBEvent.DynamodbStreamRecord? record, ReadOnlyMemory<byte> content) =>
        ObjectKeys.Quarantine(record?.Dynamodb is { } stream ? ChangedAt(stream) : null, record?.EventID, content.Span);

    /// <summary>The event gives epoch seconds, which the serializer reads as UTC; null when it gives none.</summary>
    private static DateTimeOffset? ChangedAt(DynamoDBEvent.StreamRecord stream) => stream.ApproximateCreationDateTime == default
        ? null
        : new DateTimeOffset(DateTime.SpecifyKind(stream.ApproximateCreationDateTime, DateTimeKind.Utc));

    /// <summary>The record with every value of both images that is personal data in its protected form; all else is as it was.</summary>
    public static DynamoDBEvent.DynamodbStreamRecord? Protected(DynamoDBEvent.DynamodbStreamRecord? record, PersonalDataProtector protector) => record is null ? null : new()
    {
        AwsRegion = record.AwsRegion,
        EventID = record.EventID,
        EventName = record.EventName,
        EventSource = record.EventSource,
        EventSourceArn = record.EventSourceArn,
        EventVersion = record.EventVersion,
        UserIdentity = record.UserIdentity,
        Dynamodb = record.Dynamodb is not { } stream ? null : new()
        {
            ApproximateCreationDateTime = stream.ApproximateCreationDateTime,
            Keys = stream.Keys,
            NewImage = Protected(stream.NewImage, PersonalData.Item, protector),
            OldImage = Protected(stream.OldImage, PersonalData.Item, protector),
            SequenceNumber = stream.SequenceNumber,
            SizeBytes = stream.SizeBytes,
            StreamViewType = stream.StreamViewType,
        },
    };

    private static Dictionary<string, AttributeValue>? Protected(Dictionary<string, AttributeValue>? map, PersonalPlace place, PersonalDataProtector protector) =>
        map?.ToDictionary(
            member => member.Key,
            member => place.Member(member.Key) is { } below ? Protected(member.Value, below, protector) : member.Value,
            StringComparer.Ordinal);

    private static AttributeValue Protected(AttributeValue value, PersonalPlace place, PersonalDataProtector protector) => value switch
    {
        null or { NULL: true } => value!,
        { L: { } list } => new() { L = [.. list.Select(element => Protected(element, place, protector))] },
        { M: { } map } when !place.IsValue => new() { M = Protected(map, place, protector) },
        _ => new() { S = protector.Protect(place, Content(value)) },
    };

    /// <summary>
    /// What there is to protect of a value. Where text is expected and something else lies, all of that is personal data:
    /// its plain JSON is protected as one text.
    /// </summary>
    private static string Content(AttributeValue value)
    {
        try
        {
            return value.S ?? value.N ?? Encoding.UTF8.GetString(ToJson(writer => Write(writer, value, "", place: null, protector: null)).Span);
        }
        catch (UndecodableRecordException)
        {
            // Of no type that DynamoDB has: there is nothing in it that could be kept.
            return "";
        }
    }

    private static ReadOnlyMemory<byte> ToJson(Dictionary<string, AttributeValue> image, PersonalDataProtector? protector) =>
        ToJson(writer => WriteMap(writer, image, attribute: null, protector is null ? null : PersonalData.Item, protector));

    private static ReadOnlyMemory<byte> ToJson(Action<Utf8JsonWriter> write)
    {
        var json = new ArrayBufferWriter<byte>(1024);
        using (var writer = new Utf8JsonWriter(json, Canonical))
        {
            write(writer);
        }

        return json.WrittenMemory;
    }

    /// <param name="writer">Takes the map.</param>
    /// <param name="map">Its members, in any order.</param>
    /// <param name="attribute">The top-level attribute that the map is in; null for the image itself.</param>
    /// <param name="place">The map's, where something in it is personal data; else null.</param>
    /// <param name="protector">Null: nothing is to be protected.</param>
    private static void WriteMap(
        Utf8JsonWriter writer, Dictionary<string, AttributeValue> map, string? attribute, PersonalPlace? place, PersonalDataProtector? protector)
    {
        writer.WriteStartObject();
        foreach (var (name, member) in map.OrderBy(entry => entry.Key, StringComparer.Ordinal))
        {
            writer.WritePropertyName(name);
            Write(writer, member, attribute ?? name, place?.Member(name), protector);
        }

        writer.WriteEndObject();
    }

    /// <param name="writer">Takes the value.</param>
    /// <param name="value">One tagged value.</param>
    /// <param name="attribute">The top-level attribute that the value is in, for the reason.</param>
    /// <param name="place">The value's, where it is or holds personal data; else null.</param>
    /// <param name="protector">Null: nothing is to be protected.</param>
    private static void Write(Utf8JsonWriter writer, AttributeValue? value, string attribute, PersonalPlace? place, PersonalDataProtector? protector)
    {
        switch (value)
        {
            case { L: { } list }:
                writer.WriteStartArray();
                foreach (var element in list)
                {
                    Write(writer, element, attribute, place, protector);
                }

                writer.WriteEndArray();
                break;
            case { NULL: true }:
                writer.WriteNullValue();
                break;
            case { M: { } map } when place is not { IsValue: true }:
                WriteMap(writer, map, attribute, place, protector);
                break;
            case not null when place is not null && protector is not null:
                Span<byte> hash = stackalloc byte[PersonalDataProtector.TextLength];
                writer.WriteStringValue(hash[..protector.Protect(place, Content(value), hash)]);
                break;
            case { S: { } text }:
                writer.WriteStringValue(text);
                break;
            case { N: { } number }:
                WriteNumber(writer, number, attribute);
                break;
            case { BOOL: { } boolean }:
                writer.WriteBooleanValue(boolean);
                break;
            case { B: { } bytes }:
                writer.WriteBase64StringValue(bytes.ToArray());
                break;

            // DynamoDB gives the members of a set in any order.
            case { SS: { } texts }:
                WriteSet(writer, texts, writer.WriteStringValue);
                break;
            case { NS: { } numbers }:
                WriteSet(writer, numbers, number => WriteNumber(writer, number, attribute));
                break;
            case { BS: { } binaries }:
                WriteSet(writer, binaries.Select(binary => System.Convert.ToBase64String(binary.ToArray())), writer.WriteStringValue);
                break;
            default:
                throw new UndecodableRecordException($"attribute '{attribute}' contains a value without a known type");
        }
    }

    private static void WriteSet(Utf8JsonWriter writer, IEnumerable<string> members, Action<string> write)
    {
        writer.WriteStartArray();
        foreach (var member in members.Order(StringComparer.Ordinal))
        {
            write(member);
        }

        writer.WriteEndArray();
    }

    /// <summary>As DynamoDB wrote it, digit for digit: up to 38 of them, which neither double nor decimal holds.</summary>
    private static void WriteNumber(Utf8JsonWriter writer, string number, string attribute)
    {
        if (!JsonNumber.IsValid(number))
        {
            throw new UndecodableRecordException($"attribute '{attribute}' contains a number that is not one in JSON");
        }

        writer.WriteRawValue(number, skipInputValidation: true);
    }
}
