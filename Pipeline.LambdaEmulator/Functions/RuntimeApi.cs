using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http.HttpResults;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Functions;

/// <summary>
/// The Lambda Runtime API for every function, under the function's name: Lambda developer guide, "Using the Lambda
/// runtime API for custom runtimes". A function's process finds it with <c>AWS_LAMBDA_RUNTIME_API=host:port/name</c>.
/// </summary>
public static class RuntimeApi
{
    private sealed record Status(string status);

    private sealed record Error(string errorMessage, string errorType);

    public static void MapRuntimeApi(this WebApplication app)
    {
        var runtime = app.MapGroup("/{function}/2018-06-01/runtime").AddEndpointFilter(async (context, next) =>
        {
            var functions = context.HttpContext.RequestServices.GetRequiredService<FunctionRegistry>();
            var name = (string)context.HttpContext.GetRouteValue("function")!;
            if (functions.Find(name) is not { } function)
            {
                return TypedResults.NotFound(new Error(
                    $"No function is called {name}. There are: {string.Join(", ", functions.Names)}.", "ResourceNotFoundException"));
            }

            context.HttpContext.Features.Set(function);
            context.HttpContext.Features.Set(function.Client.Of(context.HttpContext));
            return await next(context);
        });
        runtime.MapGet("/invocation/next", (Delegate)NextAsync);
        runtime.MapPost("/invocation/{requestId}/response", (Delegate)RespondAsync);
        runtime.MapPost("/invocation/{requestId}/error", (Delegate)FailAsync);
        runtime.MapPost("/init/error", (Delegate)InitErrorAsync);
    }

    private static async Task<IResult> NextAsync(HttpContext context, IHostApplicationLifetime lifetime)
    {
        var function = context.Features.GetRequiredFeature<LambdaFunction>();
        var connection = context.Features.GetRequiredFeature<RuntimeConnection>();
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, lifetime.ApplicationStopping);
        Delivery delivery;
        try
        {
            delivery = await function.NextAsync(connection, ends.Token);
        }
        catch (OperationCanceledException)
        {
            // "Container error. Non-recoverable state. Runtime should exit promptly."
            return TypedResults.Json(new Error("The Lambda emulator is stopping.", "Sandbox.Stopping"), statusCode: StatusCodes.Status500InternalServerError);
        }

        var headers = context.Response.Headers;
        headers["Lambda-Runtime-Aws-Request-Id"] = delivery.Invocation.RequestId.ToString();
        headers["Lambda-Runtime-Deadline-Ms"] = delivery.Deadline.ToUnixTimeMilliseconds().ToString(CultureInfo.InvariantCulture);
        headers["Lambda-Runtime-Trace-Id"] = delivery.Invocation.TraceHeader;
        headers["Lambda-Runtime-Invoked-Function-Arn"] = function.Definition.Arn;
        context.Response.ContentType = "application/json";
        context.Response.ContentLength = delivery.Invocation.Payload.Length;
        await delivery.Invocation.Payload.WriteToAsync(context.Response.BodyWriter, context.RequestAborted);
        connection.Used();
        return TypedResults.Empty;
    }

    private static async Task<IResult> RespondAsync(HttpContext context, string requestId)
    {
        var function = context.Features.GetRequiredFeature<LambdaFunction>();
        var (body, isTooLarge) = await PayloadBody.ReadAsync(context);
        if (isTooLarge)
        {
            var message = $"Response payload size exceeded maximum allowed payload size ({ShardProcessor.PayloadBytesMax} bytes).";
            return Complete(function, requestId, new InvocationOutcome.Failed("Function.ResponseSizeTooLarge", message))
                ? TypedResults.Json(new Error(message, "Function.ResponseSizeTooLarge"), statusCode: StatusCodes.Status413PayloadTooLarge)
                : InvalidRequestId();
        }

        return Complete(function, requestId, new InvocationOutcome.Answered(body)) ? Accepted() : InvalidRequestId();
    }

    private static async Task<IResult> FailAsync(HttpContext context, string requestId)
    {
        var function = context.Features.GetRequiredFeature<LambdaFunction>();
        var (body, _) = await PayloadBody.ReadAsync(context);
        return Complete(function, requestId, ErrorOf(context, body)) ? Accepted() : InvalidRequestId();
    }

    private static async Task<IResult> InitErrorAsync(HttpContext context)
    {
        var (body, _) = await PayloadBody.ReadAsync(context);
        context.Features.GetRequiredFeature<LambdaFunction>().ReportInitError(ErrorOf(context, body));
        return Accepted();
    }

    private static bool Complete(LambdaFunction function, string requestId, InvocationOutcome outcome) =>
        Guid.TryParse(requestId, out var id) && function.TryComplete(id, outcome);

    private static Accepted<Status> Accepted() => TypedResults.Accepted((string?)null, new Status("OK"));

    /// <summary>Also the answer to an environment that comes too late: its invocation has timed out.</summary>
    private static JsonHttpResult<Error> InvalidRequestId() =>
        TypedResults.Json(new Error("Invalid request ID", "InvalidRequestID"), statusCode: StatusCodes.Status400BadRequest);

    private static InvocationOutcome.Failed ErrorOf(HttpContext context, ReadOnlyMemory<byte> body)
    {
        var type = context.Request.Headers["Lambda-Runtime-Function-Error-Type"].ToString();
        var message = "";
        try
        {
            using var document = JsonDocument.Parse(body);
            if (document.RootElement.ValueKind == JsonValueKind.Object)
            {
                (message, type) = (Text(document.RootElement, "errorMessage") ?? message, Text(document.RootElement, "errorType") ?? type);
            }
        }
        catch (Exception e) when (UnreadableJson.IsMeantBy(e))
        {
            // "Lambda's default behavior is to use the header to construct an error response when the error payload
            // is not provided or can not be read." (runtime-api.yaml)
            body = Encoding.UTF8.GetBytes(JsonSerializer.Serialize(new Error(message, type)));
        }

        return new InvocationOutcome.Failed(type.Length > 0 ? type : "Unhandled", message) { Json = body };
    }

    private static string? Text(JsonElement error, string name) =>
        error.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
}
