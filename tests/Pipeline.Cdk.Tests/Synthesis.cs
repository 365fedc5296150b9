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
    private int _runs;

    public Synthesis()
    {
        // jsii takes these from the environment only, and reads them when the first construct is made: its 66 MB of
        // temporary files go into the folder that is deleted at the end.
        System.Environment.SetEnvironmentVariable("TMPDIR", Folder("tmp"));
        System.Environment.SetEnvironmentVariable("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20");
        _prod = new Lazy<TemplateView>(() => new TemplateView(Run(new PipelineStackProps())));
        _dev = new Lazy<TemplateView>(() => new TemplateView(Run(new PipelineStackProps { Environment = Purpose.Dev })));
    }

    /// <summary>The template as the build writes it: with nothing set, which means production.</summary>
    public TemplateView Prod => _prod.Value;

    public TemplateView Dev => _dev.Value;

    /// <summary>The text of the template that the stack gives for these settings.</summary>
    public string Run(PipelineStackProps props)
    {
        var output = Folder($"cdk.out.{_runs++}");
        var app = new App(new AppProps { Outdir = output, AnalyticsReporting = false, TreeMetadata = false, StackTraces = false });
        _ = new PipelineStack(app, Names.Stack, props);
        app.Synth();
        return File.ReadAllText(Path.Combine(output, $"{Names.Stack}.template.json"));
    }

    /// <summary>An empty folder that the tests may fill; deleted at the end.</summary>
    public string Folder(string name) => Directory.CreateDirectory(Path.Combine(_scratch, name)).FullName;

    public void Dispose() => Directory.Delete(_scratch, recursive: true);
}
