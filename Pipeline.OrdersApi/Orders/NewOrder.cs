using System.Text.Json;
using Pipeline.Core;

namespace Pipeline.OrdersApi.Orders;

/// <summary>From the body of POST /orders, which fits <see cref="OrderSchemas.NewOrder"/>, to the first version of an order.</summary>
internal static class NewOrder
{
    public static Order Decode(JsonElement body, DateTimeOffset now, string traceParent)
    {
        var customer = body.GetProperty("customer");
        var items = body.GetProperty("items").EnumerateArray().Select(Item).ToList();
        return new Order
        {
            OrderId = Text(body, "order_id") ?? Guid.CreateVersion7(now).ToString("N"),
            MerchantId = Text(body, "merchant_id")!,
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
            // Decimal arithmetic is exact here and always checked: an overflow throws.
            TotalAmount = ExactNumber.WithoutTrailingZeros(items.Sum(item => (item.Quantity * item.UnitPrice) + item.Freight)),
            CreatedAt = now,
            UpdatedAt = now,
            Version = 1,
            TraceParent = traceParent,
        };
    }

    private static OrderItem Item(JsonElement item, int index) => new()
    {
        Line = index + 1,
        ProductId = Text(item, "product_id")!,
        SellerId = Text(item, "seller_id")!,
        Quantity = (int)Number(item, "quantity"),
        UnitPrice = Number(item, "unit_price"),
        Freight = Number(item, "freight"),
    };

    private static Payment Payment(JsonElement payment, int index) => new()
    {
        Sequence = index + 1,
        Method = Text(payment, "method")!,
        Installments = (int)Number(payment, "installments"),
        Amount = Number(payment, "amount"),
    };

    private static string? Text(JsonElement parent, string name) =>
        parent.TryGetProperty(name, out var value) ? value.GetString() : null;

    private static decimal Number(JsonElement parent, string name) =>
        ExactNumber.TryParseExact(parent.GetProperty(name).GetRawText(), out var number)
            ? number
            : throw new InvalidOperationException($"The number {name} was not held against the schema.");
}
