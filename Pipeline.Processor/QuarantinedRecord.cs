using System.Text.Json.Serialization;
using Amazon.Lambda.DynamoDBEvents;

namespace Pipeline.Processor;

/// <summary>
/// A record that could not be decoded, whole: with every type tag, as the event had it, so that it can be decoded
/// again when the cause is mended. It follows from the record alone: a batch that comes again writes the same bytes.
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
