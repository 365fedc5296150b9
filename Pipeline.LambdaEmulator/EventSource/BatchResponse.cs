using System.Text.Json;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>
/// What a function's answer says about its batch when ReportBatchItemFailures is on: Lambda developer guide,
/// "Configuring partial batch response with DynamoDB and Lambda".
/// </summary>
public static class BatchResponse
{
    /// <summary>
    /// The index of the first record to retry: the batch's size when everything succeeded, 0 when nothing did.
    /// </summary>
    /// <remarks>
    /// Complete success: an empty or null list, an empty or null response. Complete failure: an identifier that is
    /// empty, null or under another name. Otherwise the lowest reported sequence number decides. Where that page is
    /// silent (an answer that is not a JSON object, an identifier that is not in the batch) this follows "Handling
    /// errors for an SQS event source": complete failure, so that nothing is skipped by mistake.
    /// </remarks>
    public static int FirstFailed(ReadOnlyMemory<byte> response, Batch batch)
    {
        if (response.Span.Trim(" \t\r\n"u8).IsEmpty)
        {
            return batch.Count;
        }

        try
        {
            using var document = JsonDocument.Parse(response);
            return document.RootElement.ValueKind switch
            {
                JsonValueKind.Null => batch.Count,
                JsonValueKind.Object => FirstFailed(document.RootElement, batch),
                _ => 0,
            };
        }
        catch (JsonException)
        {
            return 0;
        }
    }

    private static int FirstFailed(JsonElement response, Batch batch)
    {
        if (!response.TryGetProperty("batchItemFailures", out var failures) || failures.ValueKind == JsonValueKind.Null)
        {
            return batch.Count;
        }

        if (failures.ValueKind != JsonValueKind.Array)
        {
            return 0;
        }

        var reported = new HashSet<string>();
        foreach (var failure in failures.EnumerateArray())
        {
            if (failure.ValueKind != JsonValueKind.Object
                || !failure.TryGetProperty("itemIdentifier", out var identifier)
                || identifier.ValueKind != JsonValueKind.String)
            {
                return 0;
            }

            reported.Add(identifier.GetString()!);
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
}
