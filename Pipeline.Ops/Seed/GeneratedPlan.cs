using System.Globalization;
using Bogus;
using Pipeline.Core;

namespace Pipeline.Ops.Seed;

/// <summary>Plausible orders, the same for the same seed; the first n of a longer plan are the plan of n.</summary>
internal static class GeneratedPlan
{
    public static IEnumerable<PlannedOrder> Of(int count, int seed)
    {
        var people = new People();
        for (var index = 0; index < count; index++)
        {
            yield return Order(seed, index, people);
        }
    }

    private static PlannedOrder Order(int seed, int index, People people)
    {
        var id = string.Create(CultureInfo.InvariantCulture, $"gen-{seed}-{index:D7}");
        var random = new Randomizer(People.Seed(id));
        // About three orders a customer, far apart in the plan.
        var customer = string.Create(CultureInfo.InvariantCulture, $"gen-{seed}-customer-{random.Int(0, (index / 3) + 1)}");
        var items = random.WeightedRandom([1, 2, 3, 8], [0.7f, 0.2f, 0.08f, 0.02f]);
        var order = new NewOrder
        {
            OrderId = id,
            MerchantId = $"shop-{random.Int(1, 40)}",
            Customer = people.Of(customer),
            Currency = "BRL",
            Items = [.. Enumerable.Range(0, items).Select(_ => new NewItem(
                $"product-{random.Int(1, 5000)}", $"seller-{random.Int(1, 400)}", random.Int(1, 3), Money(random, 500, 80_000), Money(random, 0, 6_000)))],
            Payments = [],
        };
        var total = order.Items.Sum(item => (item.Quantity * item.UnitPrice) + item.Freight);
        var method = random.WeightedRandom(["credit_card", "pix", "boleto", "debit_card", "voucher"], [0.55f, 0.25f, 0.13f, 0.04f, 0.03f]);
        return new PlannedOrder(
            order with { Payments = [new NewPayment(method, method == "credit_card" ? random.Int(1, 12) : 1, total)] },
            Lifecycle(random),
            Remove: random.Bool(0.02f));
    }

    /// <summary>Forward, not every shop reporting each step; most arrive, some are canceled or unavailable on the way.</summary>
    private static List<OrderStatus> Lifecycle(Randomizer random)
    {
        (OrderStatus Status, float Reported)[] way =
        [
            (OrderStatus.Approved, 0.97f),
            (OrderStatus.Processing, 0.6f),
            (OrderStatus.Invoiced, 0.7f),
            (OrderStatus.Shipped, 1),
            (OrderStatus.Delivered, 1),
        ];
        var ends = random.WeightedRandom([way.Length, random.Int(0, way.Length - 1)], [0.75f, 0.25f]);
        var steps = way.Take(ends).Where(step => random.Bool(step.Reported)).Select(step => step.Status).ToList();
        var current = steps.LastOrDefault(OrderStatus.Created);
        var end = random.WeightedRandom<OrderStatus?>([null, OrderStatus.Canceled, OrderStatus.Unavailable], [0.6f, 0.3f, 0.1f]);
        if (end is { } status && OrderTransitions.IsLegal(current, status))
        {
            steps.Add(status);
        }

        return steps;
    }

    private static decimal Money(Randomizer random, int centsMin, int centsMax) => random.Int(centsMin, centsMax) / 100m;
}
