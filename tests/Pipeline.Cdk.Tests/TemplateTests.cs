using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Pipeline.Cdk.Tests.Rules;
using Xunit.Sdk;

namespace Pipeline.Cdk.Tests;

public sealed partial class TemplateTests(Synthesis synthesis)
{
    public static TheoryData<string> Rules => [.. Rule.All.Select(rule => rule.Says)];

    public static TheoryData<string, string> Mutants =>
        [.. Rule.All.SelectMany(rule => rule.Mutants, (rule, mutant) => new TheoryDataRow<string, string>(rule.Says, mutant.Does))];

    [Theory]
    [MemberData(nameof(Rules))]
    public void The_template_keeps_the_rule(string rule) => Named(rule).Check(synthesis.Prod);

    [Theory]
    [MemberData(nameof(Mutants))]
    public void Mutant_is_caught(string rule, string mutant)
    {
        var mutated = Assert.Single(Named(rule).Mutants, m => m.Does == mutant).Apply(synthesis.Prod);
        Assert.False(JsonNode.DeepEquals(synthesis.Prod.Root, JsonNode.Parse(mutated)), "The mutant is no mutant: it changes nothing.");

        var caught = Assert.ThrowsAny<Exception>(() => Named(rule).Check(new TemplateView(mutated)));
        Assert.True(caught is IAssertionException, $"The rule does not say what is wrong, it breaks: {caught}");
    }

    [Fact]
    public void Every_rule_has_a_mutant() => Assert.All(Rule.All, rule => Assert.NotEmpty(rule.Mutants));

    /// <summary>
    /// The mutants above are those that somebody thought of. Here every value of every resource and output is changed, every object
    /// gets a member more and every list an item: whatever is edited in the stack, some rule notices.
    /// </summary>
    [Fact]
    public void There_is_no_value_in_the_template_that_could_change_without_a_rule_that_notices()
    {
        var (root, unnoticed, tried) = (synthesis.Prod.Root.DeepClone().AsObject(), new List<string>(), 0);

        // Neighbours have the same rule as a rule, so the one that noticed last is asked first.
        var rules = Rule.All.ToList();
        foreach (var part in new[] { "Resources", "Outputs" })
        {
            foreach (var (path, change) in TemplateView.Within(root[part]!).Where(node => !IsWords(node)).SelectMany(Changes).ToList())
            {
                var undo = change();
                var template = new TemplateView(root.ToJsonString());
                undo();
                tried++;
                if (rules.Find(rule => Record.Exception(() => rule.Check(template)) is not null) is { } noticed)
                {
                    rules.Remove(noticed);
                    rules.Insert(0, noticed);
                }
                else
                {
                    unnoticed.Add(path);
                }
            }
        }

        Assert.True(unnoticed.Count == 0, $"No rule notices:\n{string.Join('\n', unnoticed)}");
        Assert.True(tried > 1000, $"Only {tried} changes were tried.");
        TestContext.Current.TestOutputHelper!.WriteLine($"{tried} changes, each noticed");
    }

    /// <summary>How a node can be changed; each change gives back how it is undone.</summary>
    private static IEnumerable<(string Path, Func<Action> Change)> Changes(JsonNode node) => node switch
    {
        // A reference has no other member; what it refers to is a value of its own.
        JsonObject { Count: 1 } o when o.First().Key is "Ref" || o.First().Key.StartsWith("Fn::", StringComparison.Ordinal) => [],
        JsonObject o => [($"{o.GetPath()} + a member", () =>
        {
            o["Foreign"] = "foreign";
            return () => o.Remove("Foreign");
        })],
        // CloudFormation takes no other number of items.
        JsonArray { Count: 2 } a when a.Parent is JsonObject { Count: 1 } && a.GetPropertyName() is "Fn::GetAtt" or "Fn::Join" => [],
        JsonArray a => [($"{a.GetPath()} + an item", () =>
        {
            a.Add("foreign");
            return () => a.RemoveAt(a.Count - 1);
        })],
        _ => [($"{node.GetPath()} = something else", () =>
        {
            JsonNode changed = node.GetValueKind() switch
            {
                JsonValueKind.True => false,
                JsonValueKind.False => true,
                JsonValueKind.Number => node.GetValue<double>() + 1,
                _ => $"{node}x",
            };
            node.ReplaceWith(changed);
            return () => changed.ReplaceWith(node);
        })],
    };

    /// <summary>What something is called, and nothing that it does.</summary>
    private static bool IsWords(JsonNode node) => WordsPath().IsMatch(node.GetPath());

    // Names of policies and statements, too, and the layout of the dashboard, whose graphs have a rule of their own.
    [GeneratedRegex(@"\.(Description|AlarmDescription|GroupDescription|PolicyName|Sid|Tags\b.*)$|DashboardBody")]
    private static partial Regex WordsPath();

    private static Rule Named(string says) => Assert.Single(Rule.All, rule => rule.Says == says);
}
