using System.Threading.RateLimiting;
using Microsoft.Extensions.Options;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// How fast a merchant may go, so that none takes the table from the others: a bucket of tokens each, one for a request,
/// and one for each further order of a batch. Per process: behind several, a merchant gets the rate from each, and
/// API Gateway bounds them all together.
/// </summary>
internal sealed class MerchantLimits(IOptions<OrdersTableOptions> options) : IDisposable
{
    /// <summary>
    /// Questions about the warehouse that a merchant may have open. Fewer than the process has connections, so when the warehouse
    /// is slow there are some for the others.
    /// </summary>
    public const int WarehouseQuestionsMax = WarehouseView.ConnectionsMax - 2;

    private readonly PartitionedRateLimiter<string> _warehouse = PartitionedRateLimiter.Create<string, string>(merchant =>
        RateLimitPartition.GetConcurrencyLimiter(merchant, _ => new ConcurrencyLimiterOptions { PermitLimit = WarehouseQuestionsMax, QueueLimit = 0 }));

    private readonly PartitionedRateLimiter<string> _limiter = PartitionedRateLimiter.Create<string, string>(merchant =>
        RateLimitPartition.GetTokenBucketLimiter(merchant, _ => new TokenBucketRateLimiterOptions
        {
            // Two seconds' worth, as API Gateway's: whoever was quiet may hurry.
            TokenLimit = 2 * options.Value.RequestsPerSecond,
            TokensPerPeriod = options.Value.RequestsPerSecond,
            ReplenishmentPeriod = TimeSpan.FromSeconds(1),
            QueueLimit = 0,
        }));

    /// <returns>Null when the merchant may go on, else after how many seconds it is worth trying again.</returns>
    public int? Take(string merchant, int permits)
    {
        using var lease = _limiter.AttemptAcquire(merchant, permits);
        return lease.IsAcquired ? null
            : lease.TryGetMetadata(MetadataName.RetryAfter, out var wait) ? Math.Max(1, (int)Math.Ceiling(wait.TotalSeconds))
            : 1;
    }

    /// <summary>A place to ask the warehouse, until it is disposed of; not acquired when the merchant has all of its own.</summary>
    public RateLimitLease AskWarehouse(string merchant) => _warehouse.AttemptAcquire(merchant);

    public void Dispose()
    {
        _limiter.Dispose();
        _warehouse.Dispose();
    }
}

internal sealed class MerchantLimitFilter(MerchantLimits limits) : IEndpointFilter
{
    public async ValueTask<object?> InvokeAsync(EndpointFilterInvocationContext context, EndpointFilterDelegate next) =>
        limits.Take(context.HttpContext.Merchant(), 1) is { } seconds ? Problems.TooMany(seconds) : await next(context);
}
