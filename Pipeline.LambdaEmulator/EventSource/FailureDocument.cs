using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>Which mapping and shard a batch came from.</summary>
public sealed record BatchOrigin(string FunctionArn, string StreamArn, string ShardId);

/// <summary>
/// What an on-failure destination of type SQS is told: Lambda developer guide, "Retain discarded records for a
/// DynamoDB event source". Shard and sequence numbers, not the records: the stream keeps those for 24 hours.
/// </summary>
public static class FailureDocument
{
    public static string Write(ShardAction.Discard discard, BatchOrigin origin, Guid requestId, DateTimeOffset now)
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
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length);
    }

    private static string Seconds(DateTimeOffset at) =>
        at.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
}
