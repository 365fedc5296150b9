using System.Text.Encodings.Web;
using System.Text.Json;
using CsCheck;
using Pipeline.Core;
using Pipeline.Ops.Reconcile;

namespace Pipeline.Ops.Tests;

/// <summary>The rules of the digest stand twice, in C# and in SQL: the two must say the same of whatever an order may be.</summary>
public class DigestTests(OpsServers servers)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    private static readonly JsonSerializerOptions Readable = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static readonly Gen<string> Text =
        Gen.String[Gen.OneOf(Gen.Char['\u0001', '\u00ff'], Gen.Char['\u0100', '\ud7ff'], Gen.Char['\ue000', '\uffff']), 0, 20];

    private static readonly Gen<DateTimeOffset> Time = Gen.OneOf(
        Gen.Long[0, DateTimeOffset.MaxValue.UtcTicks / 10].Select(microseconds => new DateTimeOffset(microseconds * 10, TimeSpan.Zero)),
        Gen.Const(DateTimeOffset.MinValue),
        Gen.Const(DateTimeOffset.UnixEpoch.AddTicks(-10)));

    private static readonly Gen<Change> AnyOrder = Gen.Select(
        Gen.Select(Gen.Long[0, 999_999_999_999_999_999], Gen.Null(Text), Gen.Null(Text), Gen.Null(Text), Gen.Null(Text)),
        Gen.Select(Gen.Nullable(Gen.Enum<OrderStatus>()), Gen.Nullable(Gen.Long[-999_999_999_999_999_999, 999_999_999_999_999_999]), Gen.Nullable(Time), Gen.Nullable(Time), Text),
        (texts, rest) => new Change
        {
            OrderId = "",
            Version = texts.Item1,
            SequenceNumber = SequenceNumber.Parse("1"),
            EventId = "e",
            Operation = Operation.Insert,
            ChangedAt = DateTimeOffset.UnixEpoch,
            TraceParent = texts.Item2,
            MerchantId = texts.Item3,
            CustomerId = texts.Item4,
            Currency = texts.Item5,
            Status = rest.Item1,
            TotalAmount = rest.Item2 / 100.00m,
            CreatedAt = rest.Item3,
            UpdatedAt = rest.Item4,
            Document = JsonSerializer.Serialize(new Dictionary<string, string> { ["x"] = rest.Item5 }, Readable),
        });

    [Fact]
    public async Task The_warehouse_hashes_an_order_as_Core_does() =>
        await AnyOrder.Array[500].SampleAsync(async any =>
        {
            await using var world = await servers.CreateWorldAsync();
            var orders = any.Select((order, n) => order with { OrderId = $"order {n} ção \ud83d\uded2", EventId = $"e-{n}" }).ToList();
            var writer = new ChangeWriter(world.Objects, TimeProvider.System);
            await writer.AddAsync(orders, Cancelled);
            await writer.FlushAsync(Cancelled);
            await world.LoadAsync();

            await using var reader = new WarehouseReader(world.Warehouse);
            var rows = await reader.OrdersAsync([.. orders.Select(order => order.OrderId)], Cancelled);
            Assert.All(orders, order =>
            {
                var row = Assert.Single(rows[order.OrderId]);
                Assert.Equal(OrderDigest.Fields(order), row.Fields);
                Assert.Equal(OrderDigest.HashOf(order), row.State.Hash);
            });

            var expected = new DigestSum[OrderDigest.Buckets];
            foreach (var order in orders)
            {
                var bucket = OrderDigest.BucketOf(order.OrderId);
                expected[bucket] = expected[bucket].Add(OrderDigest.HashOf(order));
            }

            Assert.Equal(expected, await reader.DigestsAsync(Cancelled));
        }, iter: 1);
}
