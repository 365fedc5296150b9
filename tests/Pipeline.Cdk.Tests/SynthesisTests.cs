using System.Text.Json.Nodes;

namespace Pipeline.Cdk.Tests;

public sealed class SynthesisTests(Synthesis synthesis)
{
    [Fact]
    public void The_same_source_gives_the_same_bytes() =>
        Assert.Equal(synthesis.Template.Json, synthesis.Run(new PipelineStackProps()));

    [Fact]
    public void The_build_wrote_the_template_that_is_tested_here()
    {
        var root = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(root.FullName, "Pipeline.sln")))
        {
            root = root.Parent ?? throw new DirectoryNotFoundException($"No folder above {AppContext.BaseDirectory} holds Pipeline.sln.");
        }

        var built = File.ReadAllText(Path.Combine(root.FullName, "artifacts", "cdk.out", $"{Names.Stack}.template.json"));
        Assert.Equal(synthesis.Template.Json, built);
    }

    [Fact]
    public void Nothing_of_this_machine_is_in_the_template() => Assert.All(
        [AppContext.BaseDirectory, Environment.CurrentDirectory, Path.GetTempPath(), Environment.MachineName],
        trace => Assert.DoesNotContain(trace.TrimEnd(Path.DirectorySeparatorChar), synthesis.Template.Json, StringComparison.Ordinal));

    [Fact]
    public void Published_code_changes_the_place_of_the_code_and_nothing_else()
    {
        var published = synthesis.Folder("published");
        var folder = Directory.CreateDirectory(Path.Combine(published, "Pipeline.Processor"));
        File.WriteAllText(Path.Combine(folder.FullName, "Pipeline.Processor.dll"), "code");

        var deployed = new TemplateView(synthesis.Run(new PipelineStackProps { PublishedFunctions = published }));

        Assert.DoesNotContain("run-dotnet-publish-first", deployed.Json, StringComparison.Ordinal);
        foreach (var view in new[] { deployed.Root, synthesis.Template.Root })
        {
            foreach (var function in view["Resources"]!.AsObject().Where(r => (string)r.Value!["Type"]! == "AWS::Lambda::Function"))
            {
                function.Value!["Properties"]!.AsObject().Remove("Code");
            }
        }

        Assert.True(JsonNode.DeepEquals(synthesis.Template.Root, deployed.Root));
    }

    [Fact]
    public void A_function_that_was_not_published_is_named_with_the_command_that_publishes_it()
    {
        var empty = synthesis.Folder("empty");

        var error = Assert.Throws<DirectoryNotFoundException>(() => synthesis.Run(new PipelineStackProps { PublishedFunctions = empty }));

        Assert.Contains(empty, error.Message, StringComparison.Ordinal);
        Assert.Contains("dotnet publish Pipeline.Processor -o", error.Message, StringComparison.Ordinal);
    }
}
