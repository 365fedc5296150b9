using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.RegularExpressions;
using Amazon.DynamoDBv2.Model;
using Microsoft.AspNetCore.Http.HttpResults;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header, with Stripe's rules): opaque, the client's
/// own, and one merchant's keys are never another's.
/// </summary>
/// <param name="Merchant">Whose key it is.</param>
/// <param name="Text">As the client sent it.</param>
/// <param name="Part">0 for the request as a whole, n for the n-th order of a batch.</param>
internal readonly record struct IdempotencyKey(string Merchant, string Text, int Part = 0)
{
    public const string Header = "Idempotency-Key";

    private static readonly Regex Form = OrderSchemas.PatternOf(OrderSchemas.IdempotencyKey);

    // A merchant's id has no #, so the first one of the text ends it.
    private string Partition => $"{Merchant}#{Text}";

    /// <summary>Null when the request has none, which is legal.</summary>
    public static bool TryRead(HttpRequest request, out string? text, [NotNullWhen(false)] out ProblemHttpResult? problem)
    {
        var header = request.Headers[Header];
        text = header.Count == 0 ? null : header[0];
        problem = text is null || (header.Count == 1 && text.Length <= OrderSchemas.IdempotencyKey.MaxLength && Form.IsMatch(text))
            ? null
            : Problems.Invalid(new InvalidInput($"must be given once, as {OrderSchemas.IdempotencyKey.Description}", Header: Header));
        return problem is null;
    }

    public Dictionary<string, AttributeValue> ToItem() => new()
    {
        ["idempotency_key"] = new(Partition),
        ["part"] = new() { N = Part.ToString(CultureInfo.InvariantCulture) },
    };
}
