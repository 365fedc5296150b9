using System.Buffers.Text;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Amazon.DynamoDBv2.Model;
using Pipeline.Core;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// Where a page of <see cref="Names.CustomerIndex"/> ended: the key of its last order. It is a position, not a
/// count, so orders that arrive or go meanwhile shift nothing.
/// </summary>
internal sealed record PageCursor
{
    public required string CustomerId { get; init; }
    public required string CreatedAt { get; init; }
    public required string OrderId { get; init; }

    public static PageCursor After(Dictionary<string, AttributeValue> item) => new()
    {
        CustomerId = item["customer_id"].S,
        CreatedAt = item["created_at"].S,
        OrderId = item["order_id"].S,
    };

    public Dictionary<string, AttributeValue> ToKey() => new()
    {
        ["customer_id"] = new(CustomerId),
        ["created_at"] = new(CreatedAt),
        ["order_id"] = new(OrderId),
    };

    public override string ToString() =>
        Base64Url.EncodeToString(JsonSerializer.SerializeToUtf8Bytes(this, PageCursorJsonContext.Default.PageCursor));

    /// <summary>Accepts only what <see cref="ToString"/> gives for this customer, to the byte.</summary>
    public static bool TryParse(string text, string customerId, [NotNullWhen(true)] out PageCursor? cursor)
    {
        cursor = null;
        if (!Base64Url.IsValid(text))
        {
            return false;
        }

        try
        {
            cursor = JsonSerializer.Deserialize(Base64Url.DecodeFromChars(text), PageCursorJsonContext.Default.PageCursor);
        }
        catch (JsonException)
        {
            return false;
        }

        return cursor is not null
            && cursor.CustomerId == customerId
            && OrderSchemas.IsId(cursor.OrderId)
            && DateTimeOffset.TryParseExact(cursor.CreatedAt, OrderItems.InstantFormat, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out _)
            && cursor.ToString() == text;
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(PageCursor))]
internal sealed partial class PageCursorJsonContext : JsonSerializerContext;
