using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.OpenApi;
using Pipeline.Core;

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

    // A name that nobody knows may be as long as the body; a pointer is to be read.
    private const int MaxNameLength = 100;

    /// <param name="value">What was sent.</param>
    /// <param name="schema">What it must be.</param>
    /// <param name="pointer">Where it stands in the body.</param>
    public static List<InvalidInput> Faults(JsonElement value, IOpenApiSchema schema, string pointer = "#")
    {
        var faults = new List<InvalidInput>();
        Check(value, schema, pointer, faults);
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
                faults.Add(name.Length <= MaxNameLength
                    ? new InvalidInput("is not a known field", Below(pointer, name))
                    : new InvalidInput($"has a field that is not known, with a name of {name.Length} characters", pointer));
            }
        }

        if (value.GetPropertyCount() < schema.MinProperties)
        {
            return $"must be {schema.Description}";
        }

        faults.AddRange(missing.Select(name => new InvalidInput("is required", Below(pointer, name))));
        return null;
    }

    private static string? CheckEntries(JsonElement value, IOpenApiSchema schema, string pointer, List<InvalidInput> faults)
    {
        var count = value.GetArrayLength();
        if (count > schema.MaxItems || count < schema.MinItems)
        {
            return string.Create(CultureInfo.InvariantCulture, $"must be {schema.Description}, not {count}");
        }

        foreach (var (index, entry) in schema.Items is null ? [] : value.EnumerateArray().Index())
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
        // Money has two decimals and everything else none: the text of the number is held against that, exactly.
        var (decimals, unit) = schema.Type == JsonSchemaType.Integer ? (0, 1m) : (OrderSchemas.MoneyDecimals, 0.01m);
        var isRight = JsonNumber.TryScale(JsonMarshal.GetRawUtf8Value(value), decimals, out var scaled)
            && scaled * unit >= decimal.Parse(schema.Minimum!, CultureInfo.InvariantCulture)
            && scaled * unit <= decimal.Parse(schema.Maximum!, CultureInfo.InvariantCulture);
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
