using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.Extensions.Primitives;
using Microsoft.Net.Http.Headers;

namespace Pipeline.OrdersApi.Orders;

/// <summary>An order's ETag is its version, a strong one: the same version is the same bytes.</summary>
internal static class EntityTags
{
    public static string Of(long version) => string.Create(CultureInfo.InvariantCulture, $"\"{version}\"");
}

/// <summary>
/// The If-Match header of RFC 9110, section 13.1.1: any version of an existing order (<c>*</c>), or one of those
/// listed. A weak tag, or one that this API never gave out, is legal and matches nothing.
/// </summary>
internal sealed record IfMatch(bool Any, IReadOnlyList<long> Versions)
{
    // IN takes up to 100 operands (DynamoDB's limits); nobody holds that many versions of an order.
    public const int MaxTags = 20;

    public bool Matches(long version) => Any || Versions.Contains(version);

    public static bool TryRead(HttpRequest request, [NotNullWhen(true)] out IfMatch? ifMatch, [NotNullWhen(false)] out ProblemHttpResult? problem)
    {
        var header = request.Headers.IfMatch;
        ifMatch = header.Count > 0 ? Parse(header) : null;
        problem = ifMatch is not null ? null
            : header.Count == 0 ? Problems.PreconditionRequired()
            : Problems.Invalid(new InvalidInput($"must be *, or 1 to {MaxTags} entity tags in double quotes", Header: "If-Match"));
        return ifMatch is not null;
    }

    private static IfMatch? Parse(StringValues header)
    {
        if (!EntityTagHeaderValue.TryParseStrictList([.. header.OfType<string>()], out var tags) || tags.Count is 0 or > MaxTags)
        {
            return null;
        }

        var any = tags.Contains(EntityTagHeaderValue.Any);
        return any && tags.Count > 1 ? null : new IfMatch(any, any ? [] : [.. tags.Select(Version).OfType<long>().Distinct()]);
    }

    private static long? Version(EntityTagHeaderValue tag) =>
        !tag.IsWeak
        && long.TryParse(tag.Tag.AsSpan().Trim('"'), NumberStyles.None, CultureInfo.InvariantCulture, out var version)
        && EntityTags.Of(version) == tag.Tag
            ? version
            : null;
}
