using System.Globalization;
using System.Text.Json;
using Pipeline.Core;
using Pipeline.OrdersApi.Orders;

namespace Pipeline.OrdersApi.Tests;

public class ExactNumberTests
{
    [Theory]
    [InlineData("0", "0")]
    [InlineData("-0", "0")]
    [InlineData("-0.000e5", "0")]
    [InlineData("0e99999999999999999999", "0")]
    [InlineData("1.10", "1.1")]
    [InlineData("100", "100")]
    [InlineData("1E+2", "100")]
    [InlineData("110e-2", "1.1")]
    [InlineData("-12.340", "-12.34")]
    [InlineData("1e28", "10000000000000000000000000000")]
    [InlineData("0.0000000000000000000000000001", "0.0000000000000000000000000001")]
    [InlineData("1234567890123456789012345678", "1234567890123456789012345678")]
    [InlineData("1.10000000000000000000000000000000000000000000", "1.1")]
    public void A_number_is_read_without_rounding(string json, string expected)
    {
        Assert.True(ExactNumber.TryParseExact(json, out var number));
        Assert.Equal(expected, number.ToString(CultureInfo.InvariantCulture));
    }

    [Theory]
    [InlineData("1.00000000000000000000000000001")]
    [InlineData("0.00000000000000000000000000001")]
    [InlineData("12345678901234567890123456789")]
    [InlineData("1e29")]
    [InlineData("1e-29")]
    [InlineData("15e-29")]
    [InlineData("1e400")]
    [InlineData("1e99999999999999999999")]
    [InlineData("-1e-99999999999999999999")]
    public void A_number_that_would_be_rounded_is_refused(string json) =>
        Assert.False(ExactNumber.TryParseExact(json, out _));
}

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
            ["created_at", "currency", "customer", "customer_id", "items", "merchant_id", "order_id", "payments", "status", "total_amount", "updated_at", "version"],
            item.Keys.Order(StringComparer.Ordinal));
        Assert.Equal("2026-05-04T12:30:15.120Z", item["created_at"].S);
        Assert.Equal("created", item["status"].S);
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
