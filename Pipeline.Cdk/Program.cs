using Amazon.CDK;
using Pipeline.Cdk;

// No AWS::CDK::Metadata resource, no construct tree, no stack traces: the assembly holds only what is deployed,
// and the same source always gives the same bytes.
var app = new App(new AppProps { AnalyticsReporting = false, TreeMetadata = false, StackTraces = false });
_ = new PipelineStack(app, Names.Stack, PipelineStackProps.FromContext(app.Node));
app.Synth();
