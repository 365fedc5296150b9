using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text.Json;

namespace Pipeline.NativeServers;

/// <summary>
/// Issues the tokens of the Orders API on this machine, in place of an identity provider: JSON Web Tokens signed with
/// HMAC-SHA256 and a key that lies beside the local servers' data.
/// </summary>
public sealed class LocalIssuer(byte[] key)
{
    public const string Name = "order-pipeline-local";
    public const string Audience = "orders-api";

    /// <summary>Both scopes of the API.</summary>
    public static readonly string[] AllScopes = ["orders:read", "orders:write"];

    private const string KeyFile = "local-issuer.key";
    private const string Section = "Authentication__Schemes__Bearer";

    /// <summary>The environment variable that holds the key, in Base64.</summary>
    public const string KeySetting = $"{Section}__SigningKeys__0__Value";

    /// <summary>What the API is told about its issuer.</summary>
    public IReadOnlyDictionary<string, string> ApiSettings => new Dictionary<string, string>
    {
        [$"{Section}__ValidIssuer"] = Name,
        [$"{Section}__ValidAudiences__0"] = Audience,
        [$"{Section}__SigningKeys__0__Issuer"] = Name,
        [KeySetting] = Convert.ToBase64String(key),
    };

    /// <summary>The issuer whose key is in this folder; made at the first call.</summary>
    public static LocalIssuer In(string folder) => new(LocalKey.In(folder, KeyFile));

    /// <summary>Null where no key was made yet.</summary>
    public static LocalIssuer? Find(string folder) => LocalKey.Find(folder, KeyFile) is { } key ? new LocalIssuer(key) : null;

    /// <summary>A token that lets its bearer do what the scopes say with one merchant's orders.</summary>
    public string Token(string merchant, TimeSpan validFor, params string[] scopes)
    {
        var now = DateTimeOffset.UtcNow;
        return Sign(new Dictionary<string, object>
        {
            ["iss"] = Name,
            ["aud"] = Audience,
            ["iat"] = now.ToUnixTimeSeconds(),
            ["exp"] = (now + validFor).ToUnixTimeSeconds(),
            ["merchant_id"] = merchant,
            ["scope"] = string.Join(' ', scopes),
        });
    }

    /// <summary>A token with any claims, for those who test what is refused.</summary>
    public string Sign(IReadOnlyDictionary<string, object> claims)
    {
        var signed = $"{Part(new Dictionary<string, object> { ["alg"] = "HS256", ["typ"] = "JWT" })}.{Part(claims)}";
        return $"{signed}.{Base64Url.EncodeToString(HMACSHA256.HashData(key, System.Text.Encoding.ASCII.GetBytes(signed)))}";
    }

    private static string Part(IReadOnlyDictionary<string, object> members) =>
        Base64Url.EncodeToString(JsonSerializer.SerializeToUtf8Bytes(members));
}
