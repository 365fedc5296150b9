using System.Runtime.InteropServices;
using System.Text.Json;
using Pipeline.Core;

namespace Pipeline.OrdersApi.Orders;

/// <summary>From the body of POST /orders, which fits <see cref="OrderSchemas.NewOrder"/>, to the first version of an order.</summary>
internal static class NewOrder
{
    /// <summary>The order as it was sent: its times, its trace and, if it came without one, its id are still to be set.</summary>
    public static Order Decode(JsonElement body, string merchant)
    {
        var customer = body.GetProperty("customer");
        var items = body.GetProperty("items").EnumerateArray().Select(Item).ToList();
        return new Order
        {
            OrderId = Text(body, "order_id") ?? "",
            MerchantId = Text(body, "merchant_id") ?? merchant,
            CustomerId = Text(customer, "customer_id")!,
            Customer = new Customer
            {
                CustomerId = Text(customer, "customer_id")!,
                Name = Text(customer, "name"),
                Email = Text(customer, "email"),
                Document = Text(customer, "document"),
                City = Text(customer, "city"),
                State = Text(customer, "state"),
            },
            Status = OrderStatus.Created,
            Currency = Text(body, "currency")!,
            Items = items,
            Payments = [.. body.GetProperty("payments").EnumerateArray().Select(Payment)],
            TotalAmount = Total(items),
            CreatedAt = default,
            UpdatedAt = default,
            Version = 1,
        };
    }

    /// <summary>
    /// What two requests for the same order have in common, however they write it. Fingerprints are made of it, and records of
    /// them outlive a deployment: a field that is added must be left out where it is not sent (a test knows the bytes).
    /// </summary>
    public static byte[] Canonical(Order sent) => JsonSerializer.SerializeToUtf8Bytes(sent, OrderJsonContext.Default.Order);

    public static Order Complete(Order sent, DateTimeOffset now, string traceParent) => sent with
    {
        OrderId = sent.OrderId.Length > 0 ? sent.OrderId : Guid.CreateVersion7(now).ToString("N"),
        CreatedAt = now,
        UpdatedAt = now,
        TraceParent = traceParent,
    };

    private static OrderItem Item(JsonElement item, int index) => new()
    {
        Line = index + 1,
        ProductId = Text(item, "product_id")!,
        SellerId = Text(item, "seller_id")!,
        Quantity = item.GetProperty("quantity").WholeNumber(),
        UnitPrice = item.GetProperty("unit_price").Money(),
        Freight = item.GetProperty("freight").Money(),
    };

    private static Payment Payment(JsonElement payment, int index) => new()
    {
        Sequence = index + 1,
        Method = Text(payment, "method")!,
        Installments = payment.GetProperty("installments").WholeNumber(),
        Amount = payment.GetProperty("amount").Money(),
    };

    private static string? Text(JsonElement parent, string name) =>
        parent.TryGetProperty(name, out var value) ? value.GetString() : null;

    /// <summary>A decimal like 1.1, never 1.10: DynamoDB keeps no trailing zeros, and both must be the same text.</summary>
    private static decimal Money(this JsonElement value) => Scaled(value, OrderSchemas.MoneyDecimals) / 100m;

    // 1.0 and 1e0 are whole numbers too.
    private static int WholeNumber(this JsonElement value) => (int)Scaled(value, 0);

    private static long Scaled(JsonElement value, int decimals) =>
        JsonNumber.TryScale(JsonMarshal.GetRawUtf8Value(value), decimals, out var scaled)
            ? scaled
            : throw new ArgumentException("The number was not held against its schema.", nameof(value));

    // Decimal arithmetic is exact here and always checked. A division by one with 28 zeros leaves the value and
    // takes away its trailing zeros.
    private static decimal Total(IEnumerable<OrderItem> items) =>
        items.Sum(item => (item.Quantity * item.UnitPrice) + item.Freight) / 1.0000000000000000000000000000m;
}
