using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.Extensions.Options;
using Pipeline.Core;

namespace Pipeline.OrdersApi.Orders;

internal sealed record OrderPage(IReadOnlyList<Order> Orders, string? NextCursor);

/// <summary>
/// GET /orders: a customer's orders, or those with a status, newest first. The index says which they are, the table what
/// they are: so the indexes hold keys only, and what is shown is as fresh as a single read.
/// </summary>
internal static class ListEndpoint
{
    // What a batch of reads leaves out when the table throttles is asked for twice more, each time after a while: a throttled
    // table that is asked again at once, and by everybody at the same moment, throttles again. 0.3 s in all at most.
    private const int ReadsMax = 3;
    private static readonly TimeSpan PauseMin = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan PauseMax = TimeSpan.FromMilliseconds(150);

    public static async Task<Results<Ok<OrderPage>, ProblemHttpResult>> ListAsync(
        HttpContext http, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table, PageCursors cursors, TimeProvider time)
    {
        var (query, faults) = ReadQuery(http, cursors);
        if (query is null)
        {
            return Problems.Invalid(faults);
        }

        var page = await dynamo.QueryAsync(new QueryRequest
        {
            TableName = table.Value.TableName,
            IndexName = query.List.Index,
            KeyConditionExpression = $"{query.List.Attribute} = :list",
            ExpressionAttributeValues = new() { [":list"] = new(query.List.Value) },
            ScanIndexForward = false,
            // One more than asked for tells whether there is a next page; DynamoDB's own last key does not.
            Limit = query.Limit + 1,
            ExclusiveStartKey = query.After?.ToKey(query.List),
        }, http.RequestAborted);

        var positions = (page.Items ?? []).Select(PagePosition.Of).ToList();
        var shown = positions.Take(query.Limit).ToList();
        var hasMore = positions.Count > shown.Count || page.LastEvaluatedKey is { Count: > 0 };
        var items = await ReadAsync(shown.Select(position => position.OrderId), dynamo, table.Value.TableName, time, http.RequestAborted);
        return TypedResults.Ok(new OrderPage(
            [
                .. shown.Select(position => items.GetValueOrDefault(position.OrderId))
                    .OfType<Dictionary<string, AttributeValue>>()
                    // Since the index was read it may have gone, or moved into another list.
                    .Where(item => item.TryGetValue(query.List.Attribute, out var list) && list.S == query.List.Value)
                    .Select(OrderItems.ToOrder),
            ],
            hasMore && shown.Count > 0 ? cursors.Write(query.List, shown[^1]) : null));
    }

    private static async Task<Dictionary<string, Dictionary<string, AttributeValue>>> ReadAsync(
        IEnumerable<string> orderIds, IAmazonDynamoDB dynamo, string tableName, TimeProvider time, CancellationToken cancellationToken)
    {
        var found = new Dictionary<string, Dictionary<string, AttributeValue>>();
        var missing = orderIds.Select(orderId => new Dictionary<string, AttributeValue> { ["order_id"] = new(orderId) }).ToList();
        for (var reads = 0; missing.Count > 0; reads++)
        {
            if (reads == ReadsMax)
            {
                throw new ProvisionedThroughputExceededException($"{missing.Count} orders were not read in {ReadsMax} attempts.");
            }

            if (reads > 0)
            {
                await Task.Delay(PauseMin + ((PauseMax - PauseMin) * Random.Shared.NextDouble()), time, cancellationToken);
            }

            // At most 100 keys and 16 MB: both more than a page of the largest orders.
            var read = await dynamo.BatchGetItemAsync(new BatchGetItemRequest
            {
                RequestItems = new() { [tableName] = new KeysAndAttributes { Keys = missing, ConsistentRead = true } },
            }, cancellationToken);
            foreach (var item in read.Responses.GetValueOrDefault(tableName) ?? [])
            {
                found.Add(item["order_id"].S, item);
            }

            missing = read.UnprocessedKeys is not null && read.UnprocessedKeys.TryGetValue(tableName, out var unread) ? unread.Keys : [];
        }

        return found;
    }

    private static (ListQuery? Query, IReadOnlyList<InvalidInput> Faults) ReadQuery(HttpContext http, PageCursors cursors)
    {
        var parameters = new QueryReader(http.Request.Query, "customer_id", "status", "limit", "cursor");
        OrderList? list = null;
        switch (parameters.Single("customer_id"), parameters.Single("status"))
        {
            case ({ } customerId, null):
                list = OrderSchemas.IsId(customerId)
                    ? new OrderList(Names.CustomerIndex, Names.CustomerKey, OrderItems.CustomerKey(http.Merchant(), customerId))
                    : Fault("customer_id", $"must be {OrderSchemas.Id.Description}");
                break;
            case (null, { } status):
                list = OrderStatusText.TryParse(status, out var wanted)
                    ? new OrderList(Names.StatusIndex, Names.StatusKey, OrderItems.StatusKey(http.Merchant(), wanted))
                    : Fault("status", "must be the status of an order");
                break;
            case (null, null):
                Fault("customer_id", "is required, or status");
                break;
            default:
                Fault("status", "must not be given together with customer_id");
                break;
        }

        var limit = parameters.Whole("limit", 1, OrderSchemas.MaxPageSize, otherwise: OrderSchemas.DefaultPageSize);
        PagePosition? after = null;
        if (parameters.Single("cursor") is { } cursor && list is not null && !cursors.TryRead(cursor, list, out after))
        {
            Fault("cursor", "must be the next_cursor of an earlier page of the same list");
        }

        return (parameters.Faults.Count > 0 ? null : new ListQuery(list!, limit, after), parameters.Faults);

        OrderList? Fault(string parameter, string detail)
        {
            parameters.Fault(parameter, detail);
            return null;
        }
    }

    private sealed record ListQuery(OrderList List, int Limit, PagePosition? After);
}
