using System.Text.Json;

namespace Pipeline.Core;

/// <summary>
/// Secrets Manager by way of the AWS Parameters and Secrets Lambda extension, which keeps a secret for some minutes ("Use
/// Secrets Manager secrets in Lambda functions" in Lambda's developer guide).
/// </summary>
/// <param name="http">Any client.</param>
/// <param name="extension">Where the extension listens, as a rule <c>http://localhost:2773</c>.</param>
/// <param name="sessionToken">AWS_SESSION_TOKEN: the extension answers only who knows it.</param>
public sealed class SecretsExtension(HttpClient http, Uri extension, string sessionToken)
{
    /// <summary>As Lambda's environment says.</summary>
    /// <param name="setting">Gives an environment variable; null for one that is not set.</param>
    /// <param name="needed">The variable that asks for a secret.</param>
    /// <param name="instead">What to do outside of Lambda.</param>
    /// <exception cref="InvalidOperationException">It is not the environment of Lambda.</exception>
    public static SecretsExtension From(Func<string, string?> setting, string needed, string instead)
    {
        var sessionToken = setting("AWS_SESSION_TOKEN");
        if (string.IsNullOrWhiteSpace(sessionToken))
        {
            throw new InvalidOperationException(
                $"{needed} is set, but not AWS_SESSION_TOKEN, which Lambda sets. Outside of Lambda leave {needed} out and {instead}.");
        }

        var port = setting("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT") is { Length: > 0 } text ? text : "2773";

        // It answers from its memory or asks Secrets Manager once; a connection to the warehouse has 15 s in all.
        return new SecretsExtension(new HttpClient { Timeout = TimeSpan.FromSeconds(10) }, new Uri($"http://localhost:{port}"), sessionToken);
    }

    /// <summary>The secret's text.</summary>
    /// <exception cref="IOException">The extension does not give it; the message says why and holds nothing of a secret.</exception>
    public async ValueTask<string> GetAsync(string secretArn, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(extension, $"/secretsmanager/get?secretId={Uri.EscapeDataString(secretArn)}"));
        request.Headers.Add("X-Aws-Parameters-Secrets-Token", sessionToken);
        try
        {
            using var answer = await http.SendAsync(request, cancellationToken);
            if (!answer.IsSuccessStatusCode)
            {
                throw new IOException($"The Secrets extension answers {(int)answer.StatusCode} for {secretArn}. " +
                    "403 and 400 are a right of the function's role that is missing, or an extension that is still starting.");
            }

            using var secret = JsonDocument.Parse(await answer.Content.ReadAsStreamAsync(cancellationToken));
            return secret.RootElement.GetProperty("SecretString").GetString() is { Length: > 0 } text
                ? text
                : throw new IOException($"The secret {secretArn} has no text.");
        }
        catch (Exception e) when (e is HttpRequestException or JsonException or KeyNotFoundException or InvalidOperationException)
        {
            // The messages of JSON errors quote what they read.
            throw new IOException(e is HttpRequestException
                ? $"The Secrets extension does not answer at {extension}: {e.Message}"
                : $"The Secrets extension's answer for {secretArn} is not JSON with a SecretString.");
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new IOException($"The Secrets extension does not answer at {extension} within {http.Timeout.TotalSeconds:0} s.", e);
        }
    }
}
