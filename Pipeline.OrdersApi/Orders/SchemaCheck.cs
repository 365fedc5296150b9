using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.OpenApi;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// Holds a JSON value against a schema and tells every fault at once, each with its JSON pointer. It knows the
/// keywords that <see cref="OrderSchemas"/> uses. Faults name the rule, never the value: they may be logged.
/// </summary>
internal static class SchemaCheck
{
    // A body of 256 KB can be wrong in a hundred thousand places; nobody reads on after the first few dozen.
    private const int MaxFaults = 100;

    private static readonly ConcurrentDictionary<IOpenApiSchema, Regex> Patterns = new();

    public static List<InvalidInput> Faults(JsonElement value, IOpenApiSchema schema)
    {
        var faults = new List<InvalidInput>();
        Check(value, schema, "#", faults);
        return faults;
    }

    private static void Check(JsonElement value, IOpenApiSchema schema, string pointer, List<InvalidInput> faults)
    {
        if (faults.Count >= MaxFaults)
        {
            return;
        }

        var fault = (value.ValueKind, schema.Type!.Value & ~JsonSchemaType.Null) switch
        {
            (JsonValueKind.Null, _) when schema.Type.Value.HasFlag(JsonSchemaType.Null) => null,
            (JsonValueKind.Object, JsonSchemaType.Object) => CheckFields(value, schema, pointer, faults),
            (JsonValueKind.Array, JsonSchemaType.Array) => CheckEntries(value, schema, pointer, faults),
            (JsonValueKind.String, JsonSchemaType.String) => CheckText(value, schema),
            (JsonValueKind.Number, JsonSchemaType.Number or JsonSchemaType.Integer) => CheckNumber(value, schema),
            (var kind, _) => $"must be {schema.Description}, not {Name(kind)}",
        };

        if (fault is not null)
        {
            faults.Add(new InvalidInput(fault, pointer));
        }
    }

    private static string? CheckFields(JsonElement value, IOpenApiSchema schema, string pointer, List<InvalidInput> faults)
    {
        var missing = schema.Required!.Order(StringComparer.Ordinal).ToList();
        foreach (var field in value.EnumerateObject())
        {
            var name = field.Name;
            missing.Remove(name);
            if (schema.Properties!.TryGetValue(name, out var fieldSchema))
            {
                Check(field.Value, fieldSchema, Below(pointer, name), faults);
            }
            else if (faults.Count < MaxFaults)
            {
                faults.Add(new InvalidInput("is not a known field", Below(pointer, name)));
            }
        }

        faults.AddRange(missing.Select(name => new InvalidInput("is required", Below(pointer, name))));
        return null;
    }

    private static string? CheckEntries(JsonElement value, IOpenApiSchema schema, string pointer, List<InvalidInput> faults)
    {
        var count = value.GetArrayLength();
        if (count > schema.MaxItems)
        {
            return string.Create(CultureInfo.InvariantCulture, $"must be {schema.Description}, not {count}");
        }

        foreach (var (index, entry) in value.EnumerateArray().Index())
        {
            Check(entry, schema.Items!, Below(pointer, index.ToString(CultureInfo.InvariantCulture)), faults);
        }

        return null;
    }

    private static string? CheckText(JsonElement value, IOpenApiSchema schema)
    {
        string text;
        try
        {
            text = value.GetString()!;
        }
        catch (InvalidOperationException)
        {
            // Half of a surrogate pair can be escaped in JSON (\ud800) but is no text.
            return "must be valid Unicode";
        }

        // JSON Schema counts characters, not UTF-16 units.
        var length = text.EnumerateRunes().Count();
        if (length < schema.MinLength || length > schema.MaxLength
            || (schema.Pattern is not null && !Patterns.GetOrAdd(schema, OrderSchemas.PatternOf).IsMatch(text)))
        {
            return $"must be {schema.Description}";
        }

        if (schema.Enum is { } choices && !choices.Any(choice => choice.GetValue<string>() == text))
        {
            // A list of currencies would only hide the message.
            return choices.Count <= 10
                ? $"must be {schema.Description}: one of {string.Join(", ", choices.Select(choice => choice.GetValue<string>()))}"
                : $"must be {schema.Description}";
        }

        return null;
    }

    private static string? CheckNumber(JsonElement value, IOpenApiSchema schema)
    {
        var isRight = ExactNumber.TryParseExact(value.GetRawText(), out var number)
            && number >= decimal.Parse(schema.Minimum!, CultureInfo.InvariantCulture)
            && number <= decimal.Parse(schema.Maximum!, CultureInfo.InvariantCulture)
            && (schema.MultipleOf is not { } step || number % step == 0)
            && (schema.Type != JsonSchemaType.Integer || number % 1 == 0);
        return isRight ? null : $"must be {schema.Description}";
    }

    /// <summary>One step down, as RFC 6901 writes it in a URI fragment.</summary>
    private static string Below(string pointer, string name) =>
        $"{pointer}/{Uri.EscapeDataString(name.Replace("~", "~0", StringComparison.Ordinal).Replace("/", "~1", StringComparison.Ordinal))}";

    private static string Name(JsonValueKind kind) => kind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.Null => "null",
        _ => "a boolean",
    };
}

internal static class ExactNumber
{
    /// <summary>
    /// Reads a JSON number without rounding: false when a decimal cannot hold every digit. The number comes without
    /// trailing zeros (1.10 as 1.1, as DynamoDB keeps it), and zero without a sign.
    /// </summary>
    public static bool TryParseExact(string json, out decimal number)
    {
        var mantissa = json.AsSpan(0, json.AsSpan().IndexOfAny('e', 'E') is >= 0 and var e ? e : json.Length);
        var digits = mantissa.ToString().Replace(".", "", StringComparison.Ordinal).TrimStart('-').Trim('0').Length;
        if (digits == 0)
        {
            number = 0;
            return true;
        }

        // Up to 28 significant digits are exact, unless the exponent moves them beyond a decimal's 28 places,
        // where parsing gives zero or fewer digits.
        if (digits > 28
            || !decimal.TryParse(json, NumberStyles.Float, CultureInfo.InvariantCulture, out number)
            || SignificantDigits(number) != digits)
        {
            number = 0;
            return false;
        }

        number = WithoutTrailingZeros(number);
        return true;
    }

    /// <summary>Dividing by one with 28 zeros leaves the value and takes away its trailing zeros.</summary>
    public static decimal WithoutTrailingZeros(decimal number) => number / 1.0000000000000000000000000000m;

    private static int SignificantDigits(decimal number) =>
        number.ToString(CultureInfo.InvariantCulture).Replace(".", "", StringComparison.Ordinal).TrimStart('-').Trim('0').Length;
}
