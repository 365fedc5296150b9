using System.Buffers.Text;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Pipeline.NativeServers;

namespace Pipeline.IntegrationTests;

/// <summary>
/// An identity provider as the API meets one in production: it publishes its keys (OpenID Connect Discovery 1.0) and
/// signs tokens with RS256. What it lacks is TLS, so the API has to be told not to ask for it.
/// </summary>
internal sealed class OpenIdProvider : IAsyncDisposable
{
    public const string Audience = "orders";

    private const string KeyId = "key-1";

    private readonly RSA _key = RSA.Create(2048);
    private readonly HttpListener _listener = new();
    private readonly Task _serving;

    public OpenIdProvider()
    {
        Url = $"http://127.0.0.1:{LoopbackPorts.Free()}";
        _listener.Prefixes.Add($"{Url}/");
        _listener.Start();
        _serving = ServeAsync();
    }

    public string Url { get; }

    /// <summary>What the API is told, as environment variables.</summary>
    public Dictionary<string, string> ApiSettings => new()
    {
        ["Authentication__Schemes__Bearer__Authority"] = Url,
        ["Authentication__Schemes__Bearer__ValidAudiences__0"] = Audience,
        ["Authentication__Schemes__Bearer__RequireHttpsMetadata"] = "false",
    };

    /// <summary>The public key as others may know it, to try what must not be taken: that it is a secret.</summary>
    public byte[] PublicKey => _key.ExportSubjectPublicKeyInfo();

    public string Token(string merchant, string? issuer = null)
    {
        var signed = $"{Part(new Dictionary<string, object> { ["alg"] = "RS256", ["typ"] = "JWT", ["kid"] = KeyId })}.{Part(new Dictionary<string, object>
        {
            ["iss"] = issuer ?? Url,
            ["aud"] = Audience,
            ["exp"] = DateTimeOffset.UtcNow.AddHours(1).ToUnixTimeSeconds(),
            ["scope"] = "orders:read orders:write",
            ["merchant_id"] = merchant,
        })}";
        return $"{signed}.{Base64Url.EncodeToString(_key.SignData(Encoding.ASCII.GetBytes(signed), HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1))}";
    }

    public async ValueTask DisposeAsync()
    {
        _listener.Stop();
        await _serving;
        _listener.Close();
        _key.Dispose();
    }

    private static string Part(Dictionary<string, object> members) => Base64Url.EncodeToString(JsonSerializer.SerializeToUtf8Bytes(members));

    private async Task ServeAsync()
    {
        while (true)
        {
            HttpListenerContext request;
            try
            {
                request = await _listener.GetContextAsync();
            }
            catch (Exception error) when (error is HttpListenerException or ObjectDisposedException)
            {
                // Stopped.
                return;
            }

            var published = _key.ExportParameters(includePrivateParameters: false);
            object answer = request.Request.Url!.AbsolutePath == "/.well-known/openid-configuration"
                ? new { issuer = Url, jwks_uri = $"{Url}/keys" }
                : new { keys = new[] { new { kty = "RSA", use = "sig", kid = KeyId, n = Base64Url.EncodeToString(published.Modulus), e = Base64Url.EncodeToString(published.Exponent) } } };
            request.Response.ContentType = "application/json";
            await request.Response.OutputStream.WriteAsync(JsonSerializer.SerializeToUtf8Bytes(answer));
            request.Response.Close();
        }
    }
}
