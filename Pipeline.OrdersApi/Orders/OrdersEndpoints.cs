using System.Diagnostics;
using System.Globalization;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.Extensions.Options;
using Pipeline.Core;

namespace Pipeline.OrdersApi.Orders;

internal sealed record OrderPage(IReadOnlyList<Order> Orders, string? NextCursor);

/// <summary>
/// The orders, on one DynamoDB table. Each write is a single conditional call, so two writers never overwrite each
/// other, and the item it writes carries the traceparent of its request. That is also how a write recognizes
/// itself: when an answer of DynamoDB is lost the SDK sends the call again, the condition then fails on our own
/// first write, and the item that comes back shows whose it is. Creations are in <see cref="OrderCreation"/>.
/// </summary>
internal static class OrdersEndpoints
{
    public static void MapOrders(this IEndpointRouteBuilder routes)
    {
        var orders = routes.MapGroup("/orders").WithTags("orders");
        orders.MapPost("", CreateAsync).WithName("create_order").Describe(OrdersOpenApi.Create);
        orders.MapGet("", ListAsync).WithName("list_orders").Describe(OrdersOpenApi.List);
        orders.MapGet("/{order_id}", GetAsync).WithName("get_order").Describe(OrdersOpenApi.Get);
        orders.MapPut("/{order_id}/status", ChangeStatusAsync).WithName("change_status").Describe(OrdersOpenApi.ChangeStatus);
        orders.MapDelete("/{order_id}", DeleteAsync).WithName("delete_order").Describe(OrdersOpenApi.Delete);
    }

    private static async Task<IResult> CreateAsync(HttpContext http, OrderCreation creation, TimeProvider time)
    {
        var (body, problem) = await RequestJson.ReadAsync(http.Request, OrderSchemas.NewOrder);
        if (problem is not null || !IdempotencyKey.TryRead(http.Request, out var key, out problem))
        {
            return problem;
        }

        var sent = NewOrder.Decode(body);
        var order = NewOrder.Complete(sent, Now(time), TraceParent());
        return key is null
            ? await creation.CreateAsync(order, http.RequestAborted)
            : await creation.CreateAsync(order, new IdempotencyKey(order.MerchantId, key), OrderCreation.Fingerprint("create_order", sent), http.RequestAborted);
    }

    private static async Task<Results<Ok<Order>, ProblemHttpResult>> GetAsync(
        string order_id, HttpContext http, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table)
    {
        if (!OrderSchemas.IsId(order_id))
        {
            return Problems.NotFound(order_id);
        }

        var found = await dynamo.GetItemAsync(new GetItemRequest
        {
            TableName = table.Value.TableName,
            Key = KeyOf(order_id),
            // Who just wrote must see what was written.
            ConsistentRead = true,
        }, http.RequestAborted);
        return found.IsItemSet ? WithETag(http, OrderItems.ToOrder(found.Item)) : Problems.NotFound(order_id);
    }

    private static async Task<Results<Ok<OrderPage>, ProblemHttpResult>> ListAsync(
        HttpContext http, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table)
    {
        var (query, faults) = ReadQuery(http.Request.Query);
        if (query is null)
        {
            return Problems.Invalid(faults);
        }

        var page = await dynamo.QueryAsync(new QueryRequest
        {
            TableName = table.Value.TableName,
            IndexName = Names.CustomerIndex,
            KeyConditionExpression = "customer_id = :customer_id",
            ExpressionAttributeValues = new() { [":customer_id"] = new(query.CustomerId) },
            ScanIndexForward = false,
            // One more than asked for tells whether there is a next page; DynamoDB's own last key does not.
            Limit = query.Limit + 1,
            ExclusiveStartKey = query.Cursor?.ToKey(),
        }, http.RequestAborted);

        // DynamoDB may also stop early, after 1 MB.
        var items = page.Items ?? [];
        var shown = items.Take(query.Limit).ToList();
        var hasMore = items.Count > shown.Count || page.LastEvaluatedKey is { Count: > 0 };
        return TypedResults.Ok(new OrderPage(
            [.. shown.Select(OrderItems.ToOrder)],
            hasMore && shown.Count > 0 ? PageCursor.After(shown[^1]).ToString() : null));
    }

    private static async Task<Results<Ok<Order>, ProblemHttpResult>> ChangeStatusAsync(
        string order_id, HttpContext http, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table, TimeProvider time, ILogger<Program> log)
    {
        if (!OrderSchemas.IsId(order_id))
        {
            return Problems.NotFound(order_id);
        }

        var (body, problem) = await RequestJson.ReadAsync(http.Request, OrderSchemas.StatusChange);
        if (problem is not null || !IfMatch.TryRead(http.Request, out var ifMatch, out problem))
        {
            return problem;
        }

        var target = OrderItems.StatusNamed(body.GetProperty("status").GetString()!);
        var predecessors = Enum.GetValues<OrderStatus>().Where(from => OrderTransitions.IsLegal(from, target));
        var traceParent = TraceParent();
        var values = new Dictionary<string, AttributeValue>
        {
            [":one"] = Number(1),
            [":status"] = new(target.Name()),
            [":updated_at"] = new(OrderItems.Instant(Now(time))),
            [":trace_parent"] = new(traceParent),
        };
        var condition = $"{VersionIn(ifMatch, values)} AND {In("#status", predecessors.Select(from => new AttributeValue(from.Name())), "from", values)}";
        Order order;
        try
        {
            var updated = await dynamo.UpdateItemAsync(new UpdateItemRequest
            {
                TableName = table.Value.TableName,
                Key = KeyOf(order_id),
                UpdateExpression = "SET #status = :status, version = version + :one, updated_at = :updated_at, trace_parent = :trace_parent",
                ConditionExpression = condition,
                ExpressionAttributeNames = new() { ["#status"] = "status" },
                ExpressionAttributeValues = values,
                ReturnValues = ReturnValue.ALL_NEW,
                ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure.ALL_OLD,
            }, http.RequestAborted);
            order = OrderItems.ToOrder(updated.Attributes);
        }
        catch (ConditionalCheckFailedException failed)
        {
            if (failed.Item is not { Count: > 0 })
            {
                return Problems.NotFound(order_id);
            }

            order = OrderItems.ToOrder(failed.Item);
            if (order.TraceParent != traceParent)
            {
                return ifMatch.Matches(order.Version) ? Problems.IllegalTransition(order, target) : Problems.Stale(order);
            }
        }

        log.LogInformation("Order {OrderId} {Status} at version {Version}", order.OrderId, target.Name(), order.Version);
        return WithETag(http, order);
    }

    private static async Task<Results<NoContent, ProblemHttpResult>> DeleteAsync(
        string order_id, HttpContext http, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table, ILogger<Program> log)
    {
        if (!OrderSchemas.IsId(order_id))
        {
            return Problems.NotFound(order_id);
        }

        if (!IfMatch.TryRead(http.Request, out var ifMatch, out var problem))
        {
            return problem;
        }

        var values = new Dictionary<string, AttributeValue>();
        try
        {
            await dynamo.DeleteItemAsync(new DeleteItemRequest
            {
                TableName = table.Value.TableName,
                Key = KeyOf(order_id),
                ConditionExpression = VersionIn(ifMatch, values),
                ExpressionAttributeValues = values.Count > 0 ? values : null,
                ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure.ALL_OLD,
            }, http.RequestAborted);
        }
        catch (ConditionalCheckFailedException failed)
        {
            // After a lost answer this also says 404 of the order that this very request removed: nothing is left
            // that could tell whose removal it was, and the order is gone either way.
            return failed.Item is { Count: > 0 } ? Problems.Stale(OrderItems.ToOrder(failed.Item)) : Problems.NotFound(order_id);
        }

        log.LogInformation("Order {OrderId} removed", order_id);
        return TypedResults.NoContent();
    }

    private static Ok<Order> WithETag(HttpContext http, Order order)
    {
        http.Response.Headers.ETag = EntityTags.Of(order.Version);
        return TypedResults.Ok(order);
    }

    private static (ListQuery? Query, List<InvalidInput> Faults) ReadQuery(IQueryCollection parameters)
    {
        var faults = new List<InvalidInput>();
        string? Single(string name)
        {
            var values = parameters[name];
            if (values.Count > 1)
            {
                faults.Add(new InvalidInput("must be given once", Parameter: name));
            }

            return values.FirstOrDefault();
        }

        var customerId = Single("customer_id");
        if (customerId is null || !OrderSchemas.IsId(customerId))
        {
            faults.Add(new InvalidInput(customerId is null ? "is required" : "must be 1 to 64 characters of A–Z a–z 0–9 _ -", Parameter: "customer_id"));
        }

        var limit = OrderSchemas.DefaultPageSize;
        if (Single("limit") is { } limitText
            && !(int.TryParse(limitText, NumberStyles.None, CultureInfo.InvariantCulture, out limit) && limit is >= 1 and <= OrderSchemas.MaxPageSize))
        {
            faults.Add(new InvalidInput($"must be a whole number from 1 to {OrderSchemas.MaxPageSize}", Parameter: "limit"));
        }

        PageCursor? cursor = null;
        if (Single("cursor") is { } cursorText && customerId is not null && !PageCursor.TryParse(cursorText, customerId, out cursor))
        {
            faults.Add(new InvalidInput("must be the next_cursor of an earlier page of the same customer", Parameter: "cursor"));
        }

        return (faults.Count > 0 ? null : new ListQuery(customerId!, limit, cursor), faults);
    }

    private static string VersionIn(IfMatch ifMatch, Dictionary<string, AttributeValue> values) =>
        ifMatch.Any ? "attribute_exists(order_id)" : In("version", ifMatch.Versions.Select(Number), "version", values);

    /// <summary>An IN over these values, which are added to the expression's; with none it is a condition that never holds.</summary>
    private static string In(string attribute, IEnumerable<AttributeValue> choices, string prefix, Dictionary<string, AttributeValue> values)
    {
        var names = new List<string>();
        foreach (var choice in choices.DefaultIfEmpty(new AttributeValue { NULL = true }))
        {
            names.Add($":{prefix}{names.Count}");
            values.Add(names[^1], choice);
        }

        return $"{attribute} IN ({string.Join(", ", names)})";
    }

    private static Dictionary<string, AttributeValue> KeyOf(string orderId) => new() { ["order_id"] = new(orderId) };

    private static AttributeValue Number(long number) => new() { N = number.ToString(CultureInfo.InvariantCulture) };

    /// <summary>In the precision that is kept: what the answer shows is what a later read shows.</summary>
    private static DateTimeOffset Now(TimeProvider time)
    {
        var now = time.GetUtcNow();
        return now.AddTicks(-(now.Ticks % TimeSpan.TicksPerMillisecond));
    }

    /// <summary>The request's own span, or for a request without one an id of its own: unique per request in any case.</summary>
    private static string TraceParent() =>
        Activity.Current is { IdFormat: ActivityIdFormat.W3C, Id: { } id }
            ? id
            : $"00-{ActivityTraceId.CreateRandom()}-{ActivitySpanId.CreateRandom()}-00";

    private sealed record ListQuery(string CustomerId, int Limit, PageCursor? Cursor);
}
