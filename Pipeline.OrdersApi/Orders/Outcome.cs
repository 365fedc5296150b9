using System.Globalization;
using System.Text;
using System.Text.Json;
using Amazon.DynamoDBv2.Model;
using Microsoft.AspNetCore.Http.HttpResults;
using Pipeline.Core;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// What a creation is answered with. Its body is kept as text, so whoever repeats the request gets the same bytes.
/// </summary>
internal sealed record Outcome(int Status, string OrderId, string Body) : IResult
{
    public const string ReplayedHeader = "Idempotent-Replayed";

    /// <summary>Whether this is the answer to an earlier request with the same key.</summary>
    public bool IsReplay { get; init; }

    /// <summary>When it is worth trying again; null: the outcome stays what it is.</summary>
    public int? RetryAfterSeconds { get; init; }

    public static Outcome Created(Order order, JsonSerializerOptions json) =>
        new(StatusCodes.Status201Created, order.OrderId, JsonSerializer.Serialize(order, json));

    public static Outcome Refused(string orderId, ProblemHttpResult problem, JsonSerializerOptions json) =>
        new(problem.StatusCode, orderId, JsonSerializer.Serialize(problem.ProblemDetails, json));

    public static Outcome FromItem(Dictionary<string, AttributeValue> item) =>
        new(int.Parse(item["status"].N, CultureInfo.InvariantCulture), item["order_id"].S, item["body"].S) { IsReplay = true };

    public void AddTo(Dictionary<string, AttributeValue> item)
    {
        item["status"] = new() { N = Status.ToString(CultureInfo.InvariantCulture) };
        item["order_id"] = new(OrderId);
        item["body"] = new(Body);
    }

    public Task ExecuteAsync(HttpContext httpContext)
    {
        var response = httpContext.Response;
        response.StatusCode = Status;
        if (IsReplay)
        {
            response.Headers[ReplayedHeader] = "true";
        }

        if (RetryAfterSeconds is { } seconds)
        {
            response.Headers.RetryAfter = seconds.ToString(CultureInfo.InvariantCulture);
        }

        if (Status == StatusCodes.Status201Created)
        {
            response.Headers.Location = $"/orders/{OrderId}";
            response.Headers.ETag = EntityTags.Of(1);
        }

        response.ContentType = Status == StatusCodes.Status201Created ? "application/json; charset=utf-8" : "application/problem+json";
        // Known beforehand, so the answer need not go in chunks.
        response.ContentLength = Encoding.UTF8.GetByteCount(Body);
        return response.WriteAsync(Body, httpContext.RequestAborted);
    }
}
