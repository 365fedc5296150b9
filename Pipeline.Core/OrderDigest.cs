using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Pipeline.Core;

/// <summary>
/// The canonical encoding of an order's present state, its hash, and the digest of many of them: the one definition
/// by which table and warehouse are compared. Each rule stands here twice, once in C# for the side that reads the
/// table and once in SQL for the warehouse, so that its rows need not travel; tests hold the two together.
/// </summary>
/// <remarks>
/// <para>
/// The encoding is text in UTF-8: the fields of <see cref="Fields"/> one after the other, each as its length in bytes, a
/// colon and its value, or <c>-</c> when it is null, so that null differs from empty and no field can pass for a part
/// of its neighbour. Times are microseconds since 1970 in UTC, money has two decimals, and the document
/// (<see cref="Change.Document"/>) is represented by its MD5 in hexadecimal, which keeps the text short whatever the
/// item's size. What only the stream knows (sequence number, time of the change) is no part of the state.
/// </para>
/// <para>
/// The hash is MD5 because PostgreSQL and Redshift both have it. It finds what went wrong by accident; it is no defence
/// against somebody who builds two documents with the same hash.
/// </para>
/// <para>
/// Digests add, they do not XOR: two equal differences must not cancel out. Of each hash the first 120 bits count, as
/// two numbers of 60 bits, which both dialects can cast to a bigint and sum without loss.
/// </para>
/// </remarks>
public static class OrderDigest
{
    /// <summary>Names these rules in a certificate; changed with any of them.</summary>
    public const string Rule = "order-digest/1";

    /// <summary>
    /// Orders are spread over this many buckets by the hash of their id. A difference costs the rows of its bucket
    /// on both sides: some fifteen with a million orders, some fifteen thousand with a thousand million.
    /// </summary>
    public const int Buckets = 1 << 16;

    /// <summary>Hexadecimal digits of a bucket's name.</summary>
    public const int BucketDigits = 4;

    /// <summary>PostgreSQL: the name of the bucket of a row of <c>orders</c>, four hexadecimal digits.</summary>
    public const string BucketSql = "substr(md5(order_id), 1, 4)";

    /// <summary>The fields of an order's state in the order of their encoding, and each as PostgreSQL writes it.</summary>
    private static readonly (string Name, string Sql)[] FieldsInOrder =
    [
        ("order_id", "order_id"),
        ("version", "version::text"),
        ("trace_parent", "trace_parent"),
        ("merchant_id", "merchant_id"),
        ("customer_id", "customer_id"),
        ("status", "status"),
        ("currency", "currency"),
        ("total_amount", "total_amount::text"),
        ("created_at", "(extract(epoch FROM created_at) * 1000000)::bigint::text"),
        ("updated_at", "(extract(epoch FROM updated_at) * 1000000)::bigint::text"),
        ("document", "md5(document::text)"),
    ];

    public static readonly IReadOnlyList<string> FieldNames = [.. FieldsInOrder.Select(field => field.Name)];

    /// <summary>PostgreSQL: the fields of a row of <c>orders</c> as an array of text, those of <see cref="Fields"/>.</summary>
    public static readonly string FieldsSql = $"ARRAY[{string.Join(", ", FieldsInOrder.Select(field => field.Sql))}]";

    /// <summary>
    /// PostgreSQL: the hash of a row of <c>orders</c>, 32 hexadecimal digits. (Redshift needs a cast of the lengths to
    /// text, and DATEDIFF for the microseconds.)
    /// </summary>
    public static readonly string HashSql =
        $"md5({string.Join(" || ", FieldsInOrder.Select(field => $"coalesce(octet_length({field.Sql}) || ':' || {field.Sql}, '-')"))})";

    /// <summary>PostgreSQL: the two halves of a hash as bigints.</summary>
    public static string HalvesSql(string hash) =>
        $"('x' || substr({hash}, 1, 15))::bit(60)::bigint AS high, ('x' || substr({hash}, 16, 15))::bit(60)::bigint AS low";

    public static int BucketOf(string orderId) => BinaryPrimitives.ReadUInt16BigEndian(Md5(orderId));

    public static string BucketName(int bucket) => bucket.ToString("x4", CultureInfo.InvariantCulture);

    /// <summary>The hash of the order's state that this change leaves behind.</summary>
    public static UInt128 HashOf(Change change)
    {
        var text = new StringBuilder(512);
        foreach (var field in Fields(change))
        {
            if (field is null)
            {
                text.Append('-');
            }
            else
            {
                text.Append(CultureInfo.InvariantCulture, $"{Encoding.UTF8.GetByteCount(field)}:{field}");
            }
        }

        return BinaryPrimitives.ReadUInt128BigEndian(Md5(text.ToString()));
    }

    /// <summary>As <see cref="HashSql"/> writes it.</summary>
    public static string HashText(UInt128 hash) => hash.ToString("x32", CultureInfo.InvariantCulture);

    public static UInt128 ParseHash(string text) => UInt128.Parse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    /// <summary>The state's fields as text, in the order of <see cref="FieldNames"/>; null where there is none.</summary>
    public static IReadOnlyList<string?> Fields(Change change) =>
    [
        change.OrderId,
        change.Version.ToString(CultureInfo.InvariantCulture),
        change.TraceParent,
        change.MerchantId,
        change.CustomerId,
        change.Status is { } status ? OrderStatusText.Of(status) : null,
        change.Currency,
        change.TotalAmount?.ToString("0.00", CultureInfo.InvariantCulture),
        Microseconds(change.CreatedAt),
        Microseconds(change.UpdatedAt),
        Convert.ToHexStringLower(Md5(change.Document)),
    ];

    private static string? Microseconds(DateTimeOffset? time) => time is { } given
        ? ((given.UtcTicks - DateTimeOffset.UnixEpoch.UtcTicks) / TimeSpan.TicksPerMicrosecond).ToString(CultureInfo.InvariantCulture)
        : null;

#pragma warning disable CA5351 // No secret and no adversary: see the remarks.
    private static byte[] Md5(string text) => MD5.HashData(Encoding.UTF8.GetBytes(text));
#pragma warning restore CA5351
}

/// <summary>How many orders there are, and the sums of the two halves of their hashes.</summary>
public readonly record struct DigestSum(long Count, UInt128 High, UInt128 Low)
{
    private const int HalfBits = 60;

    public static DigestSum operator +(DigestSum left, DigestSum right) => new(left.Count + right.Count, left.High + right.High, left.Low + right.Low);

    /// <summary>Takes back what was added; the sums wrap around alike.</summary>
    public static DigestSum operator -(DigestSum left, DigestSum right) => new(left.Count - right.Count, left.High - right.High, left.Low - right.Low);

    public DigestSum Add(UInt128 hash) => new(
        Count + 1,
        High + (hash >> (128 - HalfBits)),
        Low + ((hash >> (128 - (2 * HalfBits))) & ((UInt128.One << HalfBits) - 1)));

    /// <summary>For people and certificates: count, high and low sum.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Count}-{High:x}-{Low:x}");
}
