using Amazon.S3;
using OpenTelemetry;
using OpenTelemetry.Trace;
using Pipeline.Core;
using Pipeline.Processor;

// The Lambda function process_orders: an executable that asks the Lambda Runtime API for one batch of stream
// records after another. What it does with a batch is in ProcessOrders.cs.
var bucket = Environment.GetEnvironmentVariable(Names.Settings.BucketName);
if (string.IsNullOrWhiteSpace(bucket))
{
    await Console.Error.WriteLineAsync(
        $"The environment variable {Names.Settings.BucketName} is not set. Set it to the name of the pipeline's bucket, " +
        $"for example {Names.BucketFor(Names.LocalAccount, "us-east-1")}.");
    return 1;
}

Func<CancellationToken, ValueTask<PersonalDataProtector>> protection;
try
{
    protection = PersonalDataKey.From(Environment.GetEnvironmentVariable);
}
catch (Exception e) when (e is InvalidOperationException or ArgumentException)
{
    await Console.Error.WriteLineAsync(e.Message);
    return 1;
}

// Three attempts of at most 10 s each: longer than any healthy PUT of a few MB, and together shorter than the
// function's timeout. What still fails then is failed to the stream, which delivers the batch again.
using var s3 = new AmazonS3Client(new AmazonS3Config { Timeout = TimeSpan.FromSeconds(10), MaxErrorRetry = 2 });

// OTEL_EXPORTER_OTLP_*, OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are read by OpenTelemetry itself. Without
// an endpoint nothing listens to the spans, and none are made.
using var traces = string.IsNullOrWhiteSpace(Environment.GetEnvironmentVariable("OTEL_EXPORTER_OTLP_ENDPOINT"))
    ? null
    : Sdk.CreateTracerProviderBuilder().AddSource(ProcessOrders.Activities.Name).AddOtlpExporter().Build();

using var stop = new CancellationTokenSource();
using var onTerminate = System.Runtime.InteropServices.PosixSignalRegistration.Create(
    System.Runtime.InteropServices.PosixSignal.SIGTERM,
    signal =>
    {
        signal.Cancel = true;
        stop.Cancel();
    });

var function = new ProcessOrders(new S3ObjectWriter(s3, bucket), protection, TimeProvider.System);
await EntryPoint.RunAsync(function, traces, cancellationToken: stop.Token);
return 0;
