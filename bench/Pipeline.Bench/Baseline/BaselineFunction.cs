using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Amazon.Lambda.DynamoDBEvents;
using Amazon.Lambda.Serialization.SystemTextJson;
using Amazon.S3;
using Amazon.S3.Model;
using AttributeValue = Amazon.Lambda.DynamoDBEvents.DynamoDBEvent.AttributeValue;

namespace Pipeline.Bench;

/// <summary>
/// Baseline B: the function as most teams write it. The event is deserialized into its type, each record becomes a plain
/// object, the objects become JSON lines in one S3 object a batch. No quarantine, no protection of personal data, no
/// exact numbers beyond decimal: it is held against ours as it would be deployed, at its best (source-generated JSON).
/// </summary>
internal static class BaselineFunction
{
    private static readonly SourceGeneratorLambdaJsonSerializer<BaselineEventJsonContext> Serializer = new((JsonSerializerOptions _) => { });

    /// <summary>From the payload to the lines of the object.</summary>
    public static byte[] ToJsonLines(byte[] payload)
    {
        using var body = new MemoryStream(payload);
        var batch = Serializer.Deserialize<DynamoDBEvent>(body);
        using var lines = new MemoryStream();
        foreach (var record in batch.Records)
        {
            JsonSerializer.Serialize(lines, ToRow(record), BaselineJsonContext.Default.BaselineRow);
            lines.WriteByte((byte)'\n');
        }

        return lines.ToArray();
    }

    /// <summary>The whole function.</summary>
    public static async Task HandleAsync(byte[] payload, IAmazonS3 s3, string bucket, string key, CancellationToken cancellationToken)
    {
        using var lines = new MemoryStream(ToJsonLines(payload));
        await s3.PutObjectAsync(
            new PutObjectRequest { BucketName = bucket, Key = key, InputStream = lines, ContentType = "application/x-ndjson" }, cancellationToken);
    }

    private static BaselineRow ToRow(DynamoDBEvent.DynamodbStreamRecord record)
    {
        var image = record.Dynamodb.NewImage ?? record.Dynamodb.OldImage;
        var customer = image["customer"].M;
        return new BaselineRow
        {
            EventId = record.EventID,
            EventName = record.EventName,
            SequenceNumber = record.Dynamodb.SequenceNumber,
            ChangedAt = record.Dynamodb.ApproximateCreationDateTime,
            OrderId = image["order_id"].S,
            MerchantId = image["merchant_id"].S,
            CustomerId = image["customer_id"].S,
            Customer = new BaselineCustomer
            {
                CustomerId = customer["customer_id"].S,
                Name = customer.GetValueOrDefault("name")?.S,
                Email = customer.GetValueOrDefault("email")?.S,
                Document = customer.GetValueOrDefault("document")?.S,
                City = customer.GetValueOrDefault("city")?.S,
                State = customer.GetValueOrDefault("state")?.S,
            },
            Status = image["status"].S,
            Currency = image["currency"].S,
            Items = [.. image["items"].L.Select(item => new BaselineItem
            {
                Line = Whole(item.M["line"]),
                ProductId = item.M["product_id"].S,
                SellerId = item.M["seller_id"].S,
                Quantity = Whole(item.M["quantity"]),
                UnitPrice = Money(item.M["unit_price"]),
                Freight = Money(item.M["freight"]),
            })],
            Payments = [.. image["payments"].L.Select(payment => new BaselinePayment
            {
                Sequence = Whole(payment.M["sequence"]),
                Method = payment.M["method"].S,
                Installments = Whole(payment.M["installments"]),
                Amount = Money(payment.M["amount"]),
            })],
            TotalAmount = Money(image["total_amount"]),
            CreatedAt = DateTimeOffset.Parse(image["created_at"].S, CultureInfo.InvariantCulture),
            UpdatedAt = DateTimeOffset.Parse(image["updated_at"].S, CultureInfo.InvariantCulture),
            Version = Whole(image["version"]),
            TraceParent = image.GetValueOrDefault("trace_parent")?.S,
        };
    }

    private static int Whole(AttributeValue value) => int.Parse(value.N, CultureInfo.InvariantCulture);

    private static decimal Money(AttributeValue value) => decimal.Parse(value.N, CultureInfo.InvariantCulture);
}

/// <summary>A line of the baseline's object.</summary>
internal sealed record BaselineRow
{
    public required string EventId { get; init; }
    public required string EventName { get; init; }
    public required string SequenceNumber { get; init; }
    public required DateTime ChangedAt { get; init; }
    public required string OrderId { get; init; }
    public required string MerchantId { get; init; }
    public required string CustomerId { get; init; }
    public required BaselineCustomer Customer { get; init; }
    public required string Status { get; init; }
    public required string Currency { get; init; }
    public required List<BaselineItem> Items { get; init; }
    public required List<BaselinePayment> Payments { get; init; }
    public required decimal TotalAmount { get; init; }
    public required DateTimeOffset CreatedAt { get; init; }
    public required DateTimeOffset UpdatedAt { get; init; }
    public required int Version { get; init; }
    public string? TraceParent { get; init; }
}

internal sealed record BaselineCustomer
{
    public required string CustomerId { get; init; }
    public string? Name { get; init; }
    public string? Email { get; init; }
    public string? Document { get; init; }
    public string? City { get; init; }
    public string? State { get; init; }
}

internal sealed record BaselineItem
{
    public required int Line { get; init; }
    public required string ProductId { get; init; }
    public required string SellerId { get; init; }
    public required int Quantity { get; init; }
    public required decimal UnitPrice { get; init; }
    public required decimal Freight { get; init; }
}

internal sealed record BaselinePayment
{
    public required int Sequence { get; init; }
    public required string Method { get; init; }
    public required int Installments { get; init; }
    public required decimal Amount { get; init; }
}

[JsonSerializable(typeof(DynamoDBEvent))]
internal sealed partial class BaselineEventJsonContext : JsonSerializerContext;

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(BaselineRow))]
internal sealed partial class BaselineJsonContext : JsonSerializerContext;
