using System.Text.Json;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>One record of a shard, already in the form in which a function receives it.</summary>
/// <param name="SequenceNumber">Decimal digits; rises within a shard.</param>
/// <param name="ItemHash">The same for all records of one item (partition and sort key); decides the lane.</param>
/// <param name="CreatedAt">When the change was made, as the stream says; age limits count from here.</param>
/// <param name="Json">The record as an element of the event's <c>Records</c>.</param>
public sealed record StreamRecord(string SequenceNumber, ulong ItemHash, DateTimeOffset CreatedAt, ReadOnlyMemory<byte> Json)
{
    private static readonly JsonReaderOptions Options = new() { MaxDepth = StreamRecordFormat.JsonDepthMax };

    /// <summary>The value of a top-level attribute of the new image; null if it is not there or no string that can be read.</summary>
    public string? NewText(string attribute)
    {
        try
        {
            var reader = new Utf8JsonReader(Json.Span, Options);
            reader.Read();
            return Enter(ref reader, "dynamodb") && Enter(ref reader, "NewImage") && Enter(ref reader, attribute) && Enter(ref reader, "S")
                ? reader.GetString()
                : null;
        }
        catch (Exception e) when (UnreadableJson.IsMeantBy(e))
        {
            return null;
        }
    }

    /// <summary>From an object's beginning to the value of one of its members; false if there is none.</summary>
    private static bool Enter(ref Utf8JsonReader reader, string member)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            return false;
        }

        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var isIt = reader.ValueTextEquals(member);
            reader.Read();
            if (isIt)
            {
                return true;
            }

            reader.Skip();
        }

        return false;
    }
}
