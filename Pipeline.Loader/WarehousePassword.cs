using System.Text.Json;

namespace Pipeline.Loader;

/// <summary>
/// The password of the loader's user, from Secrets Manager by way of the AWS Parameters and Secrets Lambda extension, which
/// keeps it for some minutes ("Use Secrets Manager secrets in Lambda functions" in Lambda's developer guide). It is asked
/// for whenever a connection is opened and kept nowhere here.
/// </summary>
/// <param name="http">Any client.</param>
/// <param name="extension">Where the extension listens, as a rule <c>http://localhost:2773</c>.</param>
/// <param name="secretArn">The secret, a JSON object with a <c>password</c>.</param>
/// <param name="sessionToken">AWS_SESSION_TOKEN: the extension answers only who knows it.</param>
public sealed class WarehousePassword(HttpClient http, Uri extension, string secretArn, string sessionToken)
{
    /// <exception cref="IOException">The extension does not give it; the message says why and holds nothing of a secret.</exception>
    public async ValueTask<string> GetAsync(CancellationToken cancellationToken)
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
            using var content = JsonDocument.Parse(secret.RootElement.GetProperty("SecretString").GetString()!);
            return content.RootElement.GetProperty("password").GetString() is { Length: > 0 } password
                ? password
                : throw new IOException($"The secret {secretArn} has an empty password.");
        }
        catch (Exception e) when (e is HttpRequestException or JsonException or KeyNotFoundException or InvalidOperationException or ArgumentNullException)
        {
            // The messages of JSON errors quote what they read.
            throw new IOException(e is HttpRequestException
                ? $"The Secrets extension does not answer at {extension}: {e.Message}"
                : $"The secret {secretArn} is not a JSON object with a password.");
        }
    }
}
