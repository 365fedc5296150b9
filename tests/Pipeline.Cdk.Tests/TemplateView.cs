using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Amazon.CDK.Assertions;

namespace Pipeline.Cdk.Tests;

/// <summary>A template as the rules look at it: matched by the CDK's own assertions, or rendered as readable lines.</summary>
public sealed partial class TemplateView(string json)
{
    private readonly Lazy<Template> _template = new(() => Template.FromString(json));

    public string Json => json;

    public JsonObject Root { get; } = JsonNode.Parse(json)!.AsObject();

    public IEnumerable<(string Id, JsonObject Resource)> Resources(string type) =>
        Root["Resources"]!.AsObject().Where(r => Type(r.Value!) == type).Select(r => (r.Key, r.Value!.AsObject()));

    public IEnumerable<string> Types => Root["Resources"]!.AsObject().Select(r => Type(r.Value!));

    /// <summary>
    /// Exactly one resource of the type, and its properties are like these: objects may have more properties,
    /// arrays and values are equal.
    /// </summary>
    public void HasOne(string type, string properties)
    {
        _template.Value.ResourceCountIs(type, 1);
        _template.Value.HasResourceProperties(type, ToObject(JsonSerializer.Deserialize<JsonElement>(properties))!);
    }

    /// <summary>Every resource of the type, at least one, has properties like these.</summary>
    public void AllHave(string type, string properties)
    {
        Assert.NotEmpty(Resources(type));
        _template.Value.AllResourcesProperties(type, ToObject(JsonSerializer.Deserialize<JsonElement>(properties))!);
    }

    public void AllAreKept(string type) =>
        _template.Value.AllResources(type, new Dictionary<string, object> { ["DeletionPolicy"] = "Retain", ["UpdateReplacePolicy"] = "Retain" });

    /// <summary>
    /// What the role of a function may do, one line an action and resource: <c>s3:PutObject on ${ChangesBucket.Arn}/x*</c>.
    /// Managed policies and separately attached ones are lines, too: nothing that a role gets is left out.
    /// </summary>
    public string[] RightsOf(string roleName)
    {
        var (roleId, role) = Assert.Single(Resources("AWS::IAM::Role"), r => NameOf(r.Id) == roleName);
        var inline = role["Properties"]!["Policies"]?.AsArray().Select(p => p!["PolicyDocument"]!) ?? [];
        var attached = Resources("AWS::IAM::Policy")
            .Where(p => p.Resource["Properties"]!["Roles"]!.AsArray().Any(r => (string?)r!["Ref"] == roleId))
            .Select(p => p.Resource["Properties"]!["PolicyDocument"]!);
        var managed = role["Properties"]!["ManagedPolicyArns"]?.AsArray().Select(arn => $"managed policy {Render(arn!)}") ?? [];
        return [.. inline.Concat(attached).SelectMany(Lines).Concat(managed).Order(StringComparer.Ordinal)];
    }

    /// <summary>The statements of a policy document, one line an action and resource.</summary>
    public static IEnumerable<string> Lines(JsonNode document) =>
        from statement in document["Statement"]!.AsArray()
        let effect = (string)statement["Effect"]! == "Allow" ? "" : "not "
        let condition = statement["Condition"] is { } c ? $" if {c.ToJsonString()}" : ""
        from action in Many(statement["Action"]!)
        from resource in Many(statement["Resource"]!)
        select $"{effect}{Render(action)} on {Render(resource)}{condition}";

    /// <summary>A value with its references as <c>${Name}</c> or <c>${Name.Attribute}</c>, without the hash in the name.</summary>
    public static string Render(JsonNode value) => value switch
    {
        JsonObject o when o["Ref"] is { } reference => $"${{{NameOf((string)reference!)}}}",
        JsonObject o when o["Fn::GetAtt"] is JsonArray attribute => $"${{{NameOf((string)attribute[0]!)}.{attribute[1]}}}",
        JsonObject o when o["Fn::Join"] is JsonArray join => string.Join((string)join[0]!, join[1]!.AsArray().Select(part => Render(part!))),
        JsonObject o when o["Fn::Sub"] is JsonValue text => (string)text!,
        JsonObject o => $"{{{string.Join(", ", o.Select(p => $"{p.Key}={Render(p.Value!)}"))}}}",
        JsonArray a => $"[{string.Join(", ", a.Select(item => Render(item!)))}]",
        _ => value.ToString(),
    };

    private static IEnumerable<JsonNode> Many(JsonNode oneOrMany) => oneOrMany is JsonArray many ? many.Select(n => n!) : [oneOrMany];

    private static string Type(JsonNode resource) => (string)resource["Type"]!;

    private static string NameOf(string logicalId) => Hash().Replace(logicalId, "");

    [GeneratedRegex("[0-9A-F]{8}$")]
    private static partial Regex Hash();

    // jsii carries dictionaries, arrays and plain values.
    private static object? ToObject(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Object => element.EnumerateObject().ToDictionary(p => p.Name, p => ToObject(p.Value)!),
        JsonValueKind.Array => element.EnumerateArray().Select(e => ToObject(e)!).ToArray(),
        JsonValueKind.String => element.GetString(),
        JsonValueKind.Number => element.GetDouble(),
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw new NotSupportedException($"No property is {element.ValueKind}."),
    };
}
