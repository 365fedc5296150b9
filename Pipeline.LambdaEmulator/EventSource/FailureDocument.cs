using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>Which mapping and shard a batch came from.</summary>
public sealed record BatchOrigin(string FunctionArn, string StreamArn, string ShardId);

/// <summary>
/// What an on-failure destination is told: Lambda developer guide, "Retain discarded records for a DynamoDB event
/// source".
/// </summary>
public static class FailureDocument
{
    /// <summary>For a queue: shard and sequence numbers, not the records; the stream keeps those for 24 hours.</summary>
    public static string Write(ShardAction.Discard discard, BatchOrigin origin, Guid requestId, DateTimeOffset now) =>
        Write(discard, origin, requestId, now, payload: null);

    /// <summary>For a bucket: the same, and the whole event as a text.</summary>
    public static string WriteWithRecords(ShardAction.Discard discard, BatchOrigin origin, Guid requestId, DateTimeOffset now) =>
        Write(discard, origin, requestId, now, $$"""{"Records":[{{string.Join(',', discard.Batch.Records.Select(record => Encoding.UTF8.GetString(record.Json.Span)))}}]}""");

    private static string Write(ShardAction.Discard discard, BatchOrigin origin, Guid requestId, DateTimeOffset now, string? payload)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteStartObject("requestContext");
            json.WriteString("requestId", requestId);
            json.WriteString("functionArn", origin.FunctionArn);
            json.WriteString("condition", discard.Condition.ToString());
            json.WriteNumber("approximateInvokeCount", discard.Batch.Invocations);
            json.WriteEndObject();
            if (discard.Batch.LastOutcome is { } outcome)
            {
                json.WriteStartObject("responseContext");
                json.WriteNumber("statusCode", 200);
                json.WriteString("executedVersion", "$LATEST");
                if (outcome is InvocationOutcome.Failed)
                {
                    json.WriteString("functionError", "Unhandled");
                }

                json.WriteEndObject();
            }

            json.WriteString("version", "1.0");
            json.WriteString("timestamp", now.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture));
            json.WriteStartObject("DDBStreamBatchInfo");
            json.WriteString("shardId", origin.ShardId);
            json.WriteString("startSequenceNumber", discard.Batch.First.SequenceNumber);
            json.WriteString("endSequenceNumber", discard.Batch.Last.SequenceNumber);
            json.WriteString("approximateArrivalOfFirstRecord", Seconds(discard.Batch.First.CreatedAt));
            json.WriteString("approximateArrivalOfLastRecord", Seconds(discard.Batch.Last.CreatedAt));
            json.WriteNumber("batchSize", discard.Batch.Count);
            json.WriteString("streamArn", origin.StreamArn);
            json.WriteEndObject();
            if (payload is not null)
            {
                json.WriteString("payload", payload);
            }

            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length);
    }

    private static string Seconds(DateTimeOffset at) =>
        at.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
}
