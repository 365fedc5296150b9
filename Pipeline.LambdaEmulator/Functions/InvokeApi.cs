using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http.HttpResults;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Functions;

/// <summary>Lambda API reference, "Invoke": for trying a function by hand or from a test.</summary>
public static class InvokeApi
{
    public static void MapInvokeApi(this WebApplication app) =>
        app.MapPost("/2015-03-31/functions/{function}/invocations", InvokeAsync);

    private static async Task<IResult> InvokeAsync(string function, HttpContext context, FunctionRegistry functions)
    {
        // A name, or an ARN, either with a qualifier behind it.
        var name = function.Contains(":function:", StringComparison.Ordinal) ? function.Split(":function:")[1] : function;
        if (functions.Find(name.Split(':')[0]) is not { } found)
        {
            return Refuse(context, StatusCodes.Status404NotFound, "ResourceNotFoundException", $"Function not found: {function}");
        }

        var type = context.Request.Headers["X-Amz-Invocation-Type"].ToString();
        if (type == "DryRun")
        {
            return TypedResults.NoContent();
        }

        if (type is not ("" or "RequestResponse"))
        {
            return Refuse(context, StatusCodes.Status400BadRequest, "InvalidParameterValueException",
                $"X-Amz-Invocation-Type is {type}; the emulator knows RequestResponse and DryRun.");
        }

        var (payload, isTooLarge) = await PayloadBody.ReadAsync(context);
        if (isTooLarge)
        {
            return Refuse(context, StatusCodes.Status413PayloadTooLarge, "RequestTooLargeException",
                $"The payload is too large for the RequestResponse invocation type (limit {ShardProcessor.PayloadBytesMax} bytes)");
        }

        if (payload.Length > 0 && !IsJson(payload))
        {
            return Refuse(context, StatusCodes.Status400BadRequest, "InvalidRequestContentException", "Could not parse request body into json.");
        }

        var outcome = await found.InvokeAsync(EventPayload.Of(payload.Length > 0 ? payload : "null"u8.ToArray()), context.RequestAborted);
        context.Response.Headers["X-Amz-Executed-Version"] = "$LATEST";
        switch (outcome)
        {
            case InvocationOutcome.Answered answered:
                return TypedResults.Bytes(answered.Response, "application/json");
            case InvocationOutcome.Failed failed:
                context.Response.Headers["X-Amz-Function-Error"] = "Unhandled";
                return TypedResults.Bytes(
                    failed.Json.Length > 0
                        ? failed.Json
                        : Encoding.UTF8.GetBytes(JsonSerializer.Serialize(new { errorType = failed.ErrorType, errorMessage = failed.ErrorMessage })),
                    "application/json");
            default:
                return Refuse(context, StatusCodes.Status429TooManyRequests, "TooManyRequestsException", "Rate Exceeded.");
        }
    }

    private static bool IsJson(ReadOnlyMemory<byte> payload)
    {
        try
        {
            // Deeper than .NET's own 64: how deep an event may be is the function's business.
            using var document = JsonDocument.Parse(payload, new JsonDocumentOptions { MaxDepth = 1000 });
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private sealed record Refusal(string Type, string Message);

    private static JsonHttpResult<Refusal> Refuse(HttpContext context, int status, string type, string message)
    {
        context.Response.Headers["X-Amzn-ErrorType"] = type;
        return TypedResults.Json(new Refusal("User", message), statusCode: status);
    }
}
