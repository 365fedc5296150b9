using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Core;
using Pipeline.Ops.Seed;

namespace Pipeline.OrdersApi.Tests;

public sealed class SeedPlanTests : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("seed-plan-tests");

    public void Dispose() => _directory.Delete(recursive: true);

    [Fact]
    public void The_files_become_requests()
    {
        // Quoted fields, as the published data set has them.
        Write("olist_orders_dataset.csv", """
            "order_id","customer_id","order_status","order_purchase_timestamp","order_approved_at","order_delivered_carrier_date","order_delivered_customer_date","order_estimated_delivery_date"
            o1,c1,delivered,2017-07-09 21:57:05,2017-07-09 22:10:13,2017-07-11 14:58:04,2017-07-26 10:57:55,2017-08-01 00:00:00
            """);
        Write("olist_order_items_dataset.csv", """
            order_id,order_item_id,product_id,seller_id,shipping_limit_date,price,freight_value
            o1,2,p2,s2,2017-07-15 00:00:00,100.00,0.0
            o1,1,p1,s1,2017-07-15 00:00:00,21.99,11.85
            """);
        Write("olist_order_payments_dataset.csv", """
            order_id,payment_sequential,payment_type,payment_installments,payment_value
            o1,2,voucher,1,33.84
            o1,1,credit_card,8,100.0
            """);
        Write("olist_customers_dataset.csv", """
            customer_id,customer_unique_id,customer_zip_code_prefix,customer_city,customer_state
            c1,person-1,35182,"santa barbara d'oeste, sp",SP
            """);

        var plan = OlistPlan.Of(OlistFiles.Read(_directory.FullName));

        Assert.Empty(plan.Findings);
        var expected = JsonNode.Parse("""
            {"order":{"order_id":"o1","merchant_id":"olist",
              "customer":{"customer_id":"person-1","city":"santa barbara d'oeste, sp","state":"SP"},
              "currency":"BRL",
              "items":[{"product_id":"p1","seller_id":"s1","quantity":1,"unit_price":21.99,"freight":11.85},
                       {"product_id":"p2","seller_id":"s2","quantity":1,"unit_price":100.00,"freight":0.0}],
              "payments":[{"method":"credit_card","installments":8,"amount":100.0},{"method":"voucher","installments":1,"amount":33.84}]},
             "statuses":["approved","shipped","delivered"],"remove":false}
            """)!;
        var planned = Json(Assert.Single(plan.Orders));
        // Who the person is, is made up: another test.
        foreach (var made in (string[])["name", "email", "document"])
        {
            Assert.NotEmpty(planned["order"]!["customer"]![made]!.GetValue<string>());
            planned["order"]!["customer"]!.AsObject().Remove(made);
        }

        Assert.True(JsonNode.DeepEquals(expected, planned), planned.ToJsonString());
    }

    public static TheoryData<string, string, string, string, string, string, string> Lifecycles => new()
    {
        // status, approved, shipped, delivered (days after the purchase) → the steps and what is said about them
        { "created", "", "", "", "", "", "" },
        { "approved", "1", "", "", "approved", "", "" },
        { "invoiced", "1", "", "", "approved invoiced", "", "" },
        { "processing", "1", "", "", "approved processing", "", "" },
        { "shipped", "1", "2", "", "approved shipped", "", "" },
        { "delivered", "1", "2", "3", "approved shipped delivered", "", "" },
        { "canceled", "", "", "", "canceled", "", "" },
        { "canceled", "1", "2", "", "approved shipped canceled", "", "" },
        { "unavailable", "1", "", "", "approved unavailable", "", "" },
        { "approved", "", "", "", "approved", "approved without a time (sent last)", "" },
        { "delivered", "1", "2", "", "approved shipped delivered", "delivered without a time (sent last)", "" },
        { "delivered", "1", "", "3", "approved shipped delivered", "delivered, but never reported as shipped (shipped is sent before it)", "" },
        { "delivered", "1", "3", "2", "approved shipped delivered", "delivered is reported before shipped (sent last: it is the order's status)", "" },
        { "delivered", "2", "1", "3", "shipped delivered", "", "approved is reported after shipped" },
        { "shipped", "2", "1", "", "approved shipped", "shipped is reported before approved (sent last: it is the order's status)", "" },
        { "delivered", "1", "-1", "3", "shipped delivered", "shipped is reported before the purchase (sent after it)", "approved is reported after shipped" },
        { "canceled", "1", "2", "3", "approved shipped canceled", "", "delivered is reported, but the order ended as canceled" },
        { "unavailable", "1", "2", "", "approved unavailable", "", "shipped is reported, but the order ended as unavailable" },
        { "invoiced", "1", "2", "", "approved invoiced", "", "shipped is reported, but the order ended as invoiced" },
    };

    [Theory]
    [MemberData(nameof(Lifecycles))]
    public void A_lifecycle_is_told_in_time_order_and_ends_where_the_order_stands(
        string status, string approved, string shipped, string delivered, string steps, string kept, string rejected)
    {
        var plan = OlistPlan.Of(Files(OlistOrder("o1", status, Day(approved), Day(shipped), Day(delivered))));

        var planned = Assert.Single(plan.Orders);
        Assert.Equal(steps, string.Join(' ', planned.Statuses.Select(step => step.ToString().ToLowerInvariant())));
        Assert.Equal(
            ((Finding[])[new(FindingKind.Kept, kept, "o1"), new(FindingKind.StepRejected, rejected, "o1")]).Where(finding => finding.What != ""),
            plan.Findings.OrderBy(finding => finding.Kind));
        var current = OrderStatus.Created;
        foreach (var step in planned.Statuses)
        {
            Assert.True(OrderTransitions.IsLegal(current, step));
            current = step;
        }
    }

    [Fact]
    public void What_is_odd_about_an_order_is_sent_and_said()
    {
        var files = Files(OlistOrder("o1", "created"), OlistOrder("o2", "created")) with
        {
            Items = [Item("o2")],
            Payments =
            [
                new OlistPayment { OrderId = "o2", Sequence = 2, Method = "not_defined", Installments = 0, Amount = 0 },
                new OlistPayment { OrderId = "o2", Sequence = 4, Method = "voucher", Installments = 1, Amount = 5 },
            ],
        };

        var plan = OlistPlan.Of(files);

        Assert.Equal(
            ["o1 has no items", "o1 has no payments", "o2 has a payment of zero", "o2 has a payment whose method is not_defined",
             "o2 has a payment in zero installments", "o2 its payments' numbers have gaps (sent in their order)"],
            plan.Findings.Select(finding => $"{finding.OrderId} {finding.What}"));
        Assert.All(plan.Findings, finding => Assert.Equal(FindingKind.Kept, finding.Kind));
        Assert.Equal([new NewPayment("not_defined", 0, 0), new NewPayment("voucher", 1, 5)], plan.Orders[1].Order.Payments);
    }

    [Fact]
    public void What_cannot_be_sent_is_named()
    {
        var files = Files(OlistOrder("o1", "lost"), OlistOrder("o2", "3"), OlistOrder("o3", "created") with { CustomerId = "nobody" }) with
        {
            Items = [Item("o8"), Item("o8")],
            Payments = [new OlistPayment { OrderId = "o9", Sequence = 1, Method = "pix", Installments = 1, Amount = 1 }],
        };

        var plan = OlistPlan.Of(files);

        Assert.Empty(plan.Orders);
        Assert.All(plan.Findings, finding => Assert.Equal(FindingKind.OrderRejected, finding.Kind));
        Assert.Equal(
            ["o1 its status is lost, which is none of ours", "o2 its status is 3, which is none of ours", "o3 its customer is not in the customers' file",
             "o8 items of an order that is not in the orders' file", "o9 payments of an order that is not in the orders' file"],
            plan.Findings.Select(finding => $"{finding.OrderId} {finding.What}"));
    }

    [Fact]
    public void A_missing_file_and_a_wrong_value_are_named_with_their_place()
    {
        var missing = Assert.Throws<SeedInputException>(() => OlistFiles.Read(_directory.FullName));
        Assert.Contains("olist_orders_dataset.csv", missing.Message, StringComparison.Ordinal);

        Write("olist_orders_dataset.csv", """
            order_id,customer_id,order_status,order_purchase_timestamp,order_approved_at,order_delivered_carrier_date,order_delivered_customer_date
            o1,c1,created,2017-07-09 21:57:05,,,
            o2,c1,created,yesterday,,,
            """);
        var wrong = Assert.Throws<SeedInputException>(() => OlistFiles.Read(_directory.FullName));
        Assert.Contains("olist_orders_dataset.csv, line 3", wrong.Message, StringComparison.Ordinal);

        Write("olist_orders_dataset.csv", "order_id,customer_id\no1,c1\n");
        var column = Assert.Throws<SeedInputException>(() => OlistFiles.Read(_directory.FullName));
        Assert.Contains("olist_orders_dataset.csv", column.Message, StringComparison.Ordinal);
        Assert.Contains("order_status", column.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Orders_go_out_in_the_order_of_their_purchase()
    {
        var plan = OlistPlan.Of(Files(
            OlistOrder("late", "created") with { PurchasedAt = new DateTime(2018, 1, 1) },
            OlistOrder("b", "created"),
            OlistOrder("a", "created")));

        Assert.Equal(["a", "b", "late"], plan.Orders.Select(order => order.Order.OrderId));
    }

    [Fact]
    public void A_person_is_the_same_every_time_and_has_a_valid_CPF()
    {
        var ana = new People().Of("person-1");

        var others = new People();
        var bob = others.Of("person-2");
        Assert.Equal(ana, others.Of("person-1"));
        Assert.NotEqual(ana.Name, bob.Name);
        Assert.EndsWith("@example.com", ana.Email, StringComparison.Ordinal);
        foreach (var document in Enumerable.Range(0, 50).Select(n => others.Of($"p{n}").Document!))
        {
            Assert.Matches(@"^\d{3}\.\d{3}\.\d{3}-\d{2}$", document);
            // The official rule, written the other way round than in the code.
            var digits = document.Where(char.IsAsciiDigit).Select(digit => digit - '0').ToArray();
            for (var check = 9; check <= 10; check++)
            {
                var rest = digits[..check].Select((digit, index) => digit * (check + 1 - index)).Sum() % 11;
                Assert.Equal(rest < 2 ? 0 : 11 - rest, digits[check]);
            }
        }
    }

    [Fact]
    public void Generated_orders_are_the_same_for_a_seed_and_a_shorter_plan_is_the_beginning_of_a_longer()
    {
        var plan = GeneratedPlan.Of(500, seed: 7).Select(order => Json(order).ToJsonString()).ToList();

        Assert.Equal(plan[..100], GeneratedPlan.Of(100, seed: 7).Select(order => Json(order).ToJsonString()));
        Assert.NotEqual(plan[0], Json(GeneratedPlan.Of(1, seed: 8).Single()).ToJsonString());
        Assert.Equal(500, plan.Distinct().Count());
    }

    [Fact]
    public void Generated_lifecycles_are_legal_and_of_all_kinds()
    {
        var orders = GeneratedPlan.Of(2000, seed: 1).ToList();

        Assert.All(orders, order => Assert.All(
            order.Statuses.Prepend(OrderStatus.Created).Zip(order.Statuses),
            step => Assert.True(OrderTransitions.IsLegal(step.First, step.Second), $"{order.Order.OrderId}: {step}")));
        Assert.Equal(
            Enum.GetValues<OrderStatus>(),
            orders.Select(order => order.Statuses.LastOrDefault(OrderStatus.Created)).Distinct().Order());
        Assert.InRange(orders.Count(order => order.Statuses is [.., OrderStatus.Delivered]), 1200, 1700);
        Assert.InRange(orders.Count(order => order.Remove), 10, 80);
        Assert.InRange(orders.GroupBy(order => order.Order.Customer.CustomerId).Max(customer => customer.Count()), 2, 100);
    }

    private static JsonNode Json(PlannedOrder order) => JsonSerializer.SerializeToNode(order, SeedJsonContext.Default.PlannedOrder)!;

    private static DateTime? Day(string day) =>
        day == "" ? null : new DateTime(2017, 7, 10).AddDays(int.Parse(day, CultureInfo.InvariantCulture));

    private static OlistOrder OlistOrder(string id, string status, DateTime? approved = null, DateTime? shipped = null, DateTime? delivered = null) => new()
    {
        OrderId = id,
        CustomerId = "c1",
        Status = status,
        PurchasedAt = new DateTime(2017, 7, 10),
        ApprovedAt = approved,
        ShippedAt = shipped,
        DeliveredAt = delivered,
    };

    private static OlistItem Item(string orderId) => new() { OrderId = orderId, Line = 1, ProductId = "p1", SellerId = "s1", Price = 1, Freight = 0 };

    /// <summary>Orders with an item and a payment each, so that nothing else about them is odd.</summary>
    private static OlistFiles Files(params OlistOrder[] orders) => new(
        orders,
        [.. orders.Select(order => Item(order.OrderId))],
        [.. orders.Select(order => new OlistPayment { OrderId = order.OrderId, Sequence = 1, Method = "pix", Installments = 1, Amount = 1 })],
        [new OlistCustomer { CustomerId = "c1", PersonId = "person-1", City = "x", State = "SP" }]);

    private void Write(string name, string text) => File.WriteAllText(Path.Combine(_directory.FullName, name), text + "\n");
}
