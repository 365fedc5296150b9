using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Pipeline.Core;

namespace Pipeline.Simulation;

/// <summary>
/// An item of the table with what must become of it. The expectation is written down beside the item when it is made,
/// by code that shares nothing with the decoder.
/// </summary>
internal sealed record Item
{
    public required string OrderId { get; init; }

    /// <summary>As DynamoDB has it: attribute names to values with a type tag, in no particular order.</summary>
    public required string Tagged { get; init; }

    /// <summary>The order's version, also where the item's own attribute is spoiled: the next writer counts on from it.</summary>
    public required long Count { get; init; }
    public required string TraceParent { get; init; }
    public required DateTimeOffset CreatedAt { get; init; }

    /// <summary>What an insert or modify of it decodes to, but for what the stream adds; null: it is undecodable.</summary>
    public required Change? Decoded { get; init; }

    /// <summary>The version that its removal has.</summary>
    public required long RemovedVersion { get; init; }

    /// <summary>In <c>merchant_id</c>; stands for whatever a warehouse does not take.</summary>
    public const string RefusedMark = "refused-by-the-warehouse";

    public const int PoisonKinds = 7;
    private const int LargeText = 70_000;
    private const int SetOneIn = 16;

    public const string PersonalDataKey = "the key of the simulation, for personal data";

    private static readonly string[] Names = ["Ana Souza", "José \\\"Zé\\\" da Conceição", "C:\\\\orders\\\\", "漢字", "tab\\there", ""];
    /// <summary>What becomes of each name, in the same order: computed here by the rules of docs/privacy.md.</summary>
    private static readonly string[] ProtectedNames = [.. new[] { "ana souza", "josé \"zé\" da conceição", "c:\\orders\\", "漢字", "tab here" }.Select(Protected), ""];
    private static readonly string[] Amounts = ["0", "12.5", "99999.99", "1E+2", "0.01", "7"];
    private static readonly decimal[] AmountValues = [0m, 12.5m, 99999.99m, 100m, 0.01m, 7m];

    /// <param name="orderId">Its key.</param>
    /// <param name="count">Its version.</param>
    /// <param name="isVersioned">False: the item has no such attribute.</param>
    /// <param name="createdAt">When its life began.</param>
    /// <param name="now">The writer's clock.</param>
    /// <param name="poison">From 0 to <see cref="PoisonKinds"/> - 1: what is wrong with it; null: nothing.</param>
    /// <param name="isRefused">The warehouse shall not take it.</param>
    /// <param name="isLarge">Close to the limit of an item.</param>
    /// <param name="chance">Chooses the rest.</param>
    public static Item Of(
        string orderId, long count, bool isVersioned, DateTimeOffset createdAt, DateTimeOffset now, int? poison, bool isRefused, bool isLarge, Chance chance)
    {
        var merchant = isRefused ? RefusedMark : $"m-{chance.Below(3)}";
        var status = (OrderStatus)chance.Below(8);
        var amount = chance.Below(Amounts.Length);
        var trace = $"00-{chance.Next():x16}{chance.Next():x16}-{chance.Next():x16}-01";
        var name = chance.Below(Names.Length);

        // Name, tagged value, plain value.
        var attributes = new List<(string Name, string Tagged, string Plain)>
        {
            Text("created_at", Time(createdAt)),
            Text("currency", "BRL"),
            ("customer", $$$$"""{"M":{"state":{"S":"PE"},"name":{"S":"{{{{Names[name]}}}}"},"vip":{"BOOL":true},"none":{"NULL":true}}}""",
                $$"""{"name":"{{ProtectedNames[name]}}","none":null,"state":"PE","vip":true}"""),
            Text("customer_id", $"c-{count % 2}"),
            ("items", """{"L":[{"M":{"quantity":{"N":"2"},"line":{"N":"1"}}},{"S":"é"}]}""", """[{"line":1,"quantity":2},"é"]"""),
            Text("merchant_id", merchant),
            Text("order_id", orderId),
            Text("status", OrderStatusText.Of(status)),
            // A set takes its batch off the function's short way; most batches have none.
            ("tags", !chance.OneIn(SetOneIn) ? """{"L":[{"S":"a"},{"S":"b"}]}""" : chance.OneIn(2) ? """{"SS":["b","a"]}""" : """{"SS":["a","b"]}""", """["a","b"]"""),
            ("total_amount", $$"""{"N":"{{Amounts[amount]}}"}""", Amounts[amount]),
            Text("trace_parent", trace),
            Text("updated_at", Time(now)),
        };
        if (isLarge)
        {
            for (var i = 0; i < 5; i++)
            {
                attributes.Add(Text($"w{i}", new string((char)('a' + i), LargeText)));
            }
        }

        if (isVersioned)
        {
            attributes.Add(("version", $$"""{"N":"{{count}}"}""", count.ToString(CultureInfo.InvariantCulture)));
        }

        var removedVersion = isVersioned ? count : 0;
        switch (poison)
        {
            case 0:
                Replace(Text("total_amount", "a lot"));
                break;
            case 1:
                Replace(Text("status", "lost"));
                break;
            case 2:
                Replace(Text("version", "first"));
                removedVersion = 0;
                break;
            case 3:
                Replace(Text("created_at", "yesterday"));
                break;
            case 4:
                Replace(("zero", """{"M":{"deep":{"S":"a\u0000b"}}}""", ""));
                break;
            case 5:
                Replace(("total_amount", """{"N":"10000000000000000.001"}""", ""));
                break;
            case 6:
                Replace(("merchant_id", """{"N":"7"}""", "7"));
                break;
        }

        attributes.Sort((a, b) => string.CompareOrdinal(a.Name, b.Name));
        var tagged = new StringBuilder("{");
        var rotate = chance.Below(attributes.Count);
        for (var i = 0; i < attributes.Count; i++)
        {
            var (attribute, value, _) = attributes[(i + rotate) % attributes.Count];
            tagged.Append(i == 0 ? "" : ",").Append('"').Append(attribute).Append("\":").Append(value);
        }

        Change? decoded = null;
        if (poison is null)
        {
            var plain = new StringBuilder("{");
            foreach (var (attribute, _, value) in attributes)
            {
                plain.Append(plain.Length == 1 ? "" : ",").Append('"').Append(attribute).Append("\":").Append(value);
            }

            decoded = new Change
            {
                OrderId = orderId,
                Version = removedVersion,
                SequenceNumber = default,
                EventId = "",
                Operation = Core.Operation.Insert,
                ChangedAt = default,
                TraceParent = trace,
                MerchantId = merchant,
                CustomerId = $"c-{count % 2}",
                Status = status,
                Currency = "BRL",
                TotalAmount = AmountValues[amount],
                CreatedAt = Milliseconds(createdAt),
                UpdatedAt = Milliseconds(now),
                Document = plain.Append('}').ToString(),
            };
        }

        return new Item
        {
            OrderId = orderId,
            Tagged = tagged.Append('}').ToString(),
            Count = count,
            TraceParent = trace,
            CreatedAt = createdAt,
            Decoded = decoded,
            RemovedVersion = removedVersion,
        };

        void Replace((string Name, string Tagged, string Plain) attribute)
        {
            attributes.RemoveAll(a => a.Name == attribute.Name);
            attributes.Add(attribute);
        }
    }

    private static (string Name, string Tagged, string Plain) Text(string name, string value) => (name, $$"""{"S":"{{value}}"}""", $"\"{value}\"");

    private static string Protected(string name)
    {
        var key = Encoding.UTF8.GetBytes(PersonalDataKey);
        var keyId = Convert.ToHexStringLower(HMACSHA256.HashData(key, "order-pipeline/personal-data/1\0key id"u8)[..4]);
        var hash = HMACSHA256.HashData(key, Encoding.UTF8.GetBytes($"order-pipeline/personal-data/1\0customer.name\0{name}"))[..16];
        return $"hmac:{keyId}:{Convert.ToBase64String(hash).TrimEnd('=').Replace('+', '-').Replace('/', '_')}";
    }

    private static string Time(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);

    private static DateTimeOffset Milliseconds(DateTimeOffset time) => new(time.UtcTicks - (time.UtcTicks % TimeSpan.TicksPerMillisecond), TimeSpan.Zero);
}
