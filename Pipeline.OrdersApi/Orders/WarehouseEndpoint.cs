using Amazon.DynamoDBv2;
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

    /// <summary>Between two looks: short against the second that a change takes, and ten queries a second for who waits.</summary>
    private static readonly TimeSpan LookPause = TimeSpan.FromMilliseconds(100);

    public static async Task<IResult> GetAsync(
        string order_id, HttpContext http, WarehouseView warehouse, MerchantLimits limits, IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> table, TimeProvider time,
        ILogger<Program> log)
    {
        var query = new QueryReader(http.Request.Query, "min_version", "wait_ms");
        var minVersion = query.Whole("min_version", 1, OrderSchemas.VersionMax);
        var wait = TimeSpan.FromMilliseconds(query.Whole("wait_ms", 0, WaitMax, otherwise: 0));
        if (query.Faults.Count > 0)
        {
            return Problems.Invalid(query.Faults);
        }

        if (!OrderSchemas.IsId(order_id))
        {
            return Problems.NotFound(order_id);
        }

        if (!warehouse.IsThere)
        {
            return Problems.NoWarehouse();
        }

        using var place = limits.AskWarehouse(http.Merchant());
        if (!place.IsAcquired)
        {
            return Problems.TooMany(1);
        }

        var started = time.GetTimestamp();
        var order = await OrdersEndpoints.FindOwnAsync(order_id, http, dynamo, table);
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
}
