using System.Globalization;
using CsvHelper;
using CsvHelper.Configuration;
using CsvHelper.Configuration.Attributes;

namespace Pipeline.Ops.Seed;

/// <summary>One row of olist_orders_dataset.csv. Times are local, without a zone, and serve to put the steps in order.</summary>
internal sealed record OlistOrder
{
    [Name("order_id")]
    public required string OrderId { get; init; }

    [Name("customer_id")]
    public required string CustomerId { get; init; }

    [Name("order_status")]
    public required string Status { get; init; }

    [Name("order_purchase_timestamp")]
    public required DateTime PurchasedAt { get; init; }

    [Name("order_approved_at")]
    public DateTime? ApprovedAt { get; init; }

    [Name("order_delivered_carrier_date")]
    public DateTime? ShippedAt { get; init; }

    [Name("order_delivered_customer_date")]
    public DateTime? DeliveredAt { get; init; }
}

/// <summary>One row of olist_order_items_dataset.csv: one piece of a product.</summary>
internal sealed record OlistItem
{
    [Name("order_id")]
    public required string OrderId { get; init; }

    [Name("order_item_id")]
    public required int Line { get; init; }

    [Name("product_id")]
    public required string ProductId { get; init; }

    [Name("seller_id")]
    public required string SellerId { get; init; }

    [Name("price")]
    public required decimal Price { get; init; }

    [Name("freight_value")]
    public required decimal Freight { get; init; }
}

/// <summary>One row of olist_order_payments_dataset.csv.</summary>
internal sealed record OlistPayment
{
    [Name("order_id")]
    public required string OrderId { get; init; }

    [Name("payment_sequential")]
    public required int Sequence { get; init; }

    [Name("payment_type")]
    public required string Method { get; init; }

    [Name("payment_installments")]
    public required int Installments { get; init; }

    [Name("payment_value")]
    public required decimal Amount { get; init; }
}

/// <summary>One row of olist_customers_dataset.csv: customer_id is one order's, customer_unique_id the person's.</summary>
internal sealed record OlistCustomer
{
    [Name("customer_id")]
    public required string CustomerId { get; init; }

    [Name("customer_unique_id")]
    public required string PersonId { get; init; }

    [Name("customer_city")]
    public required string City { get; init; }

    [Name("customer_state")]
    public required string State { get; init; }
}

/// <summary>The four files of the Brazilian E-Commerce Public Dataset by Olist that tell about orders.</summary>
internal sealed record OlistFiles(
    IReadOnlyList<OlistOrder> Orders,
    IReadOnlyList<OlistItem> Items,
    IReadOnlyList<OlistPayment> Payments,
    IReadOnlyList<OlistCustomer> Customers)
{
    /// <exception cref="SeedInputException">A file is missing or not what it should be; the message says which and where.</exception>
    public static OlistFiles Read(string directory) => new(
        Read<OlistOrder>(directory, "olist_orders_dataset.csv"),
        Read<OlistItem>(directory, "olist_order_items_dataset.csv"),
        Read<OlistPayment>(directory, "olist_order_payments_dataset.csv"),
        Read<OlistCustomer>(directory, "olist_customers_dataset.csv"));

    private static List<T> Read<T>(string directory, string name)
    {
        var path = Path.Combine(directory, name);
        try
        {
            using var csv = new CsvReader(File.OpenText(path), new CsvConfiguration(CultureInfo.InvariantCulture));
            return [.. csv.GetRecords<T>()];
        }
        catch (IOException error)
        {
            throw new SeedInputException($"{path} cannot be read: {error.Message} --olist takes the folder of the data set's CSV files.", error);
        }
        catch (CsvHelperException error)
        {
            var at = error.Context?.Parser is { } parser ? $", line {parser.RawRow}" : "";
            throw new SeedInputException($"{path}{at} is not as the data set has it: {error.Message.Split('\n')[0].Trim()}", error);
        }
    }
}

/// <summary>The source of the orders cannot be used; the message is for the operator.</summary>
internal sealed class SeedInputException(string message, Exception inner) : Exception(message, inner);
