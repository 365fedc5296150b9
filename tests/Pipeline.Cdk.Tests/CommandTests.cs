using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Pipeline.Cdk.Tests;

/// <summary>
/// What the CDK's command line does before anything else, for every command that docs/deploy.md gives: the app is run, with
/// the context of cdk.json, of the npm script and of the command itself.
/// </summary>
public sealed partial class CommandTests(Synthesis synthesis)
{
    public static TheoryData<string> Documented => [.. Commands().Select(command => command.Value)];

    [Fact]
    public void Every_command_of_the_command_line_is_documented_as_an_npm_script() => Assert.Equal(
        ["bootstrap", "deploy", "destroy", "diff", "import", "synth"],
        Commands().Select(command => command.Groups["script"].Value).Distinct().Order());

    [Theory]
    [MemberData(nameof(Documented))]
    public void The_app_takes(string command)
    {
        var documented = Command().Match(command);
        var script = Read("package.json")["scripts"]![documented.Groups["script"].Value]!.ToString();
        var context = Read("cdk.json")["context"]!.DeepClone().AsObject();
        foreach (Match given in Given().Matches($"{script} {documented.Groups["arguments"].Value}"))
        {
            context[given.Groups["name"].Value] = given.Groups["value"].Value;
        }

        // Published before, by cdk.json's "app"; relative to the folder that the command line runs in.
        Assert.Equal("../artifacts/publish", (string?)context["published"]);
        context["published"] = synthesis.Published("commands");
        var props = PipelineStackProps.FromContext(context);

        var template = new TemplateView(synthesis.Run(props));
        if (script.StartsWith("cdk deploy", StringComparison.Ordinal))
        {
            Assert.True(props.IsDeployment);
            Assert.DoesNotContain("-first/", template.Json, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_deployment_past_the_npm_script_without_an_issuer_fails_on_a_key_that_says_why() => Assert.Equal(
        "set-jwtIssuer-and-jwtAudience-first/Pipeline.OrdersApi.zip",
        (string)new TemplateView(synthesis.Run(new PipelineStackProps { PublishedFunctions = synthesis.Published("no-issuer") }))["OrdersApiRunFunction"]["Code"]!["S3Key"]!);

    [Fact]
    public async Task The_command_line_synthesizes_without_credentials_from_what_is_published()
    {
        var cdk = Repository.File("Pipeline.Cdk", "node_modules", ".bin", "cdk");
        Assert.SkipUnless(File.Exists(cdk), "The CDK's command line is not installed: npm --prefix Pipeline.Cdk ci");
        var output = Path.Combine(synthesis.Folder("cli"), "cdk.out");

        var (exitCode, printed, errors) = await Tool.RunAsync(
            cdk,
            [
                // Without what cdk.json publishes, which takes minutes, and from the app as it is built here.
                "synth", "--quiet", "--app", $"dotnet exec {App}", "--output", output,
                "--context", $"published={synthesis.Published("cli-published")}",
            ],
            Repository.File("Pipeline.Cdk"),
            new()
            {
                ["HOME"] = synthesis.Folder("home"),
                ["AWS_PROFILE"] = null,
                ["AWS_ACCESS_KEY_ID"] = null,
                ["AWS_SECRET_ACCESS_KEY"] = null,
                ["AWS_SESSION_TOKEN"] = null,
                ["AWS_EC2_METADATA_DISABLED"] = "true",
                ["CDK_DISABLE_CLI_TELEMETRY"] = "true",
                ["JSII_RUNTIME_PACKAGE_CACHE_ROOT"] = Repository.File("artifacts", "jsii-cache"),
            });

        Assert.True(exitCode == 0, $"cdk synth ended with {exitCode}: {printed}{errors}");
        Assert.Equal(
            synthesis.Run(new PipelineStackProps { PublishedFunctions = synthesis.Published("cli-published") }),
            await File.ReadAllTextAsync(Path.Combine(output, $"{Names.Stack}.template.json"), TestContext.Current.CancellationToken));
    }

    /// <summary>cdk.json's "app" goes on to publish only when this has ended with 0.</summary>
    [Theory]
    [InlineData("""{ "environment": "dev", "published": "not there yet" }""", 0, "")]
    [InlineData("""{ "enviroment": "dev" }""", 1, "Context value 'enviroment' is no setting of this pipeline; the nearest is 'environment'. ")]
    [InlineData("""{ "warehouseNodes": 17 }""", 1, "Context value 'warehouseNodes' is '17', but must be ")]
    public async Task Settings_are_checked_before_anything_is_published_and_refused_in_one_line(string context, int expected, string says)
    {
        Assert.StartsWith("dotnet run --no-launch-profile -- check-settings && dotnet publish ", (string)Read("cdk.json")["app"]!, StringComparison.Ordinal);

        var (exitCode, printed, errors) = await Tool.RunAsync("dotnet", ["exec", App, "check-settings"], environment: new() { ["CDK_CONTEXT_JSON"] = context });

        Assert.Equal((expected, "", expected), (exitCode, printed, errors.Count(letter => letter == '\n')));
        Assert.StartsWith(says, errors, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Settings_that_have_no_room_in_the_variable_are_read_from_their_file()
    {
        var file = Path.Combine(synthesis.Folder("overflow"), "context.json");
        await File.WriteAllTextAsync(file, """{ "warehouseNodes": 17 }""", TestContext.Current.CancellationToken);

        var (exitCode, _, errors) = await Tool.RunAsync("dotnet", ["exec", App, "check-settings"], environment: new() { ["CONTEXT_OVERFLOW_LOCATION_ENV"] = file });

        Assert.Equal(1, exitCode);
        Assert.StartsWith("Context value 'warehouseNodes' is '17'", errors, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_build_that_the_command_line_starts_writes_the_usual_template_all_the_same()
    {
        var template = Path.Combine(synthesis.Folder("inherited"), $"{Names.Stack}.template.json");
        var configuration = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar)).Name;

        var (exitCode, printed, errors) = await Tool.RunAsync(
            "dotnet",
            ["msbuild", Repository.File("Pipeline.Cdk", "Pipeline.Cdk.csproj"), "-nologo", "-target:SynthesizeTemplate", $"-property:Configuration={configuration};StackTemplate={template}"],
            environment: new() { ["CDK_CONTEXT_JSON"] = """{ "environment": "dev", "alarmEmails": "nobody" }""" });

        Assert.True(exitCode == 0, $"msbuild ended with {exitCode}: {printed}{errors}");
        Assert.Equal(synthesis.Prod.Json, await File.ReadAllTextAsync(template, TestContext.Current.CancellationToken));
    }

    private static string App => Path.Combine(AppContext.BaseDirectory, "Pipeline.Cdk.dll");

    private static MatchCollection Commands() => Command().Matches(File.ReadAllText(Repository.File("docs", "deploy.md")).Replace("\\\n", "", StringComparison.Ordinal));

    private static JsonNode Read(string file) => JsonNode.Parse(File.ReadAllText(Repository.File("Pipeline.Cdk", file)))!;

    [GeneratedRegex(@"(npm --prefix Pipeline\.Cdk run|npx cdk) (?<script>\w+)(?<arguments>( --)?(\s+--context\s+\w+=[^\s`]+)*)")]
    private static partial Regex Command();

    [GeneratedRegex(@"--context\s+(?<name>\w+)=(?<value>\S+)")]
    private static partial Regex Given();
}
