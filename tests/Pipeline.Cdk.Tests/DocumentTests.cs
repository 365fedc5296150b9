using System.Globalization;
using System.Text.RegularExpressions;

namespace Pipeline.Cdk.Tests;

public sealed partial class DocumentTests(Synthesis synthesis)
{
    [Fact]
    public void The_list_of_resources_in_deploy_md_is_that_of_the_template() => Assert.Equal(
        synthesis.Deployable.Everything.GroupBy(r => r.Type).OrderBy(g => g.Key, StringComparer.Ordinal).Select(g => (g.Key, g.Count())),
        from Match line in ResourceLine().Matches(File.ReadAllText(Repository.File("docs", "deploy.md")))
        select (line.Groups["type"].Value, int.Parse(line.Groups["number"].Value, CultureInfo.InvariantCulture)));

    [Fact]
    public void The_settings_in_deploy_md_are_those_that_are_read()
    {
        var source = File.ReadAllText(Repository.File("Pipeline.Cdk", "PipelineStackProps.cs"));
        var read = SettingRead().Matches(source).Select(m => m.Groups["name"].Value).Distinct().Order();

        var table = File.ReadAllText(Repository.File("docs", "deploy.md")).Split("## Settings")[1].Split("\n## ")[0];
        var documented = table.Split('\n').Where(line => line.StartsWith("| `", StringComparison.Ordinal))
            .SelectMany(line => Code().Matches(line.Split('|')[1]).Select(m => m.Groups["name"].Value)).Order();

        Assert.Equal(read, documented);
    }

    [Fact]
    public void What_deploy_md_takes_in_is_what_outlives_a_stack_by_its_id_in_the_template() => Assert.Equal(
        synthesis.Deployable.Root["Resources"]!.AsObject()
            .Where(r => ((string?)r.Value!["DeletionPolicy"])?.StartsWith("Retain", StringComparison.Ordinal) == true)
            .Select(r => r.Key).Order(StringComparer.Ordinal),
        Imported().Matches(File.ReadAllText(Repository.File("docs", "deploy.md"))).Select(m => m.Groups["id"].Value).Distinct().Order(StringComparer.Ordinal));

    [GeneratedRegex("\"(?<id>\\w+)\": ?\\{\"(TableName|BucketName|Id)\":")]
    private static partial Regex Imported();

    [GeneratedRegex(@"^\| `(?<type>AWS::\w+::\w+)` \| (?<number>\d+) \|", RegexOptions.Multiline)]
    private static partial Regex ResourceLine();

    [GeneratedRegex("settings\\.\\w+\\(\"(?<name>\\w+)\"")]
    private static partial Regex SettingRead();

    [GeneratedRegex("`(?<name>\\w+)`")]
    private static partial Regex Code();
}
