using System.Buffers.Text;
using System.Collections.Concurrent;
using System.CommandLine;
using System.Text.Json;
using Pipeline.NativeServers;

namespace Pipeline.Ops;

/// <summary>
/// The tokens that the Orders API is shown: one that was given, for the one merchant in it, or those of the local issuer
/// for every merchant.
/// </summary>
internal sealed class ApiTokens
{
    public const string Setting = "ORDERS_API_TOKEN";

    // Made anew after half of it, so that no request comes with one that has just ended.
    private static readonly TimeSpan ValidFor = TimeSpan.FromHours(1);

    private readonly ConcurrentDictionary<string, (string Token, DateTimeOffset MadeAt)> _tokens = new();
    private readonly LocalIssuer? _issuer;
    private readonly string? _given;

    public ApiTokens(LocalIssuer issuer) => _issuer = issuer;

    private ApiTokens(string given, string merchant) => (_given, Merchant) = (given, merchant);

    /// <summary>The only merchant that there is a token for; null: any.</summary>
    public string? Merchant { get; }

    public static Option<string?> Option() => new("--token")
    {
        Description = $"A token of the Orders API with the scopes orders:read and orders:write. [default: {Setting}, else one of the local AppHost's issuer]",
        HelpName = "JWT",
    };

    /// <exception cref="OperatorException">There is none, or it is none.</exception>
    public static ApiTokens From(string? option)
    {
        if ((option ?? Options.Setting(Setting)) is { } token)
        {
            return new ApiTokens(token, MerchantOf(token) ?? throw new OperatorException("The token is no JSON Web Token with a merchant_id."));
        }

        return new ApiTokens(LocalDefaults.Issuer() ?? throw new OperatorException(
            $"There is no token for the Orders API: start the AppHost, which makes a key for local ones, or give one (--token, {Setting})."));
    }

    public string Of(string merchant)
    {
        if (_given is not null)
        {
            return _given;
        }

        var now = DateTimeOffset.UtcNow;
        return _tokens.AddOrUpdate(merchant, Make, (_, made) => now - made.MadeAt < ValidFor / 2 ? made : Make(merchant)).Token;

        (string, DateTimeOffset) Make(string owner) => (_issuer!.Token(owner, ValidFor, LocalIssuer.AllScopes), now);
    }

    /// <summary>Read, not believed: the API checks the signature.</summary>
    private static string? MerchantOf(string token)
    {
        try
        {
            using var claims = JsonDocument.Parse(Base64Url.DecodeFromChars(token.Split('.') is [_, var part, _] ? part : ""));
            return claims.RootElement.GetProperty("merchant_id").GetString();
        }
        catch (Exception error) when (error is FormatException or JsonException or KeyNotFoundException or InvalidOperationException)
        {
            return null;
        }
    }
}

/// <summary><c>token</c>: one for curl.</summary>
internal static class TokenCommand
{
    public static Command Create()
    {
        var merchant = new Option<string>("--merchant") { Description = "Whose orders the token is good for.", HelpName = "ID", DefaultValueFactory = _ => "m-1" };
        var scope = new Option<string[]>("--scope")
        {
            Description = "What it allows.",
            DefaultValueFactory = _ => LocalIssuer.AllScopes,
            AllowMultipleArgumentsPerToken = true,
        };
        var hours = new Option<int>("--hours") { Description = "How long it is valid (1 to 720).", DefaultValueFactory = _ => 12 };
        hours.MustBeIn(1, 720);
        var command = new Command("token", "Print a token for the local AppHost's Orders API: TOKEN=$(dotnet run --project Pipeline.Ops -- token). Exit code 1 when no AppHost has run here yet.")
        {
            merchant, scope, hours,
        };
        command.SetAction(parsed =>
        {
            if (LocalDefaults.Issuer() is not { } issuer)
            {
                Console.Error.WriteLine("There is no key for local tokens yet: start the AppHost once, it makes one.");
                return 1;
            }

            Console.Out.WriteLine(issuer.Token(parsed.GetValue(merchant)!, TimeSpan.FromHours(parsed.GetValue(hours)), parsed.GetValue(scope)!));
            return 0;
        });
        return command;
    }
}
