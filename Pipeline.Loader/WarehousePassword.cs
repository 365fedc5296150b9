using System.Text.Json;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>
/// The password of the loader's user, from Secrets Manager. It is asked for whenever a connection is opened and kept
/// nowhere here.
/// </summary>
public sealed class WarehousePassword
{
    private readonly SecretsExtension _secrets;
    private readonly string _secretArn;

    /// <param name="secrets">The extension.</param>
    /// <param name="secretArn">The secret, a JSON object with a <c>password</c>.</param>
    internal WarehousePassword(SecretsExtension secrets, string secretArn) => (_secrets, _secretArn) = (secrets, secretArn);

    /// <param name="http">Any client.</param>
    /// <param name="extension">Where the extension listens, as a rule <c>http://localhost:2773</c>.</param>
    /// <param name="secretArn">The secret, a JSON object with a <c>password</c>.</param>
    /// <param name="sessionToken">AWS_SESSION_TOKEN: the extension answers only who knows it.</param>
    public WarehousePassword(HttpClient http, Uri extension, string secretArn, string sessionToken)
        : this(new SecretsExtension(http, extension, sessionToken), secretArn)
    {
    }

    /// <exception cref="IOException">The extension does not give it; the message says why and holds nothing of a secret.</exception>
    public async ValueTask<string> GetAsync(CancellationToken cancellationToken)
    {
        var secret = await _secrets.GetAsync(_secretArn, cancellationToken);
        try
        {
            using var content = JsonDocument.Parse(secret);
            return content.RootElement.GetProperty("password").GetString() is { Length: > 0 } password
                ? password
                : throw new IOException($"The secret {_secretArn} has an empty password.");
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            // The messages of JSON errors quote what they read.
            throw new IOException($"The secret {_secretArn} is not a JSON object with a password.");
        }
    }
}
