using System.Text.Json.Nodes;
using Amazon.CDK;
using Pipeline.Cdk;

try
{
    var props = PipelineStackProps.FromContext(Context());

    // cdk.json asks so first: what is refused is refused before the functions are published, which takes minutes.
    if (args is ["check-settings"])
    {
        return 0;
    }

    // No AWS::CDK::Metadata resource, no construct tree, no stack traces: the assembly holds only what is deployed,
    // and the same source always gives the same bytes.
    var app = new App(new AppProps { AnalyticsReporting = false, TreeMetadata = false, StackTraces = false });
    _ = new PipelineStack(app, Names.Stack, props);
    app.Synth();
    return 0;
}
catch (RefusedException refused)
{
    Console.Error.WriteLine(refused.Message);
    return 1;
}

// As the CDK's command line hands it over: in a variable, and what has no room there in a file. Read here, because a construct
// tells the value of a name and not which names there are.
static JsonObject Context()
{
    var context = JsonNode.Parse(System.Environment.GetEnvironmentVariable("CDK_CONTEXT_JSON") is { Length: > 0 } text ? text : "{}")!.AsObject();
    if (System.Environment.GetEnvironmentVariable("CONTEXT_OVERFLOW_LOCATION_ENV") is { Length: > 0 } file)
    {
        foreach (var (name, value) in JsonNode.Parse(File.ReadAllText(file))!.AsObject())
        {
            context[name] = value?.DeepClone();
        }
    }

    return context;
}
