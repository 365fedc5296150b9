using System.Text.Json;
using System.Text.Json.Serialization;

namespace Pipeline.Core;

/// <summary>
/// An order as the API shows it and as the table keeps it: the attribute names are the same in JSON, in
/// DynamoDB, in Parquet and in SQL (snake_case), so one serialization serves them all.
/// </summary>
public sealed record Order
{
    /// <summary>1 to 64 characters of <c>A–Z a–z 0–9 _ -</c>; the partition key.</summary>
    public required string OrderId { get; init; }
    public required string MerchantId { get; init; }

    /// <summary>Repeats <c>customer.customer_id</c> at the top level, where queries find it.</summary>
    public required string CustomerId { get; init; }
    public required Customer Customer { get; init; }
    public required OrderStatus Status { get; init; }

    /// <summary>ISO 4217, three upper-case letters.</summary>
    public required string Currency { get; init; }
    public required IReadOnlyList<OrderItem> Items { get; init; }
    public required IReadOnlyList<Payment> Payments { get; init; }

    /// <summary>The sum over the items of quantity × unit price + freight, two decimals.</summary>
    public required decimal TotalAmount { get; init; }

    [JsonConverter(typeof(Rfc3339MillisecondsConverter))]
    public required DateTimeOffset CreatedAt { get; init; }

    [JsonConverter(typeof(Rfc3339MillisecondsConverter))]
    public required DateTimeOffset UpdatedAt { get; init; }

    /// <summary>1 for a new order, raised by exactly one in every conditional write.</summary>
    public required long Version { get; init; }

    /// <summary>W3C traceparent of the request that wrote this version.</summary>
    public string? TraceParent { get; init; }
}

public sealed record Customer
{
    public required string CustomerId { get; init; }
    public string? Name { get; init; }
    public string? Email { get; init; }

    /// <summary>The tax document (CPF in Brazil).</summary>
    public string? Document { get; init; }
    public string? City { get; init; }
    public string? State { get; init; }
}

public sealed record OrderItem
{
    /// <summary>Counts from 1 within the order.</summary>
    public required int Line { get; init; }
    public required string ProductId { get; init; }
    public required string SellerId { get; init; }
    public required int Quantity { get; init; }
    public required decimal UnitPrice { get; init; }
    public required decimal Freight { get; init; }
}

public sealed record Payment
{
    /// <summary>Counts from 1 within the order.</summary>
    public required int Sequence { get; init; }
    public required string Method { get; init; }
    public required int Installments { get; init; }
    public required decimal Amount { get; init; }
}

/// <summary>Source-generated JSON of an order, the one for the API and for the table.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(Order))]
public sealed partial class OrderJsonContext : JsonSerializerContext;

/// <summary>UTC in RFC 3339 with milliseconds, the one form in which this system writes a time as text.</summary>
public sealed class Rfc3339MillisecondsConverter : JsonConverter<DateTimeOffset>
{
    private const string Format = "yyyy-MM-dd'T'HH:mm:ss.fff'Z'";

    public override DateTimeOffset Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.GetDateTimeOffset().ToUniversalTime();

    public override void Write(Utf8JsonWriter writer, DateTimeOffset value, JsonSerializerOptions options) =>
        writer.WriteStringValue(value.UtcDateTime.ToString(Format, System.Globalization.CultureInfo.InvariantCulture));
}
