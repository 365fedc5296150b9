using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.Options;
using Pipeline.Core;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// The orders, on one DynamoDB table. Each write is a single conditional call, so two writers never overwrite each
/// other, and the item it writes carries the traceparent of its request. That is also how a write recognizes
/// itself: when an answer of DynamoDB is lost the SDK sends the call again, the condition then fails on our own
/// first write, and the item that comes back shows whose it is. Creations are in <see cref="OrderCreation"/>.
/// </summary>
internal static class OrdersEndpoints
{
    // With If-Match: * no version stands between a call that is sent again and its own first write.
    private const string NotYetDone = "(attribute_not_exists(trace_parent) OR trace_parent <> :trace_parent)";

    public static void MapOrders(this IEndpointRouteBuilder routes)
    {
        var orders = routes.MapGroup("/orders").WithTags("orders").AddEndpointFilter<MerchantLimitFilter>();
        orders.MapPost("", CreateAsync).WithName("create_order").RequireAuthorization(Access.Write).Describe(OrdersOpenApi.Create);
        orders.MapPost("/batch", BatchEndpoint.CreateAsync).WithName("create_orders").RequireAuthorization(Access.Write)
            .WithMetadata(new RequestSizeLimitAttribute(RequestJson.MaxBatchBytes)).Describe(OrdersOpenApi.CreateBatch);
        orders.MapGet("", ListEndpoint.ListAsync).WithName("list_orders").RequireAuthorization(Access.Read).Describe(OrdersOpenApi.List);
        orders.MapGet("/{order_id}", GetAsync).WithName("get_order").RequireAuthorization(Access.Read).Describe(OrdersOpenApi.Get);
        orders.MapGet("/{order_id}/warehouse", WarehouseEndpoint.GetAsync).WithName("get_visibility").RequireAuthorization(Access.Read)
            .Describe(OrdersOpenApi.Warehouse);
        orders.MapPatch("/{order_id}", ChangeCustomerAsync).WithName("change_customer").RequireAuthorization(Access.Write).Describe(OrdersOpenApi.ChangeCustomer);
        orders.MapPut("/{order_id}/status", ChangeStatusAsync).WithName("change_status").RequireAuthorization(Access.Write).Describe(OrdersOpenApi.ChangeStatus);
        orders.MapDelete("/{order_id}", DeleteAsync).WithName("delete_order").RequireAuthorization(Access.Write).Describe(OrdersOpenApi.Delete);
    }

    private static async Task<IResult> CreateAsync(HttpContext http, OrderCreation creation, TimeProvider time)
    {
        var (body, problem) = await RequestJson.ReadAsync(http.Request, OrderSchemas.NewOrder);
        if (!IdempotencyKey.TryRead(http.Request, out var key, out var headerProblem) || problem is not null)
        {
            return Problems.Together(problem, headerProblem);
        }

        var sent = NewOrder.Decode(body, http.Merchant());
        if (sent.MerchantId != http.Merchant())
        {
            return Problems.AnotherMerchant();
        }

        var order = NewOrder.Complete(sent, Now(time), TraceParent());
        return key is null
            ? await creation.CreateAsync(order, http.RequestAborted)
            : await creation.CreateAsync(order, new IdempotencyKey(order.MerchantId, key), OrderCreation.Fingerprint("create_order", NewOrder.Canonical(sent)), http.RequestAborted);
    }

    private static async Task<Results<Ok<Order>, StatusCodeHttpResult, ProblemHttpResult>> GetAsync(
        string order_id, HttpContext http, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table)
    {
        if (!IfNoneMatch.TryRead(http.Request, out var isKnown, out var problem))
        {
            return problem;
        }

        if (!OrderSchemas.IsId(order_id))
        {
            return Problems.NotFound(order_id);
        }

        if (await FindOwnAsync(order_id, http, dynamo, table) is not { } order)
        {
            return Problems.NotFound(order_id);
        }

        // The caller's own copy may be kept, if it is asked for again each time.
        http.Response.Headers.CacheControl = "private, no-cache";
        if (!isKnown(order.Version))
        {
            return WithETag(http, order);
        }

        http.Response.Headers.ETag = EntityTags.Of(order.Version);
        return TypedResults.StatusCode(StatusCodes.Status304NotModified);
    }

    /// <summary>The merchant's order as the table has it; null when there is none.</summary>
    public static async Task<Order?> FindOwnAsync(string orderId, HttpContext http, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table)
    {
        var found = await dynamo.GetItemAsync(new GetItemRequest
        {
            TableName = table.Value.TableName,
            Key = KeyOf(orderId),
            // Who just wrote must see what was written.
            ConsistentRead = true,
        }, http.RequestAborted);
        return found.IsItemSet && IsOf(http.Merchant(), found.Item) ? OrderItems.ToOrder(found.Item) : null;
    }

    private static async Task<Results<Ok<Order>, ProblemHttpResult>> ChangeStatusAsync(
        string order_id, HttpContext http, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table, TimeProvider time, ILogger<Program> log)
    {
        if (!OrderSchemas.IsId(order_id))
        {
            return Problems.NotFound(order_id);
        }

        var (body, problem) = await RequestJson.ReadAsync(http.Request, OrderSchemas.StatusChange);
        if (!IfMatch.TryRead(http.Request, out var ifMatch, out var headerProblem) || problem is not null)
        {
            return Problems.Together(problem, headerProblem);
        }

        var target = OrderItems.StatusNamed(body.GetProperty("status").GetString()!);
        var predecessors = Enum.GetValues<OrderStatus>().Where(from => OrderTransitions.IsLegal(from, target));
        var update = new UpdateItemRequest
        {
            UpdateExpression = $"SET #status = :status, {Names.StatusKey} = :status_key",
            ExpressionAttributeNames = new() { ["#status"] = "status" },
            ExpressionAttributeValues = new()
            {
                [":status"] = new(target.Name()),
                [":status_key"] = new(OrderItems.StatusKey(http.Merchant(), target)),
            },
        };
        update.ConditionExpression = In("#status", predecessors.Select(from => new AttributeValue(from.Name())), "from", update.ExpressionAttributeValues);
        var (order, refusal) = await UpdateAsync(order_id, ifMatch, update, order => Problems.IllegalTransition(order, target), http, dynamo, table, time);
        if (refusal is not null)
        {
            return refusal;
        }

        log.LogInformation("Order {OrderId} {Status} at version {Version}", order_id, target.Name(), order!.Version);
        return WithETag(http, order);
    }

    private static async Task<Results<Ok<Order>, ProblemHttpResult>> ChangeCustomerAsync(
        string order_id, HttpContext http, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table, TimeProvider time, ILogger<Program> log)
    {
        if (!OrderSchemas.IsId(order_id))
        {
            return Problems.NotFound(order_id);
        }

        var (body, problem) = await RequestJson.ReadAsync(http.Request, OrderSchemas.CustomerPatch, alsoTakes: RequestJson.MergePatch);
        if (!IfMatch.TryRead(http.Request, out var ifMatch, out var headerProblem) || problem is not null)
        {
            return Problems.Together(problem, headerProblem);
        }

        var update = new UpdateItemRequest { ExpressionAttributeNames = [], ExpressionAttributeValues = [] };
        var (set, remove) = (new List<string>(), new List<string>());
        foreach (var detail in body.GetProperty("customer").EnumerateObject())
        {
            update.ExpressionAttributeNames.Add($"#{detail.Name}", detail.Name);
            if (detail.Value.ValueKind == JsonValueKind.Null)
            {
                remove.Add($"customer.#{detail.Name}");
            }
            else
            {
                set.Add($"customer.#{detail.Name} = :{detail.Name}");
                update.ExpressionAttributeValues.Add($":{detail.Name}", new(detail.Value.GetString()));
            }
        }

        update.UpdateExpression = (remove.Count > 0 ? $"REMOVE {string.Join(", ", remove)} " : "") + $"SET {string.Join(", ", set)}";
        var (order, refusal) = await UpdateAsync(order_id, ifMatch, update, whenIllegal: null, http, dynamo, table, time);
        if (refusal is not null)
        {
            return refusal;
        }

        log.LogInformation("Order {OrderId} has other details of its customer at version {Version}", order_id, order!.Version);
        return WithETag(http, order);
    }

    /// <summary>
    /// Raises the version by one together with what <paramref name="change"/> sets (its UpdateExpression ends in a SET
    /// clause), if the order is the merchant's, at a version that the caller knows, and fit for the change.
    /// </summary>
    private static async Task<(Order? Order, ProblemHttpResult? Problem)> UpdateAsync(
        string orderId, IfMatch ifMatch, UpdateItemRequest change, Func<Order, ProblemHttpResult>? whenIllegal,
        HttpContext http, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table, TimeProvider time)
    {
        var traceParent = TraceParent();
        var values = change.ExpressionAttributeValues;
        values.Add(":one", Number(1));
        values.Add(":updated_at", new(OrderItems.Instant(Now(time))));
        values.Add(":trace_parent", new(traceParent));
        change.TableName = table.Value.TableName;
        change.Key = KeyOf(orderId);
        change.UpdateExpression += $"{(change.UpdateExpression.EndsWith("SET ", StringComparison.Ordinal) ? "" : ", ")}version = version + :one, updated_at = :updated_at, trace_parent = :trace_parent";
        change.ConditionExpression = string.Join(" AND ", [VersionIn(ifMatch, values), OwnedBy(http.Merchant(), values), NotYetDone, .. change.ConditionExpression is { } fit ? [fit] : Array.Empty<string>()]);
        change.ReturnValues = ReturnValue.ALL_NEW;
        change.ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure.ALL_OLD;
        try
        {
            return (OrderItems.ToOrder((await dynamo.UpdateItemAsync(change, http.RequestAborted)).Attributes), null);
        }
        catch (ConditionalCheckFailedException failed)
        {
            if (failed.Item is not { Count: > 0 } || !IsOf(http.Merchant(), failed.Item))
            {
                return (null, Problems.NotFound(orderId));
            }

            var order = OrderItems.ToOrder(failed.Item);
            return order.TraceParent == traceParent ? (order, null)
                : (null, ifMatch.Matches(order.Version) && whenIllegal is not null ? whenIllegal(order) : Problems.Stale(order));
        }
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
                ConditionExpression = $"{VersionIn(ifMatch, values)} AND {OwnedBy(http.Merchant(), values)}",
                ExpressionAttributeValues = values,
                ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure.ALL_OLD,
            }, http.RequestAborted);
        }
        catch (ConditionalCheckFailedException failed)
        {
            // After a lost answer this also says 404 of the order that this very request removed: nothing is left
            // that could tell whose removal it was, and the order is gone either way.
            return failed.Item is { Count: > 0 } && IsOf(http.Merchant(), failed.Item)
                ? Problems.Stale(OrderItems.ToOrder(failed.Item))
                : Problems.NotFound(order_id);
        }

        log.LogInformation("Order {OrderId} removed", order_id);
        return TypedResults.NoContent();
    }

    private static Ok<Order> WithETag(HttpContext http, Order order)
    {
        http.Response.Headers.ETag = EntityTags.Of(order.Version);
        return TypedResults.Ok(order);
    }

    /// <summary>Another merchant's order is not there, for whoever asks.</summary>
    private static bool IsOf(string merchant, Dictionary<string, AttributeValue> item) =>
        item.TryGetValue("merchant_id", out var owner) && owner.S == merchant;

    private static string OwnedBy(string merchant, Dictionary<string, AttributeValue> values)
    {
        values.Add(":merchant", new(merchant));
        return "merchant_id = :merchant";
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
    public static DateTimeOffset Now(TimeProvider time)
    {
        var now = time.GetUtcNow();
        return now.AddTicks(-(now.Ticks % TimeSpan.TicksPerMillisecond));
    }

    /// <summary>The request's own span, or for a request without one an id of its own: unique per request in any case.</summary>
    public static string TraceParent() =>
        Activity.Current is { IdFormat: ActivityIdFormat.W3C, Id: { } id }
            ? id
            : $"00-{ActivityTraceId.CreateRandom()}-{ActivitySpanId.CreateRandom()}-00";
}
