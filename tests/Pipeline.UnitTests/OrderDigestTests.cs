using System.Globalization;
using CsCheck;
using Pipeline.Core;

namespace Pipeline.UnitTests;

public class OrderDigestTests
{
    private static readonly Change Order = Changes.Change(5) with
    {
        TraceParent = "00-a",
        MerchantId = "merçado",
        CustomerId = "",
        CreatedAt = DateTimeOffset.UnixEpoch.AddTicks(-10),
    };

    [Fact]
    public void The_hash_is_that_of_the_written_down_encoding()
    {
        // By hand: printf with this text, and md5sum.
        var document = Md5("""{"order_id":"o-1","version":5}""");
        Assert.Equal(
            Md5($"3:o-11:54:00-a8:merçado0:8:approved3:BRL5:10.5026:1969-12-31 23:59:59.99999926:2026-11-24 08:00:05.12300032:{document}"),
            OrderDigest.HashOf(Order).ToString("x32", CultureInfo.InvariantCulture));
        Assert.Equal("ab8e", OrderDigest.BucketName(OrderDigest.BucketOf("o-1")));
    }

    [Fact]
    public void Every_part_of_the_state_counts_and_what_only_the_stream_knows_does_not()
    {
        Change[] others =
        [
            Order with { OrderId = "o-2" }, Order with { Version = 6 }, Order with { TraceParent = null }, Order with { MerchantId = "mercado" },
            Order with { CustomerId = null }, Order with { Status = null }, Order with { Currency = "USD" }, Order with { TotalAmount = 10.51m },
            Order with { CreatedAt = DateTimeOffset.UnixEpoch }, Order with { UpdatedAt = null }, Order with { Document = "{}" },
            // A value that moves from one field to the next is another order.
            Order with { TraceParent = null, MerchantId = "00-a" },
        ];
        Assert.Equal(others.Length + 1, others.Append(Order).Select(OrderDigest.HashOf).Distinct().Count());

        Assert.Equal(OrderDigest.HashOf(Order), OrderDigest.HashOf(Order with
        {
            SequenceNumber = SequenceNumber.Zero,
            EventId = "x",
            Operation = Operation.Snapshot,
            ChangedAt = default,
            TotalAmount = 10.5m,
        }));
    }

    [Fact]
    public void The_order_of_addition_does_not_matter_and_equal_differences_do_not_cancel_out() =>
        Gen.ULong.Array[2, 20].Sample(values =>
        {
            var hashes = values.Select(value => (UInt128)value * UInt128.MaxValue / 3).ToList();
            var sum = hashes.Aggregate(default(DigestSum), (digest, hash) => digest.Add(hash));
            Assert.Equal(sum, Enumerable.Reverse(hashes).Aggregate(default(DigestSum), (digest, hash) => digest.Add(hash)));
            Assert.Equal(
                sum + sum,
                hashes.Concat(hashes).Aggregate(default(DigestSum), (digest, hash) => digest.Add(hash)));

            // With XOR a row that is there twice and one that is there four times would look the same.
            Assert.NotEqual(sum + sum, sum + sum + sum + sum);
        }, iter: 200);

    private static string Md5(string text) =>
#pragma warning disable CA5351 // What is tested.
        Convert.ToHexStringLower(System.Security.Cryptography.MD5.HashData(System.Text.Encoding.UTF8.GetBytes(text)));
#pragma warning restore CA5351
}
