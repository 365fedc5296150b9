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
/// of its neighbour. Times are UTC with six decimals, money has two decimals, and the document
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

    /// <summary>The fields of an order's state, in the order of their encoding.</summary>
    public static IReadOnlyList<string> FieldNames { get; } =
    [
        "order_id", "version", "trace_parent", "merchant_id", "customer_id", "status", "currency", "total_amount", "created_at", "updated_at", "document",
    ];

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

    /// <summary>Reads what <see cref="OrderDigestSql.Hash"/> writes.</summary>
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
        Time(change.CreatedAt),
        Time(change.UpdatedAt),
        Convert.ToHexStringLower(Md5(change.Document)),
    ];

    private static string? Time(DateTimeOffset? time) => time?.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss.ffffff", CultureInfo.InvariantCulture);

#pragma warning disable CA5351 // No secret and no adversary: see the remarks.
    private static byte[] Md5(string text) => MD5.HashData(Encoding.UTF8.GetBytes(text));
#pragma warning restore CA5351
}

/// <summary>The rules of <see cref="OrderDigest"/> as expressions over a row of the warehouse's table <c>orders</c>.</summary>
public sealed class OrderDigestSql
{
    /// <summary>The functions and types that both dialects have; a document is json here and text there.</summary>
    /// <param name="document">The document's text.</param>
    /// <param name="half">A number from 15 hexadecimal digits.</param>
    private OrderDigestSql(string document, Func<string, string> half)
    {
        Fields =
        [
            "order_id",
            "CAST(version AS varchar(20))",
            "trace_parent",
            "merchant_id",
            "customer_id",
            "status",
            "currency",
            "CAST(total_amount AS varchar(32))",
            "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
            "to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
            $"md5({document})",
        ];
        Hash = $"md5({string.Join(" || ", Fields.Select(field => $"coalesce({Length(field)} || {field}, '-')"))})";
        Document = document;
        High = half("substring(hash, 1, 15)");
        Low = half("substring(hash, 16, 15)");
    }

    /// <summary>Times and hashes are always as long, and need not be computed twice for it.</summary>
    private static string Length(string field) => field switch
    {
        _ when field.StartsWith("to_char", StringComparison.Ordinal) => "'26:'",
        _ when field.StartsWith("md5", StringComparison.Ordinal) => "'32:'",
        _ => $"CAST(octet_length({field}) AS varchar(10)) || ':'",
    };

    public static OrderDigestSql Postgres { get; } = new("document::text", digits => $"('x' || {digits})::bit(60)::bigint");

    public static OrderDigestSql Redshift { get; } = new("document", digits => $"strtol({digits}, 16)");

    /// <summary>The bucket's name.</summary>
    public static string Bucket => $"substring(md5(order_id), 1, {OrderDigest.BucketDigits})";

    /// <summary>Those of <see cref="OrderDigest.Fields"/>.</summary>
    public IReadOnlyList<string> Fields { get; }

    /// <summary>32 hexadecimal digits.</summary>
    public string Hash { get; }

    /// <summary>The document's text.</summary>
    public string Document { get; }

    /// <summary>The upper half of a column named <c>hash</c>.</summary>
    public string High { get; }

    /// <summary>The lower half of a column named <c>hash</c>.</summary>
    public string Low { get; }
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
