using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Pipeline.Cdk.Tests;

/// <summary>
/// A template as the rules look at it: rendered as readable lines. Resources go by their logical ids without the hash at the
/// end, which a rule should not have to know.
/// </summary>
public sealed partial class TemplateView(string json)
{
    public string Json => json;

    public JsonObject Root { get; } = JsonNode.Parse(json)!.AsObject();

    public IReadOnlyList<(string Name, string Type, JsonObject Properties)> Everything =>
        _everything ??= [.. Root["Resources"]!.AsObject().Select(r => (NameOf(r.Key), (string)r.Value!["Type"]!, r.Value["Properties"]!.AsObject()))];

    private IReadOnlyList<(string Name, string Type, JsonObject Properties)>? _everything;

    public IEnumerable<(string Name, JsonObject Properties)> All(string type) =>
        Everything.Where(r => r.Type == type).Select(r => (r.Name, r.Properties));

    public JsonObject this[string name] => Assert.Single(Everything, r => r.Name == name).Properties;

    /// <summary>
    /// The resource is this and nothing else: each of its properties, and what happens to it, in the template's order and one a
    /// line as <see cref="Lines"/> writes them. Of what it is called in a console, descriptions and tags, nothing is said.
    /// </summary>
    public void Is(string name, params string[] lines) => Assert.Equal(lines, Whole(name));

    /// <summary>These are all the resources of the type, each whole, in one line: <c>Name: property, property</c>.</summary>
    public void Are(string type, params string[] resources) =>
        Assert.Equal(resources, All(type).Select(r => $"{r.Name}: {string.Join(", ", Whole(r.Name))}"));

    /// <summary>The resource as <see cref="Is"/> compares it.</summary>
    public IEnumerable<string> Whole(string name) =>
        this[name].Parent!.AsObject().Where(member => member.Key != "Type").SelectMany(member => member.Key switch
        {
            "Properties" => Lines(member.Value).Where(line => !Words().IsMatch(line)),
            "DependsOn" => [$"{member.Key}={NameOf(Render(member.Value))}"],
            _ => [$"{member.Key}={Render(member.Value)}"],
        });

    /// <summary>
    /// Properties as lines <c>Name=value</c>, with their references readable; of a policy <c>Name: statement</c>, of a
    /// function's environment <c>Environment: NAME=value</c>. None of what is not there.
    /// </summary>
    public static IEnumerable<string> Lines(JsonNode? properties) => (properties?.AsObject() ?? []).SelectMany(p => p.Value switch
    {
        JsonObject document when document["Statement"] is not null => Statements(document).Select(statement => $"{p.Key}: {statement}"),
        JsonObject { Count: 1 } variables when p.Key == "Environment" => Lines(variables["Variables"]).Select(line => $"{p.Key}: {line}"),
        _ => [$"{p.Key}={Render(p.Value)}"],
    });

    /// <summary>
    /// What a role may do, one line an action and resource: <c>s3:PutObject on ${ChangesBucket.Arn}/x*</c>. Managed
    /// policies, separately attached ones and whatever else the role has are lines, too: nothing that it gets is left out.
    /// </summary>
    public string[] RightsOf(string role)
    {
        var properties = this[role];
        var policies = properties["Policies"]?.AsArray() ?? [];
        Assert.All(policies, policy => Assert.Equal(["PolicyDocument", "PolicyName"], policy!.AsObject().Select(member => member.Key)));
        var inline = policies.Select(p => p!["PolicyDocument"]!);
        var attached = All("AWS::IAM::Policy").Concat(All("AWS::IAM::ManagedPolicy"))
            .Where(p => p.Properties["Roles"]?.AsArray().Any(r => Render(r) == $"${{{role}}}") == true)
            .Select(p => p.Properties["PolicyDocument"]!);
        var managed = properties["ManagedPolicyArns"]?.AsArray().Select(arn => $"managed policy {Render(arn!)}") ?? [];
        var rest = Whole(role).Where(line => !line.StartsWith("AssumeRolePolicyDocument: ", StringComparison.Ordinal)
            && !line.StartsWith("Policies=", StringComparison.Ordinal) && !line.StartsWith("ManagedPolicyArns=", StringComparison.Ordinal));
        return [.. inline.Concat(attached).SelectMany(Statements).Concat(managed).Concat(rest).Order(StringComparer.Ordinal)];
    }

    /// <summary>Every policy document of the template, of whatever resource and wherever in it, as statements.</summary>
    public IEnumerable<string> EveryStatement => Within(Root["Resources"]!).Where(node => node is JsonObject document && document["Statement"] is JsonArray).SelectMany(Statements);

    /// <summary>
    /// The statements of a policy document, one line an action and resource: <c>s3:GetObject on x by y if z</c>, with who it is
    /// for where the policy says so, that is, where it is not a role's, and without a resource where it is about who takes a role.
    /// </summary>
    public static IEnumerable<string> Statements(JsonNode? document)
    {
        foreach (var statement in document?["Statement"]?.AsArray() ?? [])
        {
            Assert.Equal(["Statement", "Version"], document!.AsObject().Select(member => member.Key));
            Assert.Equal("2012-10-17", (string?)document["Version"]);
            // NotAction, NotResource and NotPrincipal say what a statement is not about.
            Assert.All(statement!.AsObject(), member => Assert.Contains(member.Key, (string[])["Action", "Condition", "Effect", "Principal", "Resource", "Sid"]));
            var effect = (string?)statement["Effect"] == "Allow" ? "" : (string?)statement["Effect"] == "Deny" ? "not " : "? ";
            var caller = statement["Principal"] is { } principal ? $" by {Render(principal)}" : "";
            var condition = statement["Condition"] is { } c ? $" if {Render(c)}" : "";
            foreach (var action in Many(statement["Action"]))
            {
                foreach (var resource in statement["Resource"] is { } named ? Many(named).Select(r => $" on {Render(r)}") : [""])
                {
                    yield return $"{effect}{Render(action)}{resource}{caller}{condition}";
                }
            }
        }
    }

    /// <summary>A node and all below it.</summary>
    public static IEnumerable<JsonNode> Within(JsonNode node) => node switch
    {
        JsonObject o => [o, .. o.Where(member => member.Value is not null).SelectMany(member => Within(member.Value!))],
        JsonArray a => [a, .. a.Where(item => item is not null).SelectMany(item => Within(item!))],
        _ => [node],
    };

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

    private static JsonNode?[] Many(JsonNode? oneOrMany) => oneOrMany is JsonArray many ? [.. many] : [oneOrMany];

    [GeneratedRegex("^(Description|AlarmDescription|GroupDescription|Tags)=")]
    private static partial Regex Words();

    // The CDK's eight digits at the end of a logical id; what follows is no part of a name.
    [GeneratedRegex("(?<=[A-Za-z0-9])[0-9A-F]{8}(?![A-Za-z0-9])")]
    private static partial Regex Hash();
}
