using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Options;
using Pipeline.Core;

namespace Pipeline.OrdersApi.Orders;

/// <summary>The settings under <c>Pipeline:</c> that this service needs.</summary>
public sealed class OrdersTableOptions
{
    public const string Section = "Pipeline";

    public string TableName { get; set; } = "";

    public string IdempotencyTableName { get; set; } = "";

    /// <summary>What page cursors are signed with, in Base64; every process of the API needs the same. Null in development: each makes its own.</summary>
    public string? CursorKey { get; set; }

    /// <summary>
    /// What a merchant may send for long. Far below the 1,000 writes a second that DynamoDB gives one partition, here one
    /// of an index: a merchant's orders with one status.
    /// </summary>
    public int RequestsPerSecond { get; set; } = 500;
}

internal static class OrdersTable
{
    public static void AddOrdersTable(this IHostApplicationBuilder builder)
    {
        builder.Services.AddOptions<OrdersTableOptions>()
            .BindConfiguration(OrdersTableOptions.Section)
            .Validate(
                options => !string.IsNullOrWhiteSpace(options.TableName),
                $"The setting {Names.Settings.TableName} is empty: set it to the name of the orders' DynamoDB table, for example {Names.Settings.TableName}={Names.Table}.")
            .Validate(
                options => !string.IsNullOrWhiteSpace(options.IdempotencyTableName),
                $"The setting {Names.Settings.IdempotencyTableName} is empty: set it to the name of the DynamoDB table for idempotency keys, for example {Names.Settings.IdempotencyTableName}={Names.IdempotencyTable}.")
            .Validate(
                options => builder.Environment.IsDevelopment() || options.CursorKey is not null,
                $"The setting {Names.Settings.CursorKey} is missing: {PageCursors.KeyHint}")
            .Validate(
                options => options.CursorKey is null || PageCursors.IsKey(options.CursorKey),
                $"The setting {Names.Settings.CursorKey} is no key: {PageCursors.KeyHint}")
            .Validate(
                options => options.RequestsPerSecond is >= OrderSchemas.MaxBatch and <= 1000,
                $"The setting {Names.Settings.RequestsPerSecond} must be a number from {OrderSchemas.MaxBatch} (a batch) to 1000.")
            .ValidateOnStart();

        builder.Services.TryAddSingleton(TimeProvider.System);

        builder.Services.TryAddSingleton<IAmazonDynamoDB>(_ => new AmazonDynamoDBClient(ClientConfig()));

        builder.Services.AddSingleton<OrderCreation>();
        builder.Services.AddSingleton<PageCursors>();
        builder.Services.AddSingleton<MerchantLimits>();

        builder.Services.AddSingleton<TableHealthCheck>();
        builder.Services.AddHealthChecks().AddCheck<TableHealthCheck>("orders-table");
    }

    /// <summary>Endpoint and credentials come from the AWS_* environment too, as for every AWS client.</summary>
    public static AmazonDynamoDBConfig ClientConfig() => new()
    {
        RegionEndpoint = FallbackRegionFactory.GetRegionEndpoint(includeInstanceMetadata: false)
            ?? throw new InvalidOperationException("No AWS region is set: set AWS_REGION, for example AWS_REGION=us-east-1."),
        // A single-item call takes milliseconds. Three attempts of 3 s each, then the caller gets its 503.
        Timeout = TimeSpan.FromSeconds(3),
        MaxErrorRetry = 2,
    };
}

/// <summary>Healthy when the table is there and ACTIVE.</summary>
internal sealed class TableHealthCheck(IAmazonDynamoDB table, IOptions<OrdersTableOptions> options, TimeProvider time) : IHealthCheck, IDisposable
{
    // /health is public and DescribeTable is limited to 2,500 requests a second and account: one answer serves
    // all who ask within this time.
    private static readonly TimeSpan Fresh = TimeSpan.FromSeconds(3);

    // An orchestrator's probe gives up after a few seconds; a table that takes longer is as good as away.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private readonly SemaphoreSlim _oneAtATime = new(1);
    private HealthCheckResult _result;
    private long? _checkedAt;

    public async Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        await _oneAtATime.WaitAsync(cancellationToken);
        try
        {
            if (_checkedAt is not { } checkedAt || time.GetElapsedTime(checkedAt) >= Fresh)
            {
                _result = await DescribeAsync(cancellationToken);
                _checkedAt = time.GetTimestamp();
            }

            return _result;
        }
        finally
        {
            _oneAtATime.Release();
        }
    }

    public void Dispose() => _oneAtATime.Dispose();

    private async Task<HealthCheckResult> DescribeAsync(CancellationToken cancellationToken)
    {
        var name = options.Value.TableName;
        using var timeout = new CancellationTokenSource(Patience, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, timeout.Token);
        try
        {
            var status = (await table.DescribeTableAsync(name, either.Token)).Table.TableStatus;
            return status == TableStatus.ACTIVE || status == TableStatus.UPDATING
                ? HealthCheckResult.Healthy()
                : HealthCheckResult.Unhealthy($"The table {name} is {status}.");
        }
        catch (Exception error) when (!cancellationToken.IsCancellationRequested)
        {
            // Whatever it is (no such table, no credentials, no network, no answer in time): no order can be served.
            return HealthCheckResult.Unhealthy($"The table {name} cannot be reached: {error.Message}");
        }
    }
}
