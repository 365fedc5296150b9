using Pipeline.Core;

namespace Pipeline.UnitTests;

public class OrderTransitionsTests
{
    public static TheoryData<OrderStatus, OrderStatus[]> Expected => new()
    {
        { OrderStatus.Created, [OrderStatus.Approved, OrderStatus.Processing, OrderStatus.Invoiced, OrderStatus.Shipped, OrderStatus.Canceled, OrderStatus.Unavailable] },
        { OrderStatus.Approved, [OrderStatus.Processing, OrderStatus.Invoiced, OrderStatus.Shipped, OrderStatus.Canceled, OrderStatus.Unavailable] },
        { OrderStatus.Processing, [OrderStatus.Invoiced, OrderStatus.Shipped, OrderStatus.Canceled, OrderStatus.Unavailable] },
        { OrderStatus.Invoiced, [OrderStatus.Shipped, OrderStatus.Canceled, OrderStatus.Unavailable] },
        { OrderStatus.Shipped, [OrderStatus.Delivered, OrderStatus.Canceled] },
        { OrderStatus.Delivered, [] },
        { OrderStatus.Canceled, [] },
        { OrderStatus.Unavailable, [] },
    };

    [Theory]
    [MemberData(nameof(Expected))]
    public void Every_status_has_exactly_these_successors(OrderStatus from, OrderStatus[] successors) =>
        Assert.Equal(successors, OrderTransitions.NextOf(from));
}
