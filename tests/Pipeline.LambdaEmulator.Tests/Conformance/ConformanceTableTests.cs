using System.Reflection;
using System.Text;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>docs/conformance.md: what this suite holds the emulator to, made of its cases.</summary>
public sealed class ConformanceTableTests
{
    /// <summary>With this environment variable set the table is written instead of compared.</summary>
    private const string Update = "PIPELINE_UPDATE_DOCS";

    [Fact]
    public void The_table_in_the_documentation_is_that_of_the_cases()
    {
        var path = Path.Combine(RepositoryRoot(), "docs", "conformance.md");
        var table = Table();
        if (Environment.GetEnvironmentVariable(Update) is { Length: > 0 })
        {
            File.WriteAllText(path, table);
        }

        Assert.True(
            File.Exists(path) && File.ReadAllText(path) == table,
            $"docs/conformance.md is not what the cases say. Write it anew: {Update}=1 dotnet test --project tests/Pipeline.LambdaEmulator.Tests");
    }

    [Fact]
    public void There_are_at_least_sixty_cases_each_with_a_page_of_the_documentation()
    {
        Assert.InRange(Cases().Count(), 60, int.MaxValue);
        Assert.All(Cases(), test => Assert.Matches("^(Lambda|DynamoDB|SQS).* (guide|reference): ", test.Rule.Page));
    }

    [Fact]
    public void Every_case_runs() => Assert.All(Cases(), test =>
    {
        var fact = test.Method.GetCustomAttribute<FactAttribute>();
        Assert.True(fact is { Skip: null }, $"{test.Class.Name}.{test.Method.Name} has a rule, but is no test or is skipped.");
    });

    private static IEnumerable<(Type Class, MethodInfo Method, RuleAttribute Rule)> Cases() =>
        from type in typeof(ConformanceTableTests).Assembly.GetTypes()
        from method in type.GetMethods()
        let rule = method.GetCustomAttribute<RuleAttribute>()
        where rule is not null
        orderby type.Name, method.MetadataToken
        select (type, method, rule);

    private static string Table()
    {
        var text = new StringBuilder("""
            # Conformance of the Lambda emulator

            Made from the cases in `tests/Pipeline.LambdaEmulator.Tests/Conformance`; each names the page of AWS's documentation and
            the rule that it holds the emulator to. Where the documentation is silent or contradicts itself, the choice and its
            reason stand with the rule. A rule that does not hold fails the build, so every row of this table does.


            """.ReplaceLineEndings("\n"));
        foreach (var group in Cases().GroupBy(test => test.Class))
        {
            text.Append("## ").Append(Words(group.Key.Name[..^"Tests".Length])).Append("\n\n| rule | case | page |\n|---|---|---|\n");
            foreach (var (_, method, rule) in group)
            {
                var choice = rule.Choice is null ? "" : $" *Our choice: {rule.Choice}*";
                text.Append("| ").Append(Cell(rule.Rule + choice)).Append(" | ").Append(Cell(method.Name.Replace('_', ' ')))
                    .Append(" | ").Append(Cell(rule.Page)).Append(" |\n");
            }

            text.Append('\n');
        }

        return text.ToString().TrimEnd('\n') + "\n";
    }

    private static string Cell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal);

    /// <summary>PartialResponse → Partial response.</summary>
    private static string Words(string name) =>
        string.Concat(name.Select((c, i) => i > 0 && char.IsUpper(c) && !char.IsUpper(name[i - 1]) ? $" {char.ToLowerInvariant(c)}" : $"{c}"));

    private static string RepositoryRoot()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder!.FullName, "Pipeline.sln")))
        {
            folder = folder.Parent;
        }

        return folder.FullName;
    }
}
