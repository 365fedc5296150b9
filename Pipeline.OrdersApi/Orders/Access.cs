using System.Security.Claims;
using Microsoft.AspNetCore.Authentication.JwtBearer;
using Microsoft.AspNetCore.Authorization;
using Microsoft.IdentityModel.Tokens;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// Who may do what: a signed token (RFC 9068 in spirit) that names scopes and the merchant whose orders the bearer may
/// see and change. Its issuer comes from the standard section <c>Authentication:Schemes:Bearer</c>: Authority and
/// ValidAudiences in production; ValidIssuer, ValidAudiences and SigningKeys locally.
/// </summary>
internal static class Access
{
    public const string Read = "orders:read";
    public const string Write = "orders:write";
    public const string MerchantClaim = "merchant_id";

    private const string Section = "Authentication:Schemes:Bearer";

    /// <summary>How far clocks may be apart. Tokens live for minutes; the usual five would double that.</summary>
    private static readonly TimeSpan ClockSkew = TimeSpan.FromSeconds(30);

    // What an authority signs with, and what only a key that both sides hold does: neither is taken for the other.
    private static readonly string[] Asymmetric =
    [
        SecurityAlgorithms.RsaSha256, SecurityAlgorithms.RsaSha384, SecurityAlgorithms.RsaSha512,
        SecurityAlgorithms.RsaSsaPssSha256, SecurityAlgorithms.RsaSsaPssSha384, SecurityAlgorithms.RsaSsaPssSha512,
        SecurityAlgorithms.EcdsaSha256, SecurityAlgorithms.EcdsaSha384, SecurityAlgorithms.EcdsaSha512,
    ];

    private static readonly string[] Symmetric = [SecurityAlgorithms.HmacSha256];

    public static void AddAccess(this IHostApplicationBuilder builder)
    {
        builder.Services.AddAuthentication(JwtBearerDefaults.AuthenticationScheme).AddJwtBearer();
        builder.Services.AddOptions<JwtBearerOptions>(JwtBearerDefaults.AuthenticationScheme)
            .PostConfigure(Restrict)
            .Validate(
                options => options.Authority is not null || options.TokenValidationParameters.IssuerSigningKeys is { } keys && keys.Any(),
                $"Nobody is configured to issue tokens: set {Setting("Authority")} to the issuer's URL (production), or {Setting("ValidIssuer")} and {Setting("SigningKeys:0:Value")} to a key of its own (locally; the AppHost does).")
            .Validate(
                options => options.TokenValidationParameters.ValidAudiences?.Any() == true,
                $"No audience is configured: set {Setting("ValidAudiences:0")} to the 'aud' of the tokens that are meant for this API.")
            .ValidateOnStart();

        builder.Services.AddAuthorizationBuilder()
            // Whatever does not say otherwise asks who is there; only health does.
            .SetFallbackPolicy(new AuthorizationPolicyBuilder().RequireAuthenticatedUser().Build())
            .AddPolicy(Read, policy => policy.RequireAssertion(context => MayDo(context.User, Read)))
            .AddPolicy(Write, policy => policy.RequireAssertion(context => MayDo(context.User, Write)));
    }

    /// <summary>The merchant in the token; there is one on every route that asks for a scope.</summary>
    public static string Merchant(this HttpContext http) => MerchantOf(http.User)!;

    /// <summary>Null when the user has no token, or one without a merchant.</summary>
    public static string? MerchantOf(ClaimsPrincipal user) =>
        user.FindAll(MerchantClaim).ToList() is [{ Value: var merchant }] && OrderSchemas.IsId(merchant) ? merchant : null;

    private static bool MayDo(ClaimsPrincipal user, string scope) =>
        MerchantOf(user) is not null
        // A list in one string (RFC 8693), or a string each, as `dotnet user-jwts` writes them.
        && user.FindAll("scope").SelectMany(claim => claim.Value.Split(' ')).Contains(scope);

    private static void Restrict(JwtBearerOptions options)
    {
        // The names of the claims as they stand in the token.
        options.MapInboundClaims = false;
        var rules = options.TokenValidationParameters;
        // The configuration's reader switches both off where it finds nothing to hold a token against.
        rules.ValidateIssuer = true;
        rules.ValidateAudience = true;
        rules.RequireExpirationTime = true;
        rules.RequireSignedTokens = true;
        rules.ClockSkew = ClockSkew;
        // The configuration's reader makes them anew whenever they are asked for, and with them all that is kept per key.
        rules.IssuerSigningKeys = rules.IssuerSigningKeys?.ToList();
        rules.ValidAlgorithms = options.Authority is null ? Symmetric : Asymmetric;
        options.Events = new JwtBearerEvents
        {
            OnForbidden = context =>
            {
                // RFC 6750, section 3.1: which scope would have done.
                var scope = context.HttpContext.GetEndpoint()?.Metadata.GetMetadata<IAuthorizeData>()?.Policy;
                context.Response.Headers.WWWAuthenticate = $"Bearer error=\"insufficient_scope\", scope=\"{scope}\"";
                return Task.CompletedTask;
            },
        };
    }

    private static string Setting(string name) => $"{Section}:{name}".Replace(":", "__", StringComparison.Ordinal);
}
