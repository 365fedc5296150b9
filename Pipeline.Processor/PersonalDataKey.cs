using Pipeline.Core;

namespace Pipeline.Processor;

/// <summary>
/// The key for personal data from Secrets Manager. The extension keeps it for some minutes, and asks for it again then: a
/// new key is in use everywhere soon after it was put there (docs/privacy.md). Only asked for within an invocation,
/// because the extension does not answer before.
/// </summary>
/// <param name="secrets">The extension.</param>
/// <param name="secretArn">The secret: the key and nothing else.</param>
public sealed class PersonalDataKey(SecretsExtension secrets, string secretArn)
{
    private (string Key, PersonalDataProtector Protector)? _known;

    /// <summary>What the environment says: the key itself, or where it lies.</summary>
    /// <param name="setting">Gives an environment variable; null for one that is not set.</param>
    /// <exception cref="InvalidOperationException">Nothing says it; the message names the setting and how to mend it.</exception>
    /// <exception cref="ArgumentException">The key is none.</exception>
    public static Func<CancellationToken, ValueTask<PersonalDataProtector>> From(Func<string, string?> setting)
    {
        if (setting(Names.Settings.PersonalDataSecretArn) is { Length: > 0 } arn)
        {
            return new PersonalDataKey(SecretsExtension.From(setting, Names.Settings.PersonalDataSecretArn, $"put the key into {Names.Settings.PersonalDataKey}"), arn).GetAsync;
        }

        var protector = new PersonalDataProtector(setting(Names.Settings.PersonalDataKey) is { Length: > 0 } key ? key : throw new InvalidOperationException(
            $"The environment variable {Names.Settings.PersonalDataKey} is not set. Set it to the key that personal data is protected with, " +
            "32 or more random characters, for example those of `openssl rand -base64 32`; always the same, or the same person becomes another."));
        return _ => ValueTask.FromResult(protector);
    }

    /// <exception cref="IOException">The extension does not give it; the message says why and holds nothing of a secret.</exception>
    public async ValueTask<PersonalDataProtector> GetAsync(CancellationToken cancellationToken)
    {
        var key = await secrets.GetAsync(secretArn, cancellationToken);
        if (_known is not { } known || known.Key != key)
        {
            try
            {
                _known = known = (key, new PersonalDataProtector(key));
            }
            catch (ArgumentException e)
            {
                throw new IOException($"The secret {secretArn} is no key: {e.Message}");
            }
        }

        return known.Protector;
    }
}
