using System.Collections.Frozen;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Amazon.DynamoDBv2.DocumentModel;
using Amazon.DynamoDBv2.Model;
using Pipeline.Core;

namespace Pipeline.OrdersApi.Orders;

/// <summary>An order as DynamoDB item and as JSON: both are the one serialization of Pipeline.Core.</summary>
internal static class OrderItems
{
    public const string InstantFormat = "yyyy-MM-dd'T'HH:mm:ss.fff'Z'";

    private static readonly FrozenDictionary<OrderStatus, string> StatusNames = Enum.GetValues<OrderStatus>()
        .ToFrozenDictionary(status => status, status => JsonSerializer.SerializeToElement(status, OrderJsonContext.Default.OrderStatus).GetString()!);

    public static string Name(this OrderStatus status) => StatusNames[status];

    public static OrderStatus StatusNamed(string name) => StatusNames.Single(status => status.Value == name).Key;

    /// <summary>
    /// Numbers go from JSON text to DynamoDB's number text and back as decimals, never through binary floating
    /// point; times stay text.
    /// </summary>
    public static Dictionary<string, AttributeValue> ToItem(Order order)
    {
        var item = ToMap(JsonSerializer.SerializeToElement(order, OrderJsonContext.Default.Order));
        item[Names.CustomerKey] = new(CustomerKey(order.MerchantId, order.CustomerId));
        item[Names.StatusKey] = new(StatusKey(order.MerchantId, order.Status));
        return item;
    }

    private static Dictionary<string, AttributeValue> ToMap(JsonElement value) =>
        value.EnumerateObject().ToDictionary(member => member.Name, member => ToAttribute(member.Value));

    private static AttributeValue ToAttribute(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => new() { M = ToMap(value) },
        JsonValueKind.Array => new() { L = [.. value.EnumerateArray().Select(ToAttribute)] },
        JsonValueKind.String => new(value.GetString()),
        JsonValueKind.Number => new() { N = value.GetRawText() },
        var kind => throw new ArgumentOutOfRangeException(nameof(value), kind, "No order has such a value."),
    };

    // Neither a merchant's id nor what follows has a #, so no two pairs make the same key.
    public static string CustomerKey(string merchantId, string customerId) => $"{merchantId}#{customerId}";

    public static string StatusKey(string merchantId, OrderStatus status) => $"{merchantId}#{status.Name()}";

    /// <exception cref="JsonException">The item was not written by this API and lacks what an order has.</exception>
    public static Order ToOrder(Dictionary<string, AttributeValue> item) =>
        JsonSerializer.Deserialize(Document.FromAttributeMap(item).ToJson(), OrderJsonContext.Default.Order)!;

    /// <summary>A time in the form that the serialization gives it.</summary>
    public static string Instant(DateTimeOffset time) => time.UtcDateTime.ToString(InstantFormat, CultureInfo.InvariantCulture);

    /// <summary>Lets the framework write orders exactly as <see cref="OrderJsonContext"/> does.</summary>
    public static void UseOrderJson(JsonSerializerOptions options)
    {
        options.PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower;
        options.DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull;
        options.TypeInfoResolver = JsonTypeInfoResolver.Combine(OrderJsonContext.Default, new DefaultJsonTypeInfoResolver());
    }
}
