using System.Text.Json.Serialization;
using Amazon.Lambda.DynamoDBEvents;
using Pipeline.Core;

namespace Pipeline.Processor;

/// <summary>
/// A record that could not be decoded, whole: with every type tag, as the event had it but for personal data, which is
/// protected, so that it can be decoded again when the cause is mended. It follows from the record alone: a batch that comes again writes the same bytes.
/// </summary>
public sealed record QuarantinedRecord(
    [property: JsonPropertyName("reason")] string Reason,
    [property: JsonPropertyName("record")] DynamoDBEvent.DynamodbStreamRecord? Record)
{
    /// <summary>
    /// Which try of the record this was: 1 from the stream, whose own redeliveries Lambda does not count for a
    /// function; a redrive from quarantine counts on.
    /// </summary>
    [JsonPropertyName("attempt")]
    public int Attempt { get; init; } = 1;

    /// <summary>
    /// The id of the key that the record's personal data is protected with: a redrive leaves it as it is. Only the
    /// function writes this, so no client can pass a value off as protected. Null in objects of before there was
    /// protection, which hold clear values.
    /// </summary>
    [JsonPropertyName("protected_with")]
    public string? ProtectedWith { get; init; }

    /// <summary>With the record's personal data protected.</summary>
    public static QuarantinedRecord Of(string reason, DynamoDBEvent.DynamodbStreamRecord? record, PersonalDataProtector protector) =>
        new(reason, EventRecord.Protected(record, protector)) { ProtectedWith = protector.KeyId };

    public ReadOnlyMemory<byte> ToJson()
    {
        using var json = new MemoryStream();
        EntryPoint.Serializer.Serialize(this, json);
        return json.ToArray();
    }
}

[JsonSerializable(typeof(DynamoDBEvent))]
[JsonSerializable(typeof(StreamsEventResponse))]
[JsonSerializable(typeof(QuarantinedRecord))]
// A line of an export of the table, which Pipeline.Ops reads: {"Item": …}.
[JsonSerializable(typeof(Dictionary<string, Dictionary<string, DynamoDBEvent.AttributeValue>>))]
public sealed partial class ProcessorJsonContext : JsonSerializerContext;
