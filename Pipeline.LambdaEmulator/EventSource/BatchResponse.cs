using System.Text.Json;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>
/// What a function's answer says about its batch when ReportBatchItemFailures is on: Lambda developer guide,
/// "Configuring partial batch response with DynamoDB and Lambda" and "Handling errors for an SQS event source".
/// </summary>
public static class BatchResponse
{
    /// <summary>
    /// Of a stream's batch, the index of the first record to retry: the batch's size when everything succeeded, 0 when
    /// nothing did.
    /// </summary>
    /// <remarks>
    /// Complete success: an empty or null list, an empty or null response. Complete failure: an identifier that is
    /// empty, null or under another name. Otherwise the lowest reported sequence number decides. Where that page is
    /// silent (an answer that is not a JSON object, an identifier that is not in the batch) this follows "Handling
    /// errors for an SQS event source": complete failure, so that nothing is skipped by mistake.
    /// </remarks>
    public static int FirstFailed(ReadOnlyMemory<byte> response, Batch batch)
    {
        if (Reported(response) is not { } reported)
        {
            return 0;
        }

        var lowest = batch.Count;
        for (var i = batch.Count - 1; i >= 0 && reported.Count > 0; i--)
        {
            if (reported.Remove(batch.Buffered[i].Record.SequenceNumber))
            {
                lowest = i;
            }
        }

        // What is left was in no record, an empty identifier for example.
        return reported.Count > 0 ? 0 : lowest;
    }

    /// <summary>
    /// Of a queue's batch, the ids of the messages that failed: none when everything succeeded, all when nothing did.
    /// Lambda developer guide, "Handling errors for an SQS event source", success and failure conditions.
    /// </summary>
    public static IReadOnlySet<string> FailedMessages(ReadOnlyMemory<byte> response, QueueBatch batch)
    {
        var all = batch.Messages.Select(message => message.Id).ToHashSet();
        return Reported(response) is { } reported && reported.IsSubsetOf(all) ? reported : all;
    }

    /// <summary>The identifiers that are reported as failed; null for an answer that makes all of the batch a failure.</summary>
    private static HashSet<string>? Reported(ReadOnlyMemory<byte> response)
    {
        if (response.Span.Trim(" \t\r\n"u8).IsEmpty)
        {
            return [];
        }

        try
        {
            using var document = JsonDocument.Parse(response);
            return document.RootElement.ValueKind switch
            {
                JsonValueKind.Null => [],
                JsonValueKind.Object => Reported(document.RootElement),
                _ => null,
            };
        }
        catch (Exception e) when (UnreadableJson.IsMeantBy(e))
        {
            return null;
        }
    }

    private static HashSet<string>? Reported(JsonElement response)
    {
        if (!response.TryGetProperty("batchItemFailures", out var failures) || failures.ValueKind == JsonValueKind.Null)
        {
            return [];
        }

        if (failures.ValueKind != JsonValueKind.Array)
        {
            return null;
        }

        var reported = new HashSet<string>();
        foreach (var failure in failures.EnumerateArray())
        {
            if (failure.ValueKind != JsonValueKind.Object
                || !failure.TryGetProperty("itemIdentifier", out var identifier)
                || identifier.ValueKind != JsonValueKind.String)
            {
                return null;
            }

            reported.Add(identifier.GetString()!);
        }

        return reported;
    }
}
