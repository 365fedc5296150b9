using System.Globalization;
using Amazon.DynamoDBv2.Model;
using Microsoft.AspNetCore.Diagnostics;
using Microsoft.AspNetCore.Http.HttpResults;
using Pipeline.Core;
using AmazonServiceException = Amazon.Runtime.AmazonServiceException;

namespace Pipeline.OrdersApi.Orders;

/// <summary>One thing that is wrong with a request, and where: a JSON pointer into the body, a query parameter or a header.</summary>
internal sealed record InvalidInput(string Detail, string? Pointer = null, string? Parameter = null, string? Header = null);

/// <summary>The errors of this API as RFC 9457 problem details. The type is what a program branches on (docs/api.md).</summary>
internal static class Problems
{
    public static ProblemHttpResult Invalid(params IReadOnlyList<InvalidInput> errors) => Problem(
        StatusCodes.Status400BadRequest, "invalid-request", "The request is not valid.",
        "Nothing was written. Each entry of errors names one fault.", ("errors", errors));

    /// <summary>What is wrong with the body and with a header, of which at least one is there: faults all at once, of other problems the first.</summary>
    public static ProblemHttpResult Together(ProblemHttpResult? ofBody, ProblemHttpResult? ofHeader) =>
        FaultsOf(ofBody) is { } some && FaultsOf(ofHeader) is { } others ? Invalid([.. some, .. others]) : ofBody ?? ofHeader!;

    private static IReadOnlyList<InvalidInput>? FaultsOf(ProblemHttpResult? problem) =>
        problem?.ProblemDetails.Extensions.TryGetValue("errors", out var errors) == true ? (IReadOnlyList<InvalidInput>)errors! : null;

    public static ProblemHttpResult NotFound(string orderId) => Problem(
        StatusCodes.Status404NotFound, "order-not-found", "There is no such order.", null, ("order_id", orderId));

    public static ProblemHttpResult AnotherMerchant() => Problem(
        StatusCodes.Status403Forbidden, "another-merchant", "The order is another merchant's.",
        "Nothing was written. merchant_id is the token's, or is left out.");

    public static IResult NoOrderServed() => new RetryLater(Unavailable(), 1);

    public static IResult TooMany(int seconds) => new RetryLater(
        Problem(
            StatusCodes.Status429TooManyRequests, "too-many-requests", "The merchant sends too many requests.",
            "Nothing was written. Send this one again after the seconds in Retry-After, and the others more slowly."),
        seconds);

    public static readonly string ExistsType = Urn("order-exists");

    public static ProblemHttpResult Exists(string orderId) => Problem(
        StatusCodes.Status409Conflict, "order-exists", "An order with this order_id exists.",
        "Nothing was written. GET the order to see whether it is yours.", ("order_id", orderId));

    public static ProblemHttpResult IllegalTransition(Order order, OrderStatus target) => Problem(
        StatusCodes.Status409Conflict, "illegal-transition", "The order cannot take this status.",
        $"From {order.Status.Name()} the status {target.Name()} cannot follow.",
        ("order_id", order.OrderId),
        ("order_status", order.Status.Name()),
        ("allowed", OrderTransitions.NextOf(order.Status).Select(status => status.Name()).ToArray()));

    public static ProblemHttpResult InProgress() => Problem(
        StatusCodes.Status409Conflict, "request-in-progress", "The first request is still being executed.",
        "Another request with this Idempotency-Key, or for this order, has no outcome yet. Send this one again in a moment.");

    public static ProblemHttpResult KeyReused() => Problem(
        StatusCodes.Status422UnprocessableEntity, "idempotency-key-reused", "This Idempotency-Key stands for another request.",
        "Nothing was written. A key is for one request and its repetitions; a request that differs needs a key of its own.");

    public static ProblemHttpResult Stale(Order order) => Problem(
        StatusCodes.Status412PreconditionFailed, "stale-version", "The order was changed since it was read.",
        "If-Match names another version. Read the order again and decide anew.", ("order_id", order.OrderId), ("version", order.Version));

    public static ProblemHttpResult PreconditionRequired() => Problem(
        StatusCodes.Status428PreconditionRequired, "if-match-required", "If-Match is required.",
        "Send the ETag of the order as you read it, or * if any version will do.");

    public static ProblemHttpResult TooLarge(long maxBytes) => Problem(
        StatusCodes.Status413PayloadTooLarge, "body-too-large", "The body is too large.", $"At most {maxBytes} bytes are read.");

    public static ProblemHttpResult NotJson() => Problem(
        StatusCodes.Status415UnsupportedMediaType, "not-json", "The body must be JSON.", "Send Content-Type: application/json, in UTF-8.");

    public static ProblemHttpResult Unavailable() => Problem(
        StatusCodes.Status503ServiceUnavailable, "table-unavailable", "The orders' table does not answer.",
        "A write may or may not have happened: repeat it with its Idempotency-Key, or GET the order first.");

    public static ProblemHttpResult NoWarehouse() => Problem(
        StatusCodes.Status501NotImplemented, "warehouse-not-configured", "This API does not know the warehouse.",
        "It has no connection to it (ConnectionStrings__warehouse). The order itself is at GET /orders/{order_id}.");

    public static IResult WarehouseUnavailable() => new RetryLater(
        Problem(StatusCodes.Status503ServiceUnavailable, "warehouse-unavailable", "The warehouse does not answer.", "The orders are not affected by it."), 1);

    /// <summary>What the framework itself refuses gets a type of ours where there is more to say than the status.</summary>
    public static void Complete(ProblemDetailsContext context)
    {
        if (context.ProblemDetails.Type?.StartsWith(Urn(""), StringComparison.Ordinal) == true)
        {
            return;
        }

        var (type, title, detail) = context.ProblemDetails.Status switch
        {
            StatusCodes.Status401Unauthorized => (
                "unauthenticated", "The request has no valid token.", "Send Authorization: Bearer with a token of this API's issuer that has not expired."),
            StatusCodes.Status403Forbidden => (
                "forbidden", "The token does not allow this.", "It needs the scope orders:read or orders:write (WWW-Authenticate says which), and one merchant_id."),
            _ => default,
        };
        if (type is not null)
        {
            (context.ProblemDetails.Type, context.ProblemDetails.Title, context.ProblemDetails.Detail) = (Urn(type), title, detail);
        }
    }

    private static ProblemHttpResult Problem(int status, string type, string title, string? detail, params ReadOnlySpan<(string Name, object Value)> members)
    {
        var extensions = new Dictionary<string, object?>();
        foreach (var (name, value) in members)
        {
            extensions.Add(name, value);
        }

        return TypedResults.Problem(detail: detail, statusCode: status, title: title, type: Urn(type), extensions: extensions);
    }

    private static string Urn(string type) => $"urn:order-pipeline:problem:{type}";

    private sealed class RetryLater(ProblemHttpResult problem, int seconds) : IResult
    {
        public Task ExecuteAsync(HttpContext httpContext)
        {
            httpContext.Response.Headers.RetryAfter = seconds.ToString(CultureInfo.InvariantCulture);
            return problem.ExecuteAsync(httpContext);
        }
    }
}

/// <summary>A table that throttles or cannot be reached, after the client's own retries, is a 503 and not a fault of ours.</summary>
internal sealed class TableUnavailableHandler(IProblemDetailsService problems, ILogger<TableUnavailableHandler> log) : IExceptionHandler
{
    private const string RetryAfterSeconds = "1";

    public async ValueTask<bool> TryHandleAsync(HttpContext context, Exception error, CancellationToken cancellationToken)
    {
        if (!IsUnavailable(error) || context.RequestAborted.IsCancellationRequested)
        {
            return false;
        }

        var endpoint = context.Features.Get<IExceptionHandlerFeature>()?.Endpoint?.DisplayName;
        log.LogWarning("{Endpoint} answers 503: {Error}", endpoint, error.Message);
        context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
        context.Response.Headers.RetryAfter = RetryAfterSeconds;
        return await problems.TryWriteAsync(new ProblemDetailsContext { HttpContext = context, ProblemDetails = Problems.Unavailable().ProblemDetails });
    }

    public static bool IsUnavailable(Exception error) => error switch
    {
        // The caller's body, not the table: malformed, or too slow. It is an IOException, too.
        BadHttpRequestException => false,
        // By code, because not every operation's exceptions have a type for these. A table that is not there (yet)
        // is nothing that the caller did wrong either.
        TransactionCanceledException canceled => canceled.CancellationReasons.Any(reason => IsThrottling(reason.Code)),
        AmazonServiceException service => (int)service.StatusCode >= 500 || IsThrottling(service.ErrorCode)
            // A write that met a transaction on the same item, or one that was sent again while its first call is at work.
            || service is TransactionConflictException or TransactionInProgressException or ProvisionedThroughputExceededException or ResourceNotFoundException,
        // Connection refused, reset or timed out; TaskCanceled is the form that a timeout takes.
        HttpRequestException or TimeoutException or IOException or OperationCanceledException => true,
        _ => false,
    };

    /// <summary>The codes of errors, and those of the reasons why a transaction was canceled.</summary>
    private static bool IsThrottling(string code) => code is
        "ProvisionedThroughputExceededException" or "ProvisionedThroughputExceeded"
        or "ThrottlingException" or "ThrottlingError" or "RequestLimitExceeded";
}
