using System.Buffers;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using Amazon.DynamoDBv2.Model;
using Amazon.Lambda.DynamoDBEvents;
using Pipeline.Core;
using Pipeline.Ops.Seed;
using Pipeline.OrdersApi.Orders;
using Pipeline.Processor;

namespace Pipeline.Bench;

/// <summary>
/// What goes in: orders with all that becomes of them, as the API writes them, as the stream tells of them, and as decoded
/// changes. The same in every run with the same seed or the same files.
/// </summary>
internal sealed class Inputs
{
    /// <summary>Of the time of the first change; any would do, but it has to be the same in every run.</summary>
    private static readonly DateTimeOffset Start = new(2026, 1, 5, 8, 0, 0, TimeSpan.Zero);

    /// <summary>A stream's sequence numbers begin far above zero.</summary>
    private const long FirstSequenceNumber = 100_000_000_000_000_000;

    /// <summary>As DynamoDB and Lambda write text: é is é.</summary>
    private static readonly JsonWriterOptions Written = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly IEnumerable<PlannedOrder> _orders;

    private Inputs(string description, IEnumerable<PlannedOrder> orders)
    {
        Description = description;
        _orders = orders;
    }

    public string Description { get; }

    /// <summary>Orders of the Olist data set; else generated ones.</summary>
    public bool AreReal { get; private init; }

    /// <summary>What personal data is protected with.</summary>
    public static PersonalDataProtector Protector { get; } = new("the key of the benchmarks, for personal data");

    /// <param name="seed">Of generated orders.</param>
    /// <param name="olist">Folder of the real ones; null: they are generated.</param>
    public static Inputs Of(int seed, string? olist)
    {
        if (olist is not null)
        {
            var plan = OlistPlan.Of(OlistFiles.Read(olist));
            return new Inputs($"{plan.Orders.Count:N0} real orders of Olist, over and over where more are needed", plan.Orders) { AreReal = true };
        }

        return new Inputs($"generated orders, seed {seed}", GeneratedPlan.Of(int.MaxValue, seed));
    }

    /// <summary>Orders without end: real ones are repeated under other ids.</summary>
    public IEnumerable<PlannedOrder> Orders()
    {
        for (var lap = 0; ; lap++)
        {
            foreach (var planned in _orders)
            {
                yield return lap == 0
                    ? planned
                    : planned with { Order = planned.Order with { OrderId = string.Create(CultureInfo.InvariantCulture, $"{planned.Order.OrderId}-{lap}") } };
            }
        }
    }

    /// <summary>The table's changes in the order of the stream, without end: each order's come one after the other, some orders are at work at a time.</summary>
    public IEnumerable<ItemChange> ItemChanges()
    {
        const int AtOnce = 100;
        var sequence = FirstSequenceNumber;
        foreach (var some in Orders().Chunk(AtOnce))
        {
            // The first change of each, then the second of each: what several clients at a time do to the table.
            var lives = some.Select(Life).ToList();
            for (var step = 0; lives.Any(life => step < life.Count); step++)
            {
                foreach (var life in lives.Where(life => step < life.Count))
                {
                    yield return life[step] with { Sequence = sequence++ };
                }
            }
        }
    }

    /// <summary>A batch as Lambda gives it to the function: the JSON of a DynamoDBEvent.</summary>
    public static byte[] Payload(IEnumerable<ItemChange> changes)
    {
        var json = new ArrayBufferWriter<byte>(1 << 20);
        using (var writer = new Utf8JsonWriter(json, Written))
        {
            writer.WriteStartObject();
            writer.WriteStartArray("Records");
            foreach (var change in changes)
            {
                change.Write(writer);
            }

            writer.WriteEndArray();
            writer.WriteEndObject();
        }

        return json.WrittenSpan.ToArray();
    }

    /// <summary>The first batches of the stream.</summary>
    public IEnumerable<byte[]> Payloads(int recordsEach) => ItemChanges().Chunk(recordsEach).Select(Payload);

    /// <summary>Decoded changes as the function has them before it writes the file, in batches.</summary>
    public IEnumerable<IReadOnlyList<Change>> Batches(int changesEach) => Payloads(changesEach).Select(Decode);

    public static IReadOnlyList<Change> Decode(byte[] payload)
    {
        using var json = new MemoryStream(payload);
        return [.. EntryPoint.Serializer.Deserialize<DynamoDBEvent>(json).Records.Select(record =>
            ChangeDecoder.Decode(EventRecord.ToStreamRecord(record, Protector)))];
    }

    private static List<ItemChange> Life(PlannedOrder planned, int index)
    {
        var trace = new Random(index);
        var order = FirstVersion(planned.Order) with { TraceParent = TraceParent(trace) };
        var image = OrderItems.ToItem(order);
        var life = new List<ItemChange> { new(order.OrderId, "INSERT", 0, order.CreatedAt, NewImage: image, OldImage: null) };
        foreach (var status in planned.Statuses)
        {
            var before = image;
            order = order with { Status = status, Version = order.Version + 1, UpdatedAt = order.UpdatedAt.AddMilliseconds(1371), TraceParent = TraceParent(trace) };
            image = OrderItems.ToItem(order);
            life.Add(new(order.OrderId, "MODIFY", 0, order.UpdatedAt, image, before));
        }

        if (planned.Remove)
        {
            life.Add(new(order.OrderId, "REMOVE", 0, order.UpdatedAt, NewImage: null, image));
        }

        return life;
    }

    private static Order FirstVersion(Ops.Seed.NewOrder sent) => new()
    {
        OrderId = sent.OrderId,
        MerchantId = sent.MerchantId,
        CustomerId = sent.Customer.CustomerId,
        Customer = sent.Customer,
        Status = OrderStatus.Created,
        Currency = sent.Currency,
        Items = [.. sent.Items.Select((item, index) => new OrderItem
        {
            Line = index + 1,
            ProductId = item.ProductId,
            SellerId = item.SellerId,
            Quantity = item.Quantity,
            UnitPrice = item.UnitPrice,
            Freight = item.Freight,
        })],
        Payments = [.. sent.Payments.Select((payment, index) => new Payment
        {
            Sequence = index + 1,
            Method = payment.Method,
            Installments = payment.Installments,
            Amount = payment.Amount,
        })],
        TotalAmount = sent.Items.Sum(item => (item.Quantity * item.UnitPrice) + item.Freight),
        CreatedAt = Start,
        UpdatedAt = Start,
        Version = 1,
    };

    private static string TraceParent(Random random) =>
        string.Create(CultureInfo.InvariantCulture, $"00-{random.NextInt64():x16}{random.NextInt64():x16}-{random.NextInt64():x16}-01");
}

/// <summary>One change of an item, with both images as DynamoDB has them.</summary>
internal sealed record ItemChange(
    string OrderId,
    string EventName,
    long Sequence,
    DateTimeOffset At,
    Dictionary<string, AttributeValue>? NewImage,
    Dictionary<string, AttributeValue>? OldImage)
{
    private const string StreamArn = "arn:aws:dynamodb:us-east-1:000000000000:table/Orders/stream/2026-01-01T00:00:00.000";

    /// <summary>A record of a DynamoDBEvent, member for member as Lambda's developer guide shows it.</summary>
    public void Write(Utf8JsonWriter writer)
    {
        writer.WriteStartObject();
        writer.WriteString("eventID", string.Create(CultureInfo.InvariantCulture, $"{Sequence:x32}"));
        writer.WriteString("eventName", EventName);
        writer.WriteString("eventVersion", "1.1");
        writer.WriteString("eventSource", "aws:dynamodb");
        writer.WriteString("awsRegion", "us-east-1");
        writer.WriteStartObject("dynamodb");
        writer.WriteNumber("ApproximateCreationDateTime", At.ToUnixTimeSeconds());
        writer.WriteStartObject("Keys");
        Write(writer, "order_id", new AttributeValue(OrderId));
        writer.WriteEndObject();
        WriteImage(writer, "NewImage", NewImage);
        WriteImage(writer, "OldImage", OldImage);
        writer.WriteString("SequenceNumber", string.Create(CultureInfo.InvariantCulture, $"{Sequence:D21}"));
        writer.WriteNumber("SizeBytes", 1000);
        writer.WriteString("StreamViewType", "NEW_AND_OLD_IMAGES");
        writer.WriteEndObject();
        writer.WriteString("eventSourceARN", StreamArn);
        writer.WriteEndObject();
    }

    private static void WriteImage(Utf8JsonWriter writer, string name, Dictionary<string, AttributeValue>? image)
    {
        if (image is not null)
        {
            writer.WriteStartObject(name);
            foreach (var (attribute, value) in image)
            {
                Write(writer, attribute, value);
            }

            writer.WriteEndObject();
        }
    }

    private static void Write(Utf8JsonWriter writer, string name, AttributeValue value)
    {
        writer.WritePropertyName(name);
        Write(writer, value);
    }

    /// <summary>Of the types that an order's item has.</summary>
    private static void Write(Utf8JsonWriter writer, AttributeValue value)
    {
        writer.WriteStartObject();
        if (value.S is not null)
        {
            writer.WriteString("S", value.S);
        }
        else if (value.N is not null)
        {
            writer.WriteString("N", value.N);
        }
        else if (value.IsLSet)
        {
            writer.WriteStartArray("L");
            foreach (var element in value.L)
            {
                Write(writer, element);
            }

            writer.WriteEndArray();
        }
        else if (value.IsMSet)
        {
            writer.WriteStartObject("M");
            foreach (var (member, below) in value.M)
            {
                Write(writer, member, below);
            }

            writer.WriteEndObject();
        }
        else
        {
            throw new NotSupportedException("An order's item has texts, numbers, lists and maps.");
        }

        writer.WriteEndObject();
    }
}
