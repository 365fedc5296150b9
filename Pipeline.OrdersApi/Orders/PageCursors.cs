using System.Buffers.Text;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;
using Amazon.DynamoDBv2.Model;
using Microsoft.Extensions.Options;

namespace Pipeline.OrdersApi.Orders;

/// <summary>One list of orders: a partition of an index.</summary>
/// <param name="Index">The index's name.</param>
/// <param name="Attribute">Its partition key.</param>
/// <param name="Value">The partition: begins with the merchant.</param>
internal sealed record OrderList(string Index, string Attribute, string Value);

/// <summary>
/// Where a page of an <see cref="OrderList"/> ended: the sort key and the id of its last order. It is a position, not a
/// count, so orders that arrive or go meanwhile shift nothing.
/// </summary>
internal sealed record PagePosition(string CreatedAt, string OrderId)
{
    public static PagePosition Of(Dictionary<string, AttributeValue> key) => new(key["created_at"].S, key["order_id"].S);

    public Dictionary<string, AttributeValue> ToKey(OrderList list) => new()
    {
        [list.Attribute] = new(list.Value),
        ["created_at"] = new(CreatedAt),
        ["order_id"] = new(OrderId),
    };
}

/// <summary>
/// Positions as text for clients, signed together with the list that they are of: nobody can make one up, change one, or
/// use it for another list. HMAC-SHA256, then the position, in base64url.
/// </summary>
internal sealed class PageCursors(IOptions<OrdersTableOptions> options)
{
    public const string KeyHint = "set it to at least 32 random bytes in Base64 (openssl rand -base64 32), the same for every process of the API.";

    private const int KeyBytesMin = 32;
    private const int MaxLength = 256;

    // Neither an instant nor an id has one.
    private const char Separator = '\n';

    private readonly byte[] _key = options.Value.CursorKey is { } key ? Convert.FromBase64String(key) : RandomNumberGenerator.GetBytes(KeyBytesMin);

    public static bool IsKey(string text)
    {
        Span<byte> bytes = stackalloc byte[1024];
        return Convert.TryFromBase64String(text, bytes, out var length) && length >= KeyBytesMin;
    }

    public string Write(OrderList list, PagePosition position)
    {
        var text = Encoding.UTF8.GetBytes($"{position.CreatedAt}{Separator}{position.OrderId}");
        return Base64Url.EncodeToString([.. Sign(list, text), .. text]);
    }

    /// <summary>Accepts what <see cref="Write"/> gave for this list, to the byte, and nothing else.</summary>
    public bool TryRead(string text, OrderList list, [NotNullWhen(true)] out PagePosition? position)
    {
        position = null;
        if (text.Length > MaxLength || !Base64Url.IsValid(text))
        {
            return false;
        }

        var bytes = Base64Url.DecodeFromChars(text);
        if (bytes.Length < HMACSHA256.HashSizeInBytes
            || !CryptographicOperations.FixedTimeEquals(Sign(list, bytes.AsSpan(HMACSHA256.HashSizeInBytes)), bytes.AsSpan(0, HMACSHA256.HashSizeInBytes)))
        {
            return false;
        }

        // What is signed has this form. That the text is the one that was given out: Base64 has several for some bytes.
        var parts = Encoding.UTF8.GetString(bytes.AsSpan(HMACSHA256.HashSizeInBytes)).Split(Separator);
        position = new PagePosition(parts[0], parts[1]);
        return Base64Url.EncodeToString(bytes) == text;
    }

    private byte[] Sign(OrderList list, ReadOnlySpan<byte> position) =>
        HMACSHA256.HashData(_key, (byte[])[.. Encoding.UTF8.GetBytes($"page{Separator}{list.Index}{Separator}{list.Value}{Separator}"), .. position]);
}
