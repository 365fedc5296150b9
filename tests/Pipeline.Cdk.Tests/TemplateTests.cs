using System.Text.Json.Nodes;
using Pipeline.Cdk.Tests.Rules;
using Xunit.Sdk;

namespace Pipeline.Cdk.Tests;

public sealed class TemplateTests(Synthesis synthesis)
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

    private static Rule Named(string says) => Assert.Single(Rule.All, rule => rule.Says == says);
}
