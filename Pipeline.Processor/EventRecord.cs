using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using Amazon.Lambda.DynamoDBEvents;
using Pipeline.Core;
using AttributeValue = Amazon.Lambda.DynamoDBEvents.DynamoDBEvent.AttributeValue;

namespace Pipeline.Processor;

/// <summary>A record of a Lambda event → the stream record of Core, its tagged image as plain canonical JSON.</summary>
public static class EventRecord
{
    /// <summary>
    /// Text stays readable (é, not \u00E9), with the least escaping that JSON allows: the document is data in a
    /// warehouse and never put into HTML.
    /// </summary>
    private static readonly JsonWriterOptions Canonical = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <exception cref="UndecodableRecordException">The image has no plain JSON form; the message says why.</exception>
    public static StreamRecord ToStreamRecord(DynamoDBEvent.DynamodbStreamRecord? record)
    {
        var stream = record?.Dynamodb ?? throw new UndecodableRecordException("the record has no 'dynamodb' part");
        return new StreamRecord
        {
            EventId = record.EventID,
            EventName = record.EventName,
            SequenceNumber = stream.SequenceNumber,
            ChangedAt = ChangedAt(stream) ?? throw new UndecodableRecordException("the record has no ApproximateCreationDateTime"),
            OrderId = stream.Keys?.GetValueOrDefault("order_id")?.S,
            Image = (record.EventName == "REMOVE" ? stream.OldImage : stream.NewImage) is { } image ? ToJson(image) : default,
        };
    }

    /// <summary>Under the event's id, or where that is missing or unusable under the hash of the quarantined content.</summary>
    public static string QuarantineKey(DynamoDBEvent.DynamodbStreamRecord? record, ReadOnlyMemory<byte> content) =>
        ObjectKeys.Quarantine(record?.Dynamodb is { } stream ? ChangedAt(stream) : null, record?.EventID, content.Span);

    /// <summary>The event gives epoch seconds, which the serializer reads as UTC; null when it gives none.</summary>
    private static DateTimeOffset? ChangedAt(DynamoDBEvent.StreamRecord stream) => stream.ApproximateCreationDateTime == default
        ? null
        : new DateTimeOffset(DateTime.SpecifyKind(stream.ApproximateCreationDateTime, DateTimeKind.Utc));

    private static ReadOnlyMemory<byte> ToJson(Dictionary<string, AttributeValue> image)
    {
        var json = new ArrayBufferWriter<byte>(1024);
        using (var writer = new Utf8JsonWriter(json, Canonical))
        {
            writer.WriteStartObject();
            foreach (var (name, value) in image.OrderBy(attribute => attribute.Key, StringComparer.Ordinal))
            {
                writer.WritePropertyName(name);
                Write(writer, value, name);
            }

            writer.WriteEndObject();
        }

        return json.WrittenMemory;
    }

    /// <param name="writer">Takes the value.</param>
    /// <param name="value">One tagged value.</param>
    /// <param name="attribute">The top-level attribute that the value is in, for the reason.</param>
    private static void Write(Utf8JsonWriter writer, AttributeValue? value, string attribute)
    {
        switch (value)
        {
            case { S: { } text }:
                writer.WriteStringValue(text);
                break;
            case { N: { } number }:
                WriteNumber(writer, number, attribute);
                break;
            case { BOOL: { } boolean }:
                writer.WriteBooleanValue(boolean);
                break;
            case { NULL: true }:
                writer.WriteNullValue();
                break;
            case { M: { } map }:
                writer.WriteStartObject();
                foreach (var (name, member) in map.OrderBy(entry => entry.Key, StringComparer.Ordinal))
                {
                    writer.WritePropertyName(name);
                    Write(writer, member, attribute);
                }

                writer.WriteEndObject();
                break;
            case { L: { } list }:
                writer.WriteStartArray();
                foreach (var element in list)
                {
                    Write(writer, element, attribute);
                }

                writer.WriteEndArray();
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
                WriteSet(writer, binaries.Select(binary => Convert.ToBase64String(binary.ToArray())), writer.WriteStringValue);
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
