using System.Text.Json.Nodes;

namespace Pipeline.Cdk.Tests.Rules;

/// <summary>
/// Something that must be true of the template, with the mutants that show that the rule can fail: each breaks the
/// template in one place.
/// </summary>
/// <remarks>Of production; development is that but for a list of differences (<see cref="SynthesisTests"/>).</remarks>
public sealed record Rule(string Says, Action<TemplateView> Check, params Mutant[] Mutants)
{
    public static IReadOnlyList<Rule> All { get; } =
    [
        .. TableRules.All,
        .. BucketRules.All,
        .. ProcessRules.All,
        .. NetworkRules.All,
        .. WarehouseRules.All,
        .. LoaderRules.All,
        .. ApiRules.All,
        .. AlarmRules.All,
        .. StackRules.All,
    ];
}

/// <param name="Does">What the mutant does to the template.</param>
/// <param name="Resource">The resource that it changes.</param>
/// <param name="Change">Changes the properties of that resource.</param>
public sealed record Mutant(string Does, string Resource, Action<JsonObject> Change)
{
    public string Apply(TemplateView original)
    {
        var mutated = new TemplateView(original.Json);
        Change(mutated[Resource]);
        return mutated.Root.ToJsonString();
    }

    /// <summary>The n-th statement of the role's policy.</summary>
    public static JsonObject Statement(JsonObject role, int n) => role["Policies"]![0]!["PolicyDocument"]!["Statement"]![n]!.AsObject();
}
