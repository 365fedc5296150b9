using System.Text.Json;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>
/// The password of the loader's user, from Secrets Manager. It is asked for whenever a connection is opened and kept
/// nowhere here.
/// </summary>
/// <param name="secrets">The extension.</param>
/// <param name="secretArn">The secret, a JSON object with a <c>password</c>.</param>
public sealed class WarehousePassword(SecretsExtension secrets, string secretArn)
{
    /// <exception cref="IOException">The extension does not give it; the message says why and holds nothing of a secret.</exception>
    public async ValueTask<string> GetAsync(CancellationToken cancellationToken)
    {
        var secret = await secrets.GetAsync(secretArn, cancellationToken);
        try
        {
            using var content = JsonDocument.Parse(secret);
            return content.RootElement.GetProperty("password").GetString() is { Length: > 0 } password
                ? password
                : throw new IOException($"The secret {secretArn} has an empty password.");
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            // The messages of JSON errors quote what they read.
            throw new IOException($"The secret {secretArn} is not a JSON object with a password.");
        }
    }
}
