namespace Pipeline.Cdk.Tests;

/// <summary>cfn-lint over the templates, where it is installed.</summary>
public sealed class LintTests(Synthesis synthesis)
{
    // Ignored: a DependsOn that a reference implies anyway. The CDK writes those.
    private const string RedundantDependsOn = "W3005";

    [Fact]
    public async Task cfn_lint_has_nothing_to_say()
    {
        Assert.SkipUnless(Tool.IsInstalled("cfn-lint"), "cfn-lint is not installed: pip install cfn-lint");
        var folder = synthesis.Folder("lint");
        await File.WriteAllTextAsync(Path.Combine(folder, "prod.json"), synthesis.Prod.Json, TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(Path.Combine(folder, "deployable.json"), synthesis.Deployable.Json, TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(Path.Combine(folder, "dev.json"), synthesis.Dev.Json, TestContext.Current.CancellationToken);

        var (exitCode, output, errors) = await Tool.RunAsync(
            "cfn-lint", ["--ignore-checks", RedundantDependsOn, "--format", "parseable", "--template", "prod.json", "deployable.json", "dev.json"], folder);

        Assert.Equal((0, "", ""), (exitCode, output, errors));
    }
}
