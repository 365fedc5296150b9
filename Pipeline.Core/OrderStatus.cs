using System.Text.Json.Serialization;

namespace Pipeline.Core;

/// <summary>Where an order stands. The names are the same in JSON, in DynamoDB, in Parquet and in SQL.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<OrderStatus>))]
public enum OrderStatus
{
    [JsonStringEnumMemberName("created")] Created,
    [JsonStringEnumMemberName("approved")] Approved,
    [JsonStringEnumMemberName("processing")] Processing,
    [JsonStringEnumMemberName("invoiced")] Invoiced,
    [JsonStringEnumMemberName("shipped")] Shipped,
    [JsonStringEnumMemberName("delivered")] Delivered,
    [JsonStringEnumMemberName("canceled")] Canceled,
    [JsonStringEnumMemberName("unavailable")] Unavailable,
}

/// <summary>
/// The status as text where no JSON serializer is at work (Parquet, the stream's images, SQL). The names are the
/// members' own in lower case, the same as in JSON; a test holds the two together.
/// </summary>
public static class OrderStatusText
{
    private static readonly string[] Texts = [.. Enum.GetNames<OrderStatus>().Select(n => n.ToLowerInvariant())];

    public static string Of(OrderStatus status) => Texts[(int)status];

    public static bool TryParse(string? text, out OrderStatus status)
    {
        var index = Array.IndexOf(Texts, text);
        status = (OrderStatus)Math.Max(index, 0);
        return index >= 0;
    }
}

/// <summary>
/// The legal transitions of an order, the only place that knows them. An order moves forward and may skip a
/// step (not every shop reports each one); until it is shipped its items can turn out to be unavailable, until
/// it is delivered it can be canceled. Delivered, canceled and unavailable are final.
/// </summary>
public static class OrderTransitions
{
    public static bool IsLegal(OrderStatus from, OrderStatus to) => to switch
    {
        _ when IsFinal(from) => false,
        OrderStatus.Canceled => true,
        OrderStatus.Unavailable => from < OrderStatus.Shipped,
        // Delivery is reported only for what was shipped.
        OrderStatus.Delivered => from == OrderStatus.Shipped,
        _ => to > from,
    };

    public static bool IsFinal(OrderStatus status) =>
        status is OrderStatus.Delivered or OrderStatus.Canceled or OrderStatus.Unavailable;

    /// <summary>Every status that may follow <paramref name="from"/>, for error messages and documentation.</summary>
    public static IEnumerable<OrderStatus> NextOf(OrderStatus from) =>
        Enum.GetValues<OrderStatus>().Where(to => IsLegal(from, to));
}
