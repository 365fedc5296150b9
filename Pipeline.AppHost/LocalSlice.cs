using System.Text.Json;
using System.Text.Json.Nodes;

namespace Pipeline.AppHost;

/// <summary>
/// The part of the pipeline's template that local servers can provide: its tables, buckets and queues, and the
/// outputs that speak of them alone.
/// </summary>
internal static class LocalSlice
{
    private static readonly string[] LocalTypes = ["AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue"];

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    /// <exception cref="InvalidDataException">A local resource needs one that is not, or nothing is left.</exception>
    public static string Of(string template)
    {
        var whole = JsonNode.Parse(template)!.AsObject();
        var resources = whole["Resources"]?.AsObject() ?? [];
        var local = resources
            .Where(resource => LocalTypes.Contains(resource.Value!["Type"]!.GetValue<string>()))
            .ToDictionary(resource => resource.Key, resource => resource.Value!);
        if (local.Count == 0)
        {
            throw new InvalidDataException($"The template has none of {string.Join(", ", LocalTypes)}.");
        }

        var elsewhere = resources.Select(resource => resource.Key).Except(local.Keys).ToHashSet();
        foreach (var (name, resource) in local)
        {
            if (References(resource).FirstOrDefault(elsewhere.Contains) is { } missing)
            {
                throw new InvalidDataException(
                    $"{name} refers to {missing} ({resources[missing]!["Type"]}), which does not exist locally.");
            }
        }

        var slice = new JsonObject
        {
            ["Description"] = "The tables, buckets and queues of the pipeline's template",
            ["Resources"] = new JsonObject(local.Select(resource => KeyValuePair.Create<string, JsonNode?>(resource.Key, resource.Value.DeepClone()))),
            ["Outputs"] = new JsonObject((whole["Outputs"]?.AsObject() ?? [])
                .Where(output => !References(output.Value).Any(elsewhere.Contains))
                .Select(output => KeyValuePair.Create(output.Key, output.Value?.DeepClone()))),
        };
        return slice.ToJsonString(Indented);
    }

    /// <summary>The logical ids that Ref, Fn::GetAtt and DependsOn name, and every <c>${…}</c> of an Fn::Sub.</summary>
    private static IEnumerable<string> References(JsonNode? node) => node switch
    {
        JsonObject o => o.SelectMany(property => (property.Key, property.Value) switch
        {
            ("Ref", JsonValue value) => [value.GetValue<string>()],
            ("Fn::GetAtt", JsonArray path) => [path[0]!.GetValue<string>()],
            ("Fn::GetAtt", JsonValue value) => [value.GetValue<string>().Split('.')[0]],
            ("DependsOn", JsonValue value) => [value.GetValue<string>()],
            ("DependsOn", JsonArray all) => all.Select(one => one!.GetValue<string>()),
            ("Fn::Sub", JsonValue value) => Placeholders(value.GetValue<string>()),
            ("Fn::Sub", JsonArray parts) => Placeholders(parts[0]!.GetValue<string>()).Concat(References(parts[1])),
            _ => References(property.Value),
        }),
        JsonArray a => a.SelectMany(References),
        _ => [],
    };

    private static IEnumerable<string> Placeholders(string text) =>
        text.Split("${").Skip(1).Select(rest => rest.Split('}', '.')[0]);
}
