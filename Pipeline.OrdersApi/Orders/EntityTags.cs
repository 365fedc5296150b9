using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.Extensions.Primitives;
using Microsoft.Net.Http.Headers;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// An order's ETag is its version, a strong one: within one life of an order the same version is the same bytes. An id that
/// is used again after a removal begins at version 1, and its tags with it (docs/api.md).
/// </summary>
internal static class EntityTags
{
    public static string Of(long version) => string.Create(CultureInfo.InvariantCulture, $"\"{version}\"");

    /// <returns>Null when the header has another form. Several lines of it are one list.</returns>
    public static IReadOnlyList<EntityTagHeaderValue>? Parse(StringValues header, Regex form)
    {
        var list = string.Join(", ", header.OfType<string>());
        return form.IsMatch(list) && EntityTagHeaderValue.TryParseStrictList([list], out var tags) ? [.. tags] : null;
    }
}

/// <summary>
/// The If-None-Match header of RFC 9110, section 13.1.2: who has one of these versions needs no other copy of it. Tags
/// are compared weakly, as that section says, so a proxy may have weakened ours.
/// </summary>
internal static class IfNoneMatch
{
    public static bool TryRead(HttpRequest request, out Func<long, bool> isKnown, [NotNullWhen(false)] out ProblemHttpResult? problem)
    {
        var header = request.Headers.IfNoneMatch;
        var tags = header.Count == 0 ? [] : EntityTags.Parse(header, Form);
        isKnown = version => tags!.Any(tag => tag.Equals(EntityTagHeaderValue.Any) || tag.Tag == EntityTags.Of(version));
        problem = tags is not null ? null : Problems.Invalid(new InvalidInput($"must be {OrderSchemas.IfNoneMatch.Description}", Header: "If-None-Match"));
        return tags is not null;
    }

    private static readonly Regex Form = OrderSchemas.PatternOf(OrderSchemas.IfNoneMatch);
}

/// <summary>
/// The If-Match header of RFC 9110, section 13.1.1: any version of an existing order (<c>*</c>), or one of those
/// listed. A weak tag, or one that this API never gave out, is legal and matches nothing.
/// </summary>
internal sealed record IfMatch(bool Any, IReadOnlyList<long> Versions)
{
    // Twenty tags at most: IN takes up to 100 operands (DynamoDB's limits), and nobody holds that many versions of an order.
    private static readonly Regex Form = OrderSchemas.PatternOf(OrderSchemas.IfMatch);

    public bool Matches(long version) => Any || Versions.Contains(version);

    public static bool TryRead(HttpRequest request, [NotNullWhen(true)] out IfMatch? ifMatch, [NotNullWhen(false)] out ProblemHttpResult? problem)
    {
        var header = request.Headers.IfMatch;
        ifMatch = header.Count > 0 ? Parse(header) : null;
        problem = ifMatch is not null ? null
            : header.Count == 0 ? Problems.PreconditionRequired()
            : Problems.Invalid(new InvalidInput($"must be {OrderSchemas.IfMatch.Description}", Header: "If-Match"));
        return ifMatch is not null;
    }

    private static IfMatch? Parse(StringValues header)
    {
        if (EntityTags.Parse(header, Form) is not { } tags)
        {
            return null;
        }

        var any = tags.Contains(EntityTagHeaderValue.Any);
        return new IfMatch(any, any ? [] : [.. tags.Select(Version).OfType<long>().Distinct()]);
    }

    private static long? Version(EntityTagHeaderValue tag) =>
        !tag.IsWeak
        && long.TryParse(tag.Tag.AsSpan().Trim('"'), NumberStyles.None, CultureInfo.InvariantCulture, out var version)
        && EntityTags.Of(version) == tag.Tag
            ? version
            : null;
}
