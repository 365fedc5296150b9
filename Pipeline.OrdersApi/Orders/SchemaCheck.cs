using System.Collections.Concurrent;
using System.Collections.Frozen;
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

    private static readonly ConcurrentDictionary<IOpenApiSchema, Rules> RulesOf = new();

    // A name that nobody knows may be as long as the body; a pointer is to be read.
    private const int MaxNameLength = 100;

    /// <param name="value">What was sent.</param>
    /// <param name="schema">What it must be.</param>
    /// <param name="pointer">Where it stands in the body.</param>
    public static List<InvalidInput> Faults(JsonElement value, IOpenApiSchema schema, string pointer = "#")
    {
        var faults = new List<InvalidInput>();
        Check(value, schema, new Place(null, pointer), faults);
        return faults;
    }

    private static void Check(JsonElement value, IOpenApiSchema schema, Place place, List<InvalidInput> faults)
    {
        if (faults.Count >= MaxFaults)
        {
            return;
        }

        var fault = (value.ValueKind, schema.Type!.Value & ~JsonSchemaType.Null) switch
        {
            (JsonValueKind.Null, _) when schema.Type.Value.HasFlag(JsonSchemaType.Null) => null,
            (JsonValueKind.Object, JsonSchemaType.Object) => CheckFields(value, schema, place, faults),
            (JsonValueKind.Array, JsonSchemaType.Array) => CheckEntries(value, schema, place, faults),
            (JsonValueKind.String, JsonSchemaType.String) => CheckText(value, schema),
            (JsonValueKind.Number, JsonSchemaType.Number or JsonSchemaType.Integer) => CheckNumber(value, schema),
            (var kind, _) => $"must be {schema.Description}, not {Name(kind)}",
        };

        if (fault is not null)
        {
            faults.Add(new InvalidInput(fault, place.ToString()));
        }
    }

    private static string? CheckFields(JsonElement value, IOpenApiSchema schema, Place place, List<InvalidInput> faults)
    {
        foreach (var field in value.EnumerateObject())
        {
            var name = field.Name;
            if (schema.Properties!.TryGetValue(name, out var fieldSchema))
            {
                Check(field.Value, fieldSchema, new Place(place, name), faults);
            }
            else if (faults.Count < MaxFaults)
            {
                faults.Add(name.Length <= MaxNameLength
                    ? new InvalidInput("is not a known field", new Place(place, name).ToString())
                    : new InvalidInput($"has a field that is not known, with a name of {name.Length} characters", place.ToString()));
            }
        }

        if (value.GetPropertyCount() < schema.MinProperties)
        {
            return $"must be {schema.Description}";
        }

        foreach (var name in Of(schema).Required)
        {
            if (!value.TryGetProperty(name, out _))
            {
                faults.Add(new InvalidInput("is required", new Place(place, name).ToString()));
            }
        }

        return null;
    }

    private static string? CheckEntries(JsonElement value, IOpenApiSchema schema, Place place, List<InvalidInput> faults)
    {
        var count = value.GetArrayLength();
        if (count > schema.MaxItems || count < schema.MinItems)
        {
            return string.Create(CultureInfo.InvariantCulture, $"must be {schema.Description}, not {count}");
        }

        foreach (var (index, entry) in schema.Items is null ? [] : value.EnumerateArray().Index())
        {
            Check(entry, schema.Items!, new Place(place, index.ToString(CultureInfo.InvariantCulture)), faults);
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
        var length = text.AsSpan().ContainsAnyInRange('\ud800', '\udfff') ? text.EnumerateRunes().Count() : text.Length;
        var rules = Of(schema);
        if (length < schema.MinLength || length > schema.MaxLength || rules.Pattern?.IsMatch(text) == false)
        {
            return $"must be {schema.Description}";
        }

        if (rules.Choices is { } choices && !choices.Contains(text))
        {
            // A list of currencies would only hide the message.
            return choices.Count <= 10
                ? $"must be {schema.Description}: one of {string.Join(", ", schema.Enum!.Select(choice => choice.GetValue<string>()))}"
                : $"must be {schema.Description}";
        }

        return null;
    }

    private static string? CheckNumber(JsonElement value, IOpenApiSchema schema)
    {
        // Money has two decimals and everything else none: the text of the number is held against that, exactly.
        var (decimals, unit) = schema.Type == JsonSchemaType.Integer ? (0, 1m) : (OrderSchemas.MoneyDecimals, 0.01m);
        var isRight = JsonNumber.TryScale(JsonMarshal.GetRawUtf8Value(value), decimals, out var scaled)
            && scaled * unit >= Of(schema).Minimum
            && scaled * unit <= Of(schema).Maximum;
        return isRight ? null : $"must be {schema.Description}";
    }

    private static Rules Of(IOpenApiSchema schema) => RulesOf.GetOrAdd(schema, static schema => new Rules(schema));

    private static string Name(JsonValueKind kind) => kind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.Null => "null",
        _ => "a boolean",
    };

    /// <summary>Where a value stands; written out only for a fault, and most values have none.</summary>
    private sealed class Place(Place? above, string name)
    {
        /// <summary>The JSON pointer, as RFC 6901 writes it in a URI fragment.</summary>
        public override string ToString() => above is null
            ? name
            : $"{above}/{Uri.EscapeDataString(name.Replace("~", "~0", StringComparison.Ordinal).Replace("/", "~1", StringComparison.Ordinal))}";
    }

    /// <summary>What a schema says as text, read once.</summary>
    private sealed class Rules(IOpenApiSchema schema)
    {
        public Regex? Pattern { get; } = schema.Pattern is null ? null : OrderSchemas.PatternOf(schema);
        public FrozenSet<string>? Choices { get; } = schema.Enum?.Select(choice => choice.GetValue<string>()).ToFrozenSet(StringComparer.Ordinal);
        public IReadOnlyList<string> Required { get; } = [.. (schema.Required ?? new HashSet<string>()).Order(StringComparer.Ordinal)];
        public decimal Minimum { get; } = Bound(schema.Minimum, decimal.MinValue);
        public decimal Maximum { get; } = Bound(schema.Maximum, decimal.MaxValue);

        private static decimal Bound(string? text, decimal none) => text is null ? none : decimal.Parse(text, CultureInfo.InvariantCulture);
    }
}
