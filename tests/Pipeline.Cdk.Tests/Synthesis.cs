using System.Text.Json.Nodes;
using Amazon.CDK;
using Pipeline.Cdk.Tests;
using Xunit.Sdk;
using Xunit.v3;

// jsii, which carries the calls from C# to the CDK's Node process, is not thread-safe.
[assembly: Parallelization(Mode = ParallelMode.None)]
[assembly: AssemblyFixture(typeof(Synthesis))]

namespace Pipeline.Cdk.Tests;

/// <summary>Runs the app in this process, the stack's usual templates once for all tests.</summary>
public sealed class Synthesis : IDisposable
{
    private readonly string _scratch = Directory.CreateTempSubdirectory("pipeline-cdk-tests-").FullName;
    private readonly Lazy<TemplateView> _prod;
    private readonly Lazy<TemplateView> _dev;
    private readonly Lazy<TemplateView> _deployable;
    private int _runs;

    public Synthesis()
    {
        // jsii takes these from the environment only, and reads them when the first construct is made: its 66 MB of
        // temporary files go into the folder that is deleted at the end.
        System.Environment.SetEnvironmentVariable("TMPDIR", Folder("tmp"));
        System.Environment.SetEnvironmentVariable("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20");
        _prod = new Lazy<TemplateView>(() => new TemplateView(Run(new PipelineStackProps())));
        _dev = new Lazy<TemplateView>(() => new TemplateView(Run(new PipelineStackProps { Environment = Purpose.Dev })));
        _deployable = new Lazy<TemplateView>(() => new TemplateView(Run(new PipelineStackProps
        {
            Issuer = new JwtIssuer("https://login.example.com/", "orders"),
            AlarmEmails = ["operations@example.com"],
        })));
    }

    /// <summary>The template as the build writes it: with nothing set, which means production.</summary>
    public TemplateView Prod => _prod.Value;

    public TemplateView Dev => _dev.Value;

    /// <summary>Production as it can be deployed: with an issuer of tokens, and somebody who is told about alarms.</summary>
    public TemplateView Deployable => _deployable.Value;

    /// <summary>A folder with files that are named like published functions.</summary>
    public string Published(string name)
    {
        var published = Folder(name);
        foreach (var project in new[] { "Pipeline.OrdersApi", "Pipeline.Processor", "Pipeline.Loader" })
        {
            var folder = Directory.CreateDirectory(Path.Combine(published, project)).FullName;
            File.WriteAllText(Path.Combine(folder, $"{project}.dll"), "code");
        }

        // A copy keeps the mode, as publishing does.
        File.Copy(Repository.File("Pipeline.OrdersApi", OrdersApi.StartScript), Path.Combine(published, "Pipeline.OrdersApi", OrdersApi.StartScript), overwrite: true);
        return published;
    }

    /// <summary>The text of the template that the stack gives for these settings.</summary>
    public string Run(PipelineStackProps props) => File.ReadAllText(Path.Combine(Assembly(props), $"{Names.Stack}.template.json"));

    /// <summary>What the stack gives besides its template: what the command line does with it.</summary>
    public JsonNode Manifest(PipelineStackProps props) => JsonNode.Parse(File.ReadAllText(Path.Combine(Assembly(props), "manifest.json")))!;

    private string Assembly(PipelineStackProps props)
    {
        var output = Folder($"cdk.out.{_runs++}");
        var app = new App(new AppProps { Outdir = output, AnalyticsReporting = false, TreeMetadata = false, StackTraces = false });
        _ = new PipelineStack(app, Names.Stack, props);
        app.Synth();
        return output;
    }

    /// <summary>An empty folder that the tests may fill; deleted at the end.</summary>
    public string Folder(string name) => Directory.CreateDirectory(Path.Combine(_scratch, name)).FullName;

    public void Dispose() => Directory.Delete(_scratch, recursive: true);
}
