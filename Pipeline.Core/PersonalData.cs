using System.Buffers;
using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Pipeline.Core;

/// <summary>Which texts are the same person's: what is left of a value before it is hashed.</summary>
public enum Likeness
{
    /// <summary>Without white space around it.</summary>
    Text,

    /// <summary>In lower case, with one blank for all white space between two words.</summary>
    Words,

    /// <summary>In lower case, without white space around it.</summary>
    Address,

    /// <summary>Letters in upper case and digits; dots, dashes and blanks are a matter of taste (111.444.777-35).</summary>
    Identifier,
}

/// <summary>
/// The one list of what is personal data in an order: clear in the table, and nowhere behind it
/// (docs/decisions/0010-personal-data.md).
/// </summary>
public static class PersonalData
{
    /// <summary>Attribute paths; a list on the way is gone through.</summary>
    public static IReadOnlyList<(string Path, Likeness Likeness)> Attributes { get; } =
    [
        ("customer.name", Likeness.Words),
        ("customer.email", Likeness.Address),
        ("customer.document", Likeness.Identifier),
    ];

    /// <summary>The same as a tree, from the item as a whole down to the values.</summary>
    public static PersonalPlace Item { get; } = PersonalPlace.Of("", Attributes);

    /// <summary>The ids of the keys that the personal data of a change's document is protected with.</summary>
    /// <param name="document">See <see cref="Change.Document"/>.</param>
    public static IReadOnlySet<string> KeyIdsIn(string document)
    {
        var ids = new HashSet<string>(StringComparer.Ordinal);
        using var json = JsonDocument.Parse(document, new JsonDocumentOptions { MaxDepth = 256 });
        Collect(json.RootElement, Item, ids);
        return ids;
    }

    private static void Collect(JsonElement element, PersonalPlace place, HashSet<string> ids)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.Array:
                foreach (var one in element.EnumerateArray())
                {
                    Collect(one, place, ids);
                }

                break;
            case JsonValueKind.Object:
                foreach (var member in element.EnumerateObject())
                {
                    if (place.Member(member.Name) is { } below)
                    {
                        Collect(member.Value, below, ids);
                    }
                }

                break;
            case JsonValueKind.String when element.GetString() is { Length: PersonalDataProtector.TextLength } text
                && text.StartsWith(PersonalDataProtector.Scheme, StringComparison.Ordinal):
                ids.Add(text.Substring(PersonalDataProtector.Scheme.Length, PersonalDataProtector.KeyIdLength));
                break;
        }
    }
}

/// <summary>A place in an item: a value that is personal data, or what such values lie in.</summary>
public sealed class PersonalPlace
{
    private readonly Dictionary<string, PersonalPlace> _members;
    private readonly (byte[] Name, PersonalPlace Place)[] _membersInUtf8;

    private PersonalPlace(string path, Likeness likeness, Dictionary<string, PersonalPlace> members)
    {
        Path = path;
        Likeness = likeness;
        _members = members;
        _membersInUtf8 = [.. members.Select(member => (Encoding.UTF8.GetBytes(member.Key), member.Value))];
        Domain = Encoding.UTF8.GetBytes($"{PersonalDataProtector.Rule}\0{path}\0");
    }

    public string Path { get; }
    public Likeness Likeness { get; }

    /// <summary>Whether everything that lies here is personal data; otherwise some of its members are.</summary>
    public bool IsValue => _members.Count == 0;

    /// <summary>Stands before a value when it is hashed, so that the same text in two places gives two hashes.</summary>
    internal ReadOnlyMemory<byte> Domain { get; }

    /// <summary>The place of a member; null when there is nothing personal in it.</summary>
    public PersonalPlace? Member(string name) => _members.GetValueOrDefault(name);

    /// <summary>The same for a name in UTF-8.</summary>
    public PersonalPlace? Member(ReadOnlySpan<byte> name)
    {
        foreach (var (member, place) in _membersInUtf8)
        {
            if (name.SequenceEqual(member))
            {
                return place;
            }
        }

        return null;
    }

    internal static PersonalPlace Of(string path, IEnumerable<(string Path, Likeness Likeness)> below)
    {
        var members = new Dictionary<string, PersonalPlace>(StringComparer.Ordinal);
        var likeness = Likeness.Text;
        foreach (var group in below.GroupBy(one => one.Path.Split('.')[0]))
        {
            if (group.Key.Length == 0)
            {
                likeness = group.Single().Likeness;
                continue;
            }

            var member = path.Length == 0 ? group.Key : $"{path}.{group.Key}";
            members.Add(group.Key, Of(member, group.Select(one => (one.Path[group.Key.Length..].TrimStart('.'), one.Likeness))));
        }

        return new PersonalPlace(path, likeness, members);
    }
}

/// <summary>
/// Personal data → <c>hmac:{key id}:{hash}</c>: HMAC-SHA-256, cut to 128 bits, in base64url. The same value in the same
/// place gives the same text as long as the key is the same, so people can be counted and joined; without the key
/// nobody can try names out on it. May be used from several threads.
/// </summary>
public sealed class PersonalDataProtector : IDisposable
{
    public const string Scheme = "hmac:";
    public const int KeyIdLength = 2 * KeyIdBytes;

    /// <summary>Of every protected text: scheme, key id, a colon, 22 characters of hash; all of it is ASCII.</summary>
    public const int TextLength = 5 + KeyIdLength + 1 + 22;

    /// <summary>Names the rules: what is hashed and how. With any of them this changes.</summary>
    internal const string Rule = "order-pipeline/personal-data/1";

    /// <summary>In characters; random ones, so it is far more than anybody can try.</summary>
    private const int KeyLengthMin = 32;

    /// <summary>To tell keys apart of which there are a few; says nothing about a key of 128 bits and more.</summary>
    private const int KeyIdBytes = 4;

    /// <summary>Two of 2^40 values have the same hash with a probability of 2^-49.</summary>
    private const int HashBytes = 16;

    private const int OnStackMax = 256;

    private readonly byte[] _key;
    private readonly byte[] _prefix;

    /// <summary>Reused, because making one costs more than a hash; who finds it taken makes another.</summary>
    private IncrementalHash? _idle;

    /// <param name="key">A secret text of at least 32 characters.</param>
    /// <exception cref="ArgumentException">It is too short; the message does not hold it.</exception>
    public PersonalDataProtector(string key)
    {
        key = key.Trim();
        if (key.Length < KeyLengthMin)
        {
            throw new ArgumentException(
                $"The key for personal data has {key.Length} characters and needs {KeyLengthMin} or more, random ones: for example those of `openssl rand -base64 32`.",
                nameof(key));
        }

        _key = Encoding.UTF8.GetBytes(key);
        KeyId = Convert.ToHexStringLower(HMACSHA256.HashData(_key, Encoding.UTF8.GetBytes($"{Rule}\0key id")).AsSpan(0, KeyIdBytes));
        _prefix = Encoding.ASCII.GetBytes($"{Scheme}{KeyId}:");
    }

    /// <summary>Follows from the key, so one id never stands for two keys. Eight hexadecimal digits; no secret.</summary>
    public string KeyId { get; }

    /// <summary>The protected text of a value; empty for one that is nothing but white space, which is nobody's.</summary>
    public string Protect(PersonalPlace place, string value)
    {
        Span<byte> text = stackalloc byte[TextLength];
        return Encoding.ASCII.GetString(text[..Protect(place, value, text)]);
    }

    /// <summary>Writes the protected text of a value.</summary>
    /// <param name="place">Where the value lies.</param>
    /// <param name="value">As it was written.</param>
    /// <param name="text">Has room for <see cref="TextLength"/> bytes.</param>
    /// <returns>How many bytes were written: <see cref="TextLength"/>, or 0 for a value that is nothing but white space.</returns>
    public int Protect(PersonalPlace place, ReadOnlySpan<char> value, Span<byte> text)
    {
        value = value.Trim();
        if (value.IsEmpty)
        {
            return 0;
        }

        char[]? rentedText = null;
        byte[]? rentedBytes = null;
        Span<char> normal = value.Length <= OnStackMax ? stackalloc char[OnStackMax] : rentedText = ArrayPool<char>.Shared.Rent(value.Length);
        normal = normal[..Normalize(value, place.Likeness, normal)];
        var bytesMax = Encoding.UTF8.GetMaxByteCount(normal.Length);
        Span<byte> bytes = bytesMax <= 3 * (OnStackMax + 1) ? stackalloc byte[3 * (OnStackMax + 1)] : rentedBytes = ArrayPool<byte>.Shared.Rent(bytesMax);
        bytes = bytes[..Encoding.UTF8.GetBytes(normal, bytes)];

        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        var hmac = Interlocked.Exchange(ref _idle, null) ?? IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, _key);
        hmac.AppendData(place.Domain.Span);
        hmac.AppendData(bytes);
        hmac.GetHashAndReset(hash);
        if (Interlocked.CompareExchange(ref _idle, hmac, null) is not null)
        {
            hmac.Dispose();
        }

        if (rentedText is not null)
        {
            ArrayPool<char>.Shared.Return(rentedText, clearArray: true);
        }

        if (rentedBytes is not null)
        {
            ArrayPool<byte>.Shared.Return(rentedBytes, clearArray: true);
        }

        _prefix.CopyTo(text);
        return _prefix.Length + Base64Url.EncodeToUtf8(hash[..HashBytes], text[_prefix.Length..TextLength]);
    }

    public void Dispose() => _idle?.Dispose();

    /// <param name="value">Not empty, and without white space around it.</param>
    /// <param name="likeness">What is left of it.</param>
    /// <param name="normal">Has room for as many characters as the value has.</param>
    private static int Normalize(ReadOnlySpan<char> value, Likeness likeness, Span<char> normal)
    {
        var length = 0;
        switch (likeness)
        {
            case Likeness.Words:
                foreach (var c in value)
                {
                    if (!char.IsWhiteSpace(c))
                    {
                        normal[length++] = char.ToLowerInvariant(c);
                    }
                    else if (normal[length - 1] != ' ')
                    {
                        normal[length++] = ' ';
                    }
                }

                return length;
            case Likeness.Address:
                return value.ToLowerInvariant(normal);
            case Likeness.Identifier:
                foreach (var c in value)
                {
                    if (char.IsLetterOrDigit(c))
                    {
                        normal[length++] = char.ToUpperInvariant(c);
                    }
                }

                // "./-" tells nobody apart, but is not nothing.
                if (length > 0)
                {
                    return length;
                }

                break;
        }

        value.CopyTo(normal);
        return value.Length;
    }
}
