namespace Pipeline.Cdk.Tests;

public sealed class TemplateTests(Synthesis synthesis)
{
    public static TheoryData<string> Rules => [.. TemplateRules.All.Keys];

    [Theory]
    [MemberData(nameof(Rules))]
    public void Rule_holds(string rule) => TemplateRules.All[rule](synthesis.Template);
}
