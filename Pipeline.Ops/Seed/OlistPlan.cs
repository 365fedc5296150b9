using Pipeline.Core;

namespace Pipeline.Ops.Seed;

/// <summary>
/// From the rows of the files to the requests: a pure function, so that what is sent can be checked without sending
/// it. Everything odd is either sent as it is or left out, and found in the findings.
/// </summary>
internal static class OlistPlan
{
    /// <summary>All orders are of one marketplace; its sellers are on the items.</summary>
    public const string Merchant = "olist";

    private static readonly Dictionary<string, OrderStatus> Statuses = Enum.GetValues<OrderStatus>().ToDictionary(Name);

    public static SeedPlan Of(OlistFiles files)
    {
        var items = files.Items.ToLookup(item => item.OrderId);
        var payments = files.Payments.ToLookup(payment => payment.OrderId);
        var customers = files.Customers.ToLookup(customer => customer.CustomerId);
        var findings = new List<Finding>();
        var planned = new List<PlannedOrder>();
        var people = new People();
        foreach (var row in files.Orders.OrderBy(order => order.PurchasedAt).ThenBy(order => order.OrderId, StringComparer.Ordinal))
        {
            if (customers[row.CustomerId].FirstOrDefault() is not { } customer)
            {
                findings.Add(new(FindingKind.OrderRejected, "its customer is not in the customers' file", row.OrderId));
            }
            else if (!Statuses.TryGetValue(row.Status, out var final))
            {
                findings.Add(new(FindingKind.OrderRejected, $"its status is {row.Status}, which is none of ours", row.OrderId));
            }
            else
            {
                planned.Add(new PlannedOrder(
                    Order(row, people.Of(customer.PersonId) with { City = customer.City, State = customer.State }, items[row.OrderId], payments[row.OrderId], findings),
                    Lifecycle(row, final, findings),
                    Remove: false));
            }
        }

        var known = files.Orders.Select(order => order.OrderId).ToHashSet();
        findings.AddRange(items.Select(order => order.Key).Where(id => !known.Contains(id))
            .Select(id => new Finding(FindingKind.OrderRejected, "items of an order that is not in the orders' file", id)));
        findings.AddRange(payments.Select(order => order.Key).Where(id => !known.Contains(id))
            .Select(id => new Finding(FindingKind.OrderRejected, "payments of an order that is not in the orders' file", id)));
        return new SeedPlan(planned, findings);
    }

    private static NewOrder Order(
        OlistOrder row, Customer customer, IEnumerable<OlistItem> itemRows, IEnumerable<OlistPayment> paymentRows, List<Finding> findings)
    {
        var items = itemRows.OrderBy(item => item.Line).ToList();
        var payments = paymentRows.OrderBy(payment => payment.Sequence).ToList();
        Keep(items.Count == 0, "has no items");
        Keep(payments.Count == 0, "has no payments");
        Keep(payments.Any(payment => payment.Amount == 0), "has a payment of zero");
        Keep(payments.Any(payment => payment.Method == "not_defined"), "has a payment whose method is not_defined");
        Keep(payments.Any(payment => payment.Installments == 0), "has a payment in zero installments");
        Keep(payments.Where((payment, index) => payment.Sequence != index + 1).Any(), "its payments' numbers have gaps (sent in their order)");

        return new NewOrder
        {
            OrderId = row.OrderId,
            MerchantId = Merchant,
            Customer = customer,
            Currency = "BRL",
            Items = [.. items.Select(item => new NewItem(item.ProductId, item.SellerId, Quantity: 1, item.Price, item.Freight))],
            Payments = [.. payments.Select(payment => new NewPayment(payment.Method, payment.Installments, payment.Amount))],
        };

        void Keep(bool isOdd, string what)
        {
            if (isOdd)
            {
                findings.Add(new(FindingKind.Kept, what, row.OrderId));
            }
        }
    }

    /// <summary>
    /// The reported status changes in the order of their times; order_status is where the order stands, so it comes
    /// last whatever the times say. A change that our transitions do not allow at its place, or after which that
    /// last status could not come any more, is not sent.
    /// </summary>
    private static List<OrderStatus> Lifecycle(OlistOrder row, OrderStatus final, List<Finding> findings)
    {
        (OrderStatus Status, DateTime? At)[] reported =
        [
            (OrderStatus.Approved, row.ApprovedAt),
            (OrderStatus.Shipped, row.ShippedAt),
            (OrderStatus.Delivered, row.DeliveredAt),
        ];
        var inTime = reported.Where(change => change.At is not null).OrderBy(change => change.At).ToList();
        var steps = new List<OrderStatus>();
        var current = OrderStatus.Created;

        foreach (var (status, at) in inTime)
        {
            if (at < row.PurchasedAt)
            {
                findings.Add(new(FindingKind.Kept, $"{Name(status)} is reported before the purchase (sent after it)", row.OrderId));
            }

            if (status == final)
            {
                continue;
            }

            if (!OrderTransitions.IsLegal(current, status))
            {
                findings.Add(new(FindingKind.StepRejected, $"{Name(status)} is reported after {Name(current)}", row.OrderId));
            }
            else if (!CanReach(status, final))
            {
                findings.Add(new(FindingKind.StepRejected, $"{Name(status)} is reported, but the order ended as {Name(final)}", row.OrderId));
            }
            else
            {
                steps.Add(status);
                current = status;
            }
        }

        if (final == OrderStatus.Created)
        {
            return steps;
        }

        if (inTime.Any(change => change.Status == final) && inTime[^1].Status != final)
        {
            findings.Add(new(FindingKind.Kept, $"{Name(final)} is reported before {Name(inTime[^1].Status)} (sent last: it is the order's status)", row.OrderId));
        }

        if (reported.Any(change => change.Status == final && change.At is null))
        {
            findings.Add(new(FindingKind.Kept, $"{Name(final)} without a time (sent last)", row.OrderId));
        }

        if (!OrderTransitions.IsLegal(current, final))
        {
            // Only a delivery needs one particular status before it.
            findings.Add(new(FindingKind.Kept, $"{Name(final)}, but never reported as shipped (shipped is sent before it)", row.OrderId));
            steps.Add(OrderStatus.Shipped);
        }

        steps.Add(final);
        return steps;
    }

    private static bool CanReach(OrderStatus from, OrderStatus to) =>
        OrderTransitions.IsLegal(from, to) || OrderTransitions.NextOf(from).Any(next => OrderTransitions.IsLegal(next, to));

    private static string Name(OrderStatus status) => status.ToString().ToLowerInvariant();
}
