using System.Globalization;
using System.Text.Json;
using Pipeline.Core;
using Pipeline.OrdersApi.Orders;

namespace Pipeline.OrdersApi.Tests;

public class OrderItemsTests
{
    [Theory]
    [InlineData("9999999.99")]
    [InlineData("0.01")]
    [InlineData("0")]
    [InlineData("0.1")]
    [InlineData("1234567890123456.78")]
    [InlineData("20001999979998")]
    public void Money_goes_to_the_item_and_back_digit_for_digit(string amount)
    {
        var order = Order() with { TotalAmount = decimal.Parse(amount, CultureInfo.InvariantCulture) };

        var item = OrderItems.ToItem(order);

        Assert.Equal(amount, item["total_amount"].N);
        Assert.Equal(Json(order), Json(OrderItems.ToOrder(item)));
    }

    [Fact]
    public void An_order_goes_to_the_item_and_back_whole()
    {
        var order = Order();

        var item = OrderItems.ToItem(order);

        Assert.Equal(
            ["created_at", "currency", "customer", "customer_id", "customer_key", "items", "merchant_id", "order_id", "payments", "status", "status_key", "total_amount", "updated_at", "version"],
            item.Keys.Order(StringComparer.Ordinal));
        Assert.Equal("2026-05-04T12:30:15.120Z", item["created_at"].S);
        Assert.Equal("created", item["status"].S);
        Assert.Equal(("m#c", "m#created"), (item["customer_key"].S, item["status_key"].S));
        Assert.True(item["payments"].IsLSet);
        Assert.Equal(Json(order), Json(OrderItems.ToOrder(item)));
    }

    [Fact]
    public void Every_status_has_the_name_that_JSON_gives_it()
    {
        foreach (var status in Enum.GetValues<OrderStatus>())
        {
            Assert.Equal(JsonSerializer.Serialize(status, OrderJsonContext.Default.OrderStatus), $"\"{status.Name()}\"");
            Assert.Equal(status, OrderItems.StatusNamed(status.Name()));
        }
    }

    private static string Json(Order order) => JsonSerializer.Serialize(order, OrderJsonContext.Default.Order);

    private static Order Order() => new()
    {
        OrderId = "o",
        MerchantId = "m",
        CustomerId = "c",
        Customer = new Customer { CustomerId = "c", Name = "\"Ana\" \\ 😀 é" },
        Status = OrderStatus.Created,
        Currency = "BRL",
        Items = [new OrderItem { Line = 1, ProductId = "p", SellerId = "s", Quantity = 2, UnitPrice = 10.5m, Freight = 0 }],
        Payments = [],
        TotalAmount = 21,
        CreatedAt = new DateTimeOffset(2026, 5, 4, 12, 30, 15, 120, TimeSpan.Zero),
        UpdatedAt = new DateTimeOffset(2026, 5, 4, 12, 30, 15, 120, TimeSpan.Zero),
        Version = 1,
    };
}
