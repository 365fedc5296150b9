using System.Globalization;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Microsoft.Extensions.Options;
using Npgsql;
using Pipeline.Core;

namespace Pipeline.OrdersApi.Orders;

/// <summary>Whether the warehouse shows an order at a version, and since when.</summary>
internal sealed record Visibility
{
    public required string OrderId { get; init; }
    public required long MinVersion { get; init; }

    /// <summary>The warehouse shows this version or a later one.</summary>
    public required bool Visible { get; init; }

    /// <summary>What it shows; null while it has nothing of the order's present life.</summary>
    public long? Version { get; init; }

    /// <summary>It shows that the order is removed.</summary>
    public bool Removed { get; init; }

    /// <summary>From the write of the version to its load; two clocks, so it is never below 0. Null while it is not visible.</summary>
    public long? TookMs { get; init; }

    /// <summary>How long this request has waited.</summary>
    public required long WaitedMs { get; init; }
}

/// <summary>GET /orders/{order_id}/warehouse: reads the warehouse until it shows the version or the caller's patience ends.</summary>
internal static class WarehouseEndpoint
{
    /// <summary>A change needs about a second; a gateway and clients give up after some more.</summary>
    public const int WaitMax = 5_000;

    private static readonly string[] Parameters = ["min_version", "wait_ms"];

    /// <summary>Between two looks: short against the second that a change takes, and ten queries a second for who waits.</summary>
    private static readonly TimeSpan LookPause = TimeSpan.FromMilliseconds(100);

    public static async Task<IResult> GetAsync(
        string order_id, HttpContext http, WarehouseView warehouse, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table, TimeProvider time, ILogger<Program> log)
    {
        var faults = Read(http.Request.Query, out var minVersion, out var wait);
        if (faults.Count > 0)
        {
            return Problems.Invalid(faults);
        }

        if (!OrderSchemas.IsId(order_id))
        {
            return Problems.NotFound(order_id);
        }

        if (!warehouse.IsThere)
        {
            return Problems.NoWarehouse();
        }

        var started = time.GetTimestamp();
        var order = await FindAsync(order_id, http, dynamo, table);
        try
        {
            while (true)
            {
                var shown = await warehouse.FindAsync(order_id, minVersion, http.RequestAborted);

                // A removed order is in the warehouse alone, and is there whose it was.
                if (order is null && shown?.MerchantId != http.Merchant())
                {
                    return Problems.NotFound(order_id);
                }

                var waited = time.GetElapsedTime(started);
                var answer = Of(order_id, minVersion, order, shown, waited);
                if (answer.Visible || waited >= wait)
                {
                    return TypedResults.Ok(answer);
                }

                var left = wait - waited;
                await Task.Delay(left < LookPause ? left : LookPause, time, http.RequestAborted);
            }
        }
        catch (Exception e) when (e is NpgsqlException or TimeoutException)
        {
            log.LogWarning("The warehouse does not answer: {Error}", e.Message);
            return Problems.WarehouseUnavailable();
        }
    }

    /// <summary>What the warehouse shows counts when it is of the order's present life: after a removal the versions begin anew.</summary>
    internal static Visibility Of(string orderId, long minVersion, Order? order, ShownOrder? shown, TimeSpan waited)
    {
        var isPresent = shown is not null && (order is null || (!shown.IsDeleted && shown.CreatedAt == order.CreatedAt));
        var isVisible = isPresent && shown!.Version >= minVersion;
        return new Visibility
        {
            OrderId = orderId,
            MinVersion = minVersion,
            Visible = isVisible,
            Version = isPresent ? shown!.Version : null,
            Removed = isPresent && shown!.IsDeleted,
            TookMs = isVisible && shown!.Change is { WrittenAt: { } writtenAt } change
                ? Math.Max((long)(change.LoadedAt - writtenAt).TotalMilliseconds, 0)
                : null,
            WaitedMs = (long)waited.TotalMilliseconds,
        };
    }

    /// <summary>The merchant's order as the table has it; null when there is none.</summary>
    private static async Task<Order?> FindAsync(string orderId, HttpContext http, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table)
    {
        var found = await dynamo.GetItemAsync(
            new GetItemRequest(table.Value.TableName, new Dictionary<string, AttributeValue> { ["order_id"] = new(orderId) }) { ConsistentRead = true },
            http.RequestAborted);
        return found.IsItemSet && found.Item.GetValueOrDefault("merchant_id")?.S == http.Merchant() ? OrderItems.ToOrder(found.Item) : null;
    }

    private static List<InvalidInput> Read(IQueryCollection query, out long minVersion, out TimeSpan wait)
    {
        var faults = query.Keys.Where(name => !Parameters.Contains(name)).Order(StringComparer.Ordinal)
            .Select(name => new InvalidInput("is not a known parameter", Parameter: name)).ToList();
        minVersion = Number("min_version", null, 1, OrderSchemas.VersionMax);
        wait = TimeSpan.FromMilliseconds(Number("wait_ms", 0, 0, WaitMax));
        return faults;

        long Number(string name, long? otherwise, long least, long most)
        {
            var values = query[name];
            if (values.Count == 0 && otherwise is { } value)
            {
                return value;
            }

            if (values.Count == 1 && long.TryParse(values[0], NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most)
            {
                return number;
            }

            faults.Add(new InvalidInput(string.Create(CultureInfo.InvariantCulture, $"must be given once, a whole number from {least} to {most}"), Parameter: name));
            return least;
        }
    }
}
