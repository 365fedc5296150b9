using System.Globalization;
using System.Numerics;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Pipeline.OrdersApi.Tests;

/// <summary>
/// Whether a value fits a schema of the published document: JSON Schema 2020-12 for the keywords that occur in it, written
/// against the document's JSON and sharing nothing with the API. A keyword that it does not know is an error.
/// </summary>
internal sealed class JsonSchemaOracle(JsonElement document)
{
    private static readonly HashSet<string> Annotations = ["description", "format", "default", "example", "examples", "title"];

    public bool Fits(JsonElement value, JsonElement schema)
    {
        schema = Resolve(schema);
        return schema.EnumerateObject().All(keyword => keyword.Name switch
        {
            "type" => keyword.Value.ValueKind == JsonValueKind.Array
                ? keyword.Value.EnumerateArray().Any(type => HasType(value, type.GetString()!))
                : HasType(value, keyword.Value.GetString()!),
            "enum" => value.ValueKind == JsonValueKind.Null || (Text(value) is { } chosen && keyword.Value.EnumerateArray().Any(choice => choice.GetString() == chosen)),
            "minLength" => Text(value) is not { } text || text.EnumerateRunes().Count() >= keyword.Value.GetInt32(),
            "maxLength" => Text(value) is not { } text || text.EnumerateRunes().Count() <= keyword.Value.GetInt32(),
            "pattern" => Text(value) is not { } text || Pattern(keyword.Value.GetString()!).IsMatch(text),
            "minimum" => Number(value) is not { } number || Compare(number, Number(keyword.Value)!.Value) >= 0,
            "maximum" => Number(value) is not { } number || Compare(number, Number(keyword.Value)!.Value) <= 0,
            "multipleOf" => Number(value) is not { } number || IsMultiple(number, Number(keyword.Value)!.Value),
            "required" => value.ValueKind != JsonValueKind.Object || keyword.Value.EnumerateArray().All(name => value.TryGetProperty(name.GetString()!, out _)),
            "minProperties" => value.ValueKind != JsonValueKind.Object || value.GetPropertyCount() >= keyword.Value.GetInt32(),
            "properties" => value.ValueKind != JsonValueKind.Object
                || keyword.Value.EnumerateObject().All(property => !value.TryGetProperty(property.Name, out var member) || Fits(member, property.Value)),
            "additionalProperties" => keyword.Value.ValueKind == JsonValueKind.False
                && (value.ValueKind != JsonValueKind.Object || value.EnumerateObject().All(member => schema.GetProperty("properties").TryGetProperty(member.Name, out _))),
            "items" => value.ValueKind != JsonValueKind.Array || value.EnumerateArray().All(entry => Fits(entry, keyword.Value)),
            "minItems" => value.ValueKind != JsonValueKind.Array || value.GetArrayLength() >= keyword.Value.GetInt32(),
            "maxItems" => value.ValueKind != JsonValueKind.Array || value.GetArrayLength() <= keyword.Value.GetInt32(),
            _ when Annotations.Contains(keyword.Name) => true,
            _ => throw new NotSupportedException($"The keyword {keyword.Name} is new to this oracle."),
        });
    }

    public JsonElement Resolve(JsonElement schema) =>
        schema.TryGetProperty("$ref", out var reference)
            ? Resolve(reference.GetString()!.TrimStart('#', '/').Split('/').Aggregate(document, (node, step) => node.GetProperty(step)))
            : schema;

    private static bool HasType(JsonElement value, string type) => type switch
    {
        "object" => value.ValueKind == JsonValueKind.Object,
        "array" => value.ValueKind == JsonValueKind.Array,
        "string" => Text(value) is not null,
        "number" => value.ValueKind == JsonValueKind.Number,
        "integer" => Number(value) is { } number && IsMultiple(number, (1, 0)),
        "boolean" => value.ValueKind is JsonValueKind.True or JsonValueKind.False,
        "null" => value.ValueKind == JsonValueKind.Null,
        _ => throw new NotSupportedException($"The type {type} is new to this oracle."),
    };

    /// <summary>Null when it is no string, or one that is no Unicode (half of a surrogate pair).</summary>
    private static string? Text(JsonElement value)
    {
        try
        {
            return value.ValueKind == JsonValueKind.String ? value.GetString() : null;
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }

    // ECMA 262 reads $ as the very end.
    private static Regex Pattern(string pattern) => new(pattern.Replace("$", @"\z", StringComparison.Ordinal), RegexOptions.CultureInvariant);

    /// <summary>Exactly: digits × 10^exponent.</summary>
    private static (BigInteger Digits, int Exponent)? Number(JsonElement value)
    {
        if (value.ValueKind != JsonValueKind.Number)
        {
            return null;
        }

        var text = value.GetRawText();
        var parts = text.Split('e', 'E');
        var point = parts[0].IndexOf('.', StringComparison.Ordinal);
        var exponent = parts.Length > 1 ? int.Parse(parts[1], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture) : 0;
        return (
            BigInteger.Parse(parts[0].Replace(".", "", StringComparison.Ordinal), CultureInfo.InvariantCulture),
            exponent - (point < 0 ? 0 : parts[0].Length - point - 1));
    }

    private static int Compare((BigInteger Digits, int Exponent) left, (BigInteger Digits, int Exponent) right)
    {
        var (a, b) = Align(left, right);
        return a.CompareTo(b);
    }

    private static bool IsMultiple((BigInteger Digits, int Exponent) number, (BigInteger Digits, int Exponent) of)
    {
        var (a, b) = Align(number, of);
        return (a % b).IsZero;
    }

    private static (BigInteger Left, BigInteger Right) Align((BigInteger Digits, int Exponent) left, (BigInteger Digits, int Exponent) right)
    {
        var exponent = Math.Min(left.Exponent, right.Exponent);
        return (left.Digits * BigInteger.Pow(10, left.Exponent - exponent), right.Digits * BigInteger.Pow(10, right.Exponent - exponent));
    }
}
