using System.Globalization;
using System.Text.Json;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>
/// Which records a function gets: Lambda developer guide, "Control which events Lambda sends to your function" and
/// "Using event filtering with a DynamoDB event source". A record that fits any of the patterns is sent.
/// </summary>
public sealed class FilterCriteria
{
    /// <summary>Five by default; a quota increase allows ten.</summary>
    private const int FiltersMax = 10;

    private const int PatternLengthMax = 4096;

    private readonly IReadOnlyList<Node> _patterns;

    private FilterCriteria(IReadOnlyList<Node> patterns) => _patterns = patterns;

    /// <exception cref="ArgumentException">A pattern is invalid; the message says where and why.</exception>
    public static FilterCriteria? Parse(IReadOnlyList<string> patterns)
    {
        if (patterns.Count > FiltersMax)
        {
            throw new ArgumentException($"FilterCriteria has {patterns.Count} filters, but Lambda takes {FiltersMax} at most.");
        }

        return patterns.Count == 0 ? null : new FilterCriteria([.. patterns.Select(ParsePattern)]);
    }

    /// <summary>Whether the record is sent. One with a text that cannot be read is: the function sees it, a filter would lose it.</summary>
    public bool Matches(ReadOnlyMemory<byte> record)
    {
        using var document = JsonDocument.Parse(record, new JsonDocumentOptions { MaxDepth = StreamRecordFormat.JsonDepthMax });
        try
        {
            return _patterns.Any(pattern => pattern(document.RootElement));
        }
        catch (Exception e) when (UnreadableJson.IsMeantBy(e))
        {
            return true;
        }
    }

    /// <summary>Whether an element of the record fits; null stands for an element that is not there.</summary>
    private delegate bool Node(JsonElement? element);

    private static Node ParsePattern(string pattern)
    {
        if (pattern.Length > PatternLengthMax)
        {
            throw new ArgumentException($"A filter pattern has {pattern.Length} characters, but Lambda takes {PatternLengthMax} at most.");
        }

        try
        {
            return ParseNode(JsonElement.Parse(pattern), "the pattern");
        }
        catch (Exception e) when (UnreadableJson.IsMeantBy(e))
        {
            throw new ArgumentException($"The filter pattern {pattern} is not JSON: {e.Message}");
        }
    }

    /// <summary>An object of the pattern: all its members have to fit.</summary>
    private static Node ParseNode(JsonElement pattern, string where)
    {
        if (pattern.ValueKind != JsonValueKind.Object || !pattern.EnumerateObject().Any())
        {
            throw new ArgumentException($"In a filter pattern, {where} has to be an object with members, or an array of rules.");
        }

        var members = pattern.EnumerateObject().Select(member => ParseMember(member.Name, member.Value, $"{where}.{member.Name}")).ToList();
        return element => members.All(member => member(element));
    }

    private static Node ParseMember(string name, JsonElement pattern, string where)
    {
        if (name == "$or")
        {
            if (pattern.ValueKind != JsonValueKind.Array || pattern.GetArrayLength() == 0)
            {
                throw new ArgumentException($"In a filter pattern, {where} has to be an array of patterns.");
            }

            var alternatives = pattern.EnumerateArray().Select(alternative => ParseNode(alternative, where)).ToList();
            return element => alternatives.Any(alternative => alternative(element));
        }

        var node = pattern.ValueKind == JsonValueKind.Array ? ParseRules(pattern, where) : ParseNode(pattern, where);
        return element => node(element is { ValueKind: JsonValueKind.Object } parent && parent.TryGetProperty(name, out var child) ? child : null);
    }

    /// <summary>An array of rules: any of them has to fit. Of an array in the record, any element.</summary>
    private static Node ParseRules(JsonElement rules, string where)
    {
        if (rules.GetArrayLength() == 0)
        {
            throw new ArgumentException($"In a filter pattern, {where} has no rules.");
        }

        var parsed = rules.EnumerateArray().Select(rule => ParseRule(rule, where)).ToList();
        return element => element is { ValueKind: JsonValueKind.Array } array
            ? array.EnumerateArray().Any(item => parsed.Any(rule => rule(item)))
            : parsed.Any(rule => rule(element));
    }

    private static Node ParseRule(JsonElement rule, string where) => rule.ValueKind switch
    {
        JsonValueKind.Object when rule.EnumerateObject().ToList() is [var only] => ParseOperator(only.Name, only.Value.Clone(), $"{where}.{only.Name}"),
        JsonValueKind.Object or JsonValueKind.Array => throw new ArgumentException(
            $"In a filter pattern, a rule of {where} has to be a value or an object with one operator."),
        _ => Equal(rule.Clone()),
    };

    private static Node ParseOperator(string name, JsonElement operand, string where) => name switch
    {
        "prefix" => OfText(Text(operand, where), (text, prefix) => text.StartsWith(prefix, StringComparison.Ordinal)),
        "suffix" => OfText(Text(operand, where), (text, suffix) => text.EndsWith(suffix, StringComparison.Ordinal)),
        "equals-ignore-case" => OfText(Text(operand, where), (text, other) => text.Equals(other, StringComparison.OrdinalIgnoreCase)),
        // "The Exists operator only works on leaf nodes in the event JSON."
        "exists" when operand.ValueKind is JsonValueKind.True => element => element is { ValueKind: not JsonValueKind.Object },
        "exists" when operand.ValueKind is JsonValueKind.False => element => element is not { ValueKind: not JsonValueKind.Object },
        "anything-but" => AnythingBut(operand, where),
        "numeric" => Numeric(operand, where),
        _ => throw new ArgumentException(
            $"In a filter pattern, {where} is no operator of Lambda's with this operand. They are prefix, suffix, equals-ignore-case, exists, anything-but and numeric."),
    };

    /// <summary>Text is compared by characters, numbers as they are written: 300 and 300.0 are not equal.</summary>
    private static Node Equal(JsonElement value)
    {
        var text = value.ValueKind == JsonValueKind.String ? value.GetString() : null;
        return element => element is { } e && e.ValueKind == value.ValueKind && value.ValueKind switch
        {
            JsonValueKind.String => e.ValueEquals(text),
            JsonValueKind.Number => e.GetRawText() == value.GetRawText(),
            _ => true,
        };
    }

    private static Node OfText(string operand, Func<string, string, bool> compare) =>
        element => element is { ValueKind: JsonValueKind.String } e && compare(e.GetString()!, operand);

    private static Node AnythingBut(JsonElement operand, string where)
    {
        var values = operand.ValueKind == JsonValueKind.Array ? operand.EnumerateArray().ToList() : [operand];
        if (values.Count == 0 || values.Exists(value => value.ValueKind is not (JsonValueKind.String or JsonValueKind.Number)))
        {
            throw new ArgumentException($"In a filter pattern, {where} has to be a text, a number or an array of them.");
        }

        var excluded = values.ConvertAll(Equal);
        return element => element is { ValueKind: not JsonValueKind.Object } && !excluded.Exists(value => value(element));
    }

    /// <summary>
    /// Pairs of comparison and number, all of which have to hold. An attribute's number is a text in the event, so this
    /// never fits one: "Event filtering doesn't support numeric operators for DynamoDB" attributes.
    /// </summary>
    private static Node Numeric(JsonElement operand, string where)
    {
        var invalid = new ArgumentException($"In a filter pattern, {where} has to be an array such as [\">\", 0, \"<=\", 5].");
        if (operand.ValueKind != JsonValueKind.Array || operand.GetArrayLength() is not (2 or 4))
        {
            throw invalid;
        }

        var comparisons = operand.EnumerateArray().Chunk(2).Select(pair =>
        {
            if (pair[0].ValueKind != JsonValueKind.String || pair[1].ValueKind != JsonValueKind.Number)
            {
                throw invalid;
            }

            var number = pair[1].GetDouble();
            Func<double, bool> comparison = pair[0].GetString() switch
            {
                "=" => value => value.Equals(number),
                "<" => value => value < number,
                "<=" => value => value <= number,
                ">" => value => value > number,
                ">=" => value => value >= number,
                _ => throw invalid,
            };
            return comparison;
        }).ToList();
        return element => element is { ValueKind: JsonValueKind.Number } e
            && double.Parse(e.GetRawText(), CultureInfo.InvariantCulture) is var value && comparisons.TrueForAll(comparison => comparison(value));
    }

    private static string Text(JsonElement operand, string where) => operand.ValueKind == JsonValueKind.String
        ? operand.GetString()!
        : throw new ArgumentException($"In a filter pattern, {where} has to be a text.");
}
