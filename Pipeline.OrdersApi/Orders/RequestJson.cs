using System.Text.Json;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.Net.Http.Headers;
using Microsoft.OpenApi;

namespace Pipeline.OrdersApi.Orders;

/// <summary>Reads a body once, at the edge: what comes out of here fits its schema.</summary>
internal static class RequestJson
{
    /// <summary>Four times the largest order that the limits allow; Kestrel stops reading there.</summary>
    public const int MaxBodyBytes = 256 * 1024;

    /// <summary>Of POST /orders/batch. Lambda takes 6 MB of a request, which it gets with its headers and in Base64 or escaped.</summary>
    public const int MaxBatchBytes = 4 * 1024 * 1024;

    private const string Json = "application/json";

    /// <summary>RFC 7396; what a client of PATCH may send as well.</summary>
    public const string MergePatch = "application/merge-patch+json";

    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false, MaxDepth = 16 };

    public static async Task<(JsonElement Body, ProblemHttpResult? Problem)> ReadAsync(
        HttpRequest request, OpenApiSchema schema, int maxBytes = MaxBodyBytes, string alsoTakes = Json)
    {
        if (!IsJson(request.ContentType, alsoTakes))
        {
            return (default, Problems.NotJson());
        }

        using var bytes = new MemoryStream();
        try
        {
            await request.Body.CopyToAsync(bytes, request.HttpContext.RequestAborted);
        }
        catch (BadHttpRequestException error) when (error.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            return (default, Problems.TooLarge(maxBytes));
        }

        JsonElement body;
        try
        {
            body = JsonElement.Parse(bytes.GetBuffer().AsSpan(0, (int)bytes.Length), Strict);
        }
        catch (JsonException error)
        {
            var place = error.LineNumber is { } line ? $" (line {line + 1}, byte {error.BytePositionInLine + 1} of it)" : ", or nested too deeply";
            return (default, Problems.Invalid(new InvalidInput($"must be valid JSON{place}", "#")));
        }
        catch (InvalidOperationException)
        {
            // The parser's own answer to a field name with half of a surrogate pair.
            return (default, Problems.Invalid(new InvalidInput("must be valid Unicode", "#")));
        }

        var faults = SchemaCheck.Faults(body, schema);
        return faults.Count > 0 ? (default, Problems.Invalid(faults)) : (body, null);
    }

    private static bool IsJson(string? contentType, string alsoTakes) =>
        MediaTypeHeaderValue.TryParse(contentType, out var type)
        && (type.MediaType.Equals(Json, StringComparison.OrdinalIgnoreCase) || type.MediaType.Equals(alsoTakes, StringComparison.OrdinalIgnoreCase))
        && (!type.Charset.HasValue || type.Charset.Equals("utf-8", StringComparison.OrdinalIgnoreCase));
}
