using System.Text.Json.Serialization;
using Pipeline.Core;

namespace Pipeline.Ops.Seed;

/// <summary>The body of POST /orders.</summary>
internal sealed record NewOrder
{
    public required string OrderId { get; init; }
    public required string MerchantId { get; init; }
    public required Customer Customer { get; init; }
    public required string Currency { get; init; }
    public required IReadOnlyList<NewItem> Items { get; init; }
    public required IReadOnlyList<NewPayment> Payments { get; init; }
}

internal sealed record NewItem(string ProductId, string SellerId, int Quantity, decimal UnitPrice, decimal Freight);

internal sealed record NewPayment(string Method, int Installments, decimal Amount);

internal sealed record StatusChange(OrderStatus Status);

/// <summary>An order to be sent, and everything that becomes of it, in order.</summary>
/// <param name="Order">What it is created with.</param>
/// <param name="Statuses">The statuses that it takes one after the other, each legal after the one before.</param>
/// <param name="Remove">Whether it is removed in the end.</param>
internal sealed record PlannedOrder(NewOrder Order, IReadOnlyList<OrderStatus> Statuses, bool Remove);

/// <summary>What is to be sent, and what the source had to say that needs saying.</summary>
internal sealed record SeedPlan(IReadOnlyList<PlannedOrder> Orders, IReadOnlyList<Finding> Findings);

/// <summary>Something about an order of the source that somebody may wonder about later.</summary>
internal sealed record Finding(FindingKind Kind, string What, string OrderId);

internal enum FindingKind
{
    /// <summary>Odd, and sent as it is.</summary>
    Kept,

    /// <summary>One reported status change is not sent.</summary>
    StepRejected,

    /// <summary>The order is not sent.</summary>
    OrderRejected,
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(NewOrder))]
[JsonSerializable(typeof(StatusChange))]
[JsonSerializable(typeof(PlannedOrder))]
internal sealed partial class SeedJsonContext : JsonSerializerContext;
