using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Amazon.CDK.Assertions;
using Xunit.Sdk;

namespace Pipeline.Cdk.Tests;

/// <summary>
/// A template as the rules look at it: matched by the CDK's own assertions, or rendered as readable lines. Resources
/// go by their logical ids without the hash at the end, which a rule should not have to know.
/// </summary>
public sealed partial class TemplateView(string json)
{
    private readonly Lazy<Template> _template = new(() => Template.FromString(json));

    public string Json => json;

    public JsonObject Root { get; } = JsonNode.Parse(json)!.AsObject();

    public IEnumerable<(string Name, string Type, JsonObject Properties)> Everything =>
        Root["Resources"]!.AsObject().Select(r => (NameOf(r.Key), (string)r.Value!["Type"]!, r.Value["Properties"]!.AsObject()));

    public IEnumerable<(string Name, JsonObject Properties)> All(string type) =>
        Everything.Where(r => r.Type == type).Select(r => (r.Name, r.Properties));

    public JsonObject this[string name] => Assert.Single(Everything, r => r.Name == name).Properties;

    /// <summary>
    /// A resource of the type has properties like these: objects may have more properties, arrays and values are
    /// equal. One of the properties should say which resource is meant.
    /// </summary>
    public void Has(string type, string properties) =>
        Match(template => template.HasResourceProperties(type, ToObject(JsonSerializer.Deserialize<JsonElement>(properties))!));

    /// <summary>Every resource of the type, at least one, has properties like these.</summary>
    public void AllHave(string type, string properties)
    {
        Assert.NotEmpty(All(type));
        Match(template => template.AllResourcesProperties(type, ToObject(JsonSerializer.Deserialize<JsonElement>(properties))!));
    }

    /// <summary>What happens to every resource of the type when it goes out of the stack, and when it is replaced.</summary>
    public void AllAre(string deletion, string replacement, string type)
    {
        Assert.NotEmpty(All(type));
        Match(template => template.AllResources(type, new Dictionary<string, object> { ["DeletionPolicy"] = deletion, ["UpdateReplacePolicy"] = replacement }));
    }

    /// <summary>Properties as lines <c>Name=value</c>, with their references readable; none of what is not there.</summary>
    public static string[] Lines(JsonNode? properties) =>
        [.. (properties?.AsObject() ?? []).Select(p => $"{p.Key}={Render(p.Value)}")];

    /// <summary>
    /// What a role may do, one line an action and resource: <c>s3:PutObject on ${ChangesBucket.Arn}/x*</c>. Managed
    /// policies and separately attached ones are lines, too: nothing that a role gets is left out.
    /// </summary>
    public string[] RightsOf(string role)
    {
        var properties = this[role];
        var inline = properties["Policies"]?.AsArray().Select(p => p!["PolicyDocument"]!) ?? [];
        var attached = All("AWS::IAM::Policy").Concat(All("AWS::IAM::ManagedPolicy"))
            .Where(p => p.Properties["Roles"]?.AsArray().Any(r => Render(r) == $"${{{role}}}") == true)
            .Select(p => p.Properties["PolicyDocument"]!);
        var managed = properties["ManagedPolicyArns"]?.AsArray().Select(arn => $"managed policy {Render(arn!)}") ?? [];
        return [.. inline.Concat(attached).SelectMany(Statements).Concat(managed).Order(StringComparer.Ordinal)];
    }

    /// <summary>Who may take a role, and on which condition.</summary>
    public string[] TakersOf(string role) =>
        [.. this[role]["AssumeRolePolicyDocument"]!["Statement"]!.AsArray().Select(s => $"{Render(s!["Principal"]!)}{Condition(s)}")];

    /// <summary>
    /// The statements of a policy document, one line an action and resource: <c>s3:GetObject on x by y if z</c>, with who it is
    /// for where the policy says so, that is, where it is not a role's.
    /// </summary>
    public static IEnumerable<string> Statements(JsonNode? document) =>
        from statement in document?["Statement"]?.AsArray() ?? []
        let effect = (string)statement["Effect"]! == "Allow" ? "" : "not "
        let caller = statement["Principal"] is { } principal ? $" by {Render(principal)}" : ""
        from action in Many(Stated(statement, "Action"))
        from resource in Many(Stated(statement, "Resource"))
        select $"{effect}{Render(action)} on {Render(resource)}{caller}{Condition(statement)}";

    /// <summary>A value with its references as <c>${Name}</c> or <c>${Name.Attribute}</c>; of what is not there <c>nothing</c>.</summary>
    public static string Render(JsonNode? value) => value switch
    {
        null => "nothing",
        JsonObject o when o["Ref"] is { } reference => $"${{{NameOf((string)reference!)}}}",
        JsonObject o when o["Fn::GetAtt"] is JsonArray attribute => $"${{{NameOf((string)attribute[0]!)}.{attribute[1]}}}",
        JsonObject o when o["Fn::Join"] is JsonArray join => string.Join((string)join[0]!, join[1]!.AsArray().Select(Render)),
        JsonObject o when o["Fn::Sub"] is JsonValue text => (string)text!,
        JsonObject o => $"{{{string.Join(", ", o.Select(p => $"{p.Key}={Render(p.Value)}"))}}}",
        JsonArray a => $"[{string.Join(", ", a.Select(Render))}]",
        _ => value.ToString(),
    };

    /// <summary>A logical id, or a text in which some stand, without the hashes.</summary>
    public static string NameOf(string text) => Hash().Replace(text, "");

    /// <summary>The CDK's assertions fail with an exception of no type of their own.</summary>
    private void Match(Action<Template> assertion)
    {
        try
        {
            assertion(_template.Value);
        }
        catch (Exception e) when (e.Message.StartsWith("Error: Template has ", StringComparison.Ordinal))
        {
            Assert.Fail(e.Message);
        }
    }

    /// <summary>A statement says what it is about; NotAction, NotResource and NotPrincipal say what it is not about.</summary>
    private static JsonNode Stated(JsonNode statement, string member)
    {
        Assert.DoesNotContain(statement.AsObject(), m => m.Key.StartsWith("Not", StringComparison.Ordinal));
        return statement[member] ?? throw FailException.ForFailure($"A statement has no {member}: {statement}");
    }

    private static string Condition(JsonNode statement) => statement["Condition"] is { } condition ? $" if {Render(condition)}" : "";

    private static IEnumerable<JsonNode> Many(JsonNode oneOrMany) => oneOrMany is JsonArray many ? many.Select(n => n!) : [oneOrMany];

    // The CDK's eight digits at the end of a logical id; what follows is no part of a name.
    [GeneratedRegex("(?<=[A-Za-z0-9])[0-9A-F]{8}(?![A-Za-z0-9])")]
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
