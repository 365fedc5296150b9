using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Runtime.InteropServices;
using Amazon.Runtime;
using Amazon.S3;
using Pipeline.Core;
using Pipeline.NativeServers;
using Pipeline.Processor;

namespace Pipeline.Bench;

/// <summary>
/// From the start of the function's process to the acknowledgement of its first batch: the native program against the same
/// code on the JIT runtime. The Runtime API is played here; S3 is real.
/// </summary>
internal static class ColdStartStage
{
    private const int Records = 100;
    private const string Bucket = "bench-cold-start";

    /// <summary>Of one start, on a busy machine.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    public static Stage Stage { get; } = new(
        "cold-start",
        "process_orders from process start to its first acknowledged batch, as native program against the JIT runtime. Publishes the native program first.",
        QuickSeconds: 15,
        FullSeconds: 90,
        RunAsync,
        PublishNativeAsync);

    private static string NativeFolder { get; } = Path.Combine(Repository.Root, "artifacts", "native", "Pipeline.Processor");

    private static async Task RunAsync(StageContext context, CancellationToken cancellationToken)
    {
        context.Progress("starting the function", 0);
        var native = Path.Combine(NativeFolder, "Pipeline.Processor");
        var servers = await context.ServersAsync(cancellationToken);
        using var s3 = new AmazonS3Client(
            new BasicAWSCredentials("bench", "bench"),
            new AmazonS3Config { ServiceURL = servers.S3.Url, AuthenticationRegion = "us-east-1", ForcePathStyle = true });
        await s3.PutBucketAsync(Bucket, cancellationToken);
        var environment = new Dictionary<string, string>
        {
            ["AWS_REGION"] = "us-east-1",
            ["AWS_ACCESS_KEY_ID"] = "bench",
            ["AWS_SECRET_ACCESS_KEY"] = "bench",
            ["AWS_ENDPOINT_URL_S3"] = servers.S3.Url,
            [Names.Settings.BucketName] = Bucket,
            [Names.Settings.PersonalDataKey] = "the key of the benchmarks, for personal data",
        };
        var payload = context.Inputs.Payloads(Records).First();
        var pairs = await Rounds.RunAsync(
            context.IsQuick ? Rounds.Min : 2 * Rounds.Min,
            () => FirstBatchAsync(new ProcessStartInfo(native), environment, payload, cancellationToken),
            () => FirstBatchAsync(new ProcessStartInfo(Dotnet.Muxer, [typeof(ProcessOrders).Assembly.Location]), environment, payload, cancellationToken),
            share => context.Progress("starting the function", share),
            cancellationToken);
        context.Add(Row.Of(
            "cold start of process_orders, process start → first batch acknowledged, Native AOT", "the same on the JIT runtime", "ms", pairs, Goal.AtMost(1.0 / 3),
            string.Create(CultureInfo.InvariantCulture, $"A batch of {Records} records; the native program has {new FileInfo(native).Length / 1e6:F1} MB.")));
    }

    /// <summary>Always, so that it is made from the code that is measured: MSBuild knows what has changed. Seconds when nothing has.</summary>
    private static async Task PublishNativeAsync(CancellationToken cancellationToken)
    {
        var start = new ProcessStartInfo(
            Dotnet.Muxer,
            [
                "publish", Path.Combine(Repository.Root, "Pipeline.Processor"), "-c", "Release", "-r", RuntimeInformation.RuntimeIdentifier,
                // No compiler stays behind to share the machine with what is measured.
                "-p:NativeFunction=true", "-p:UseSharedCompilation=false", "-nodeReuse:false", "--output", NativeFolder,
            ])
        {
            RedirectStandardOutput = true,
        };
        using var publish = Process.Start(start)!;
        try
        {
            var output = await publish.StandardOutput.ReadToEndAsync(cancellationToken);
            await publish.WaitForExitAsync(cancellationToken);
            if (publish.ExitCode != 0)
            {
                throw new InvalidOperationException($"The native program could not be published (it needs gcc or clang, and binutils): {output}");
            }
        }
        finally
        {
            // Cancelled meanwhile, with its compiler still at work; nothing to do otherwise.
            publish.Kill(entireProcessTree: true);
        }
    }

    /// <returns>Milliseconds.</returns>
    private static async Task<double> FirstBatchAsync(
        ProcessStartInfo start, Dictionary<string, string> environment, byte[] payload, CancellationToken cancellationToken)
    {
        var port = LoopbackPorts.Free();
        using var runtimeApi = new HttpListener { Prefixes = { $"http://127.0.0.1:{port}/" } };
        runtimeApi.Start();
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        start.Environment["AWS_LAMBDA_RUNTIME_API"] = $"127.0.0.1:{port}";
        start.RedirectStandardOutput = true;
        var started = Stopwatch.GetTimestamp();
        using var process = Process.Start(start)!;
        var log = process.StandardOutput.ReadToEndAsync(cancellationToken);
        try
        {
            var next = await runtimeApi.GetContextAsync().WaitAsync(Patience, cancellationToken);
            next.Response.Headers["Lambda-Runtime-Aws-Request-Id"] = "bench";
            next.Response.Headers["Lambda-Runtime-Deadline-Ms"] =
                (DateTimeOffset.UtcNow + Patience).ToUnixTimeMilliseconds().ToString(CultureInfo.InvariantCulture);
            next.Response.Headers["Lambda-Runtime-Invoked-Function-Arn"] = "arn:aws:lambda:us-east-1:000000000000:function:process_orders";
            next.Response.Headers["Lambda-Runtime-Trace-Id"] = "Root=1";
            next.Response.ContentType = "application/json";
            next.Response.ContentLength64 = payload.Length;
            await next.Response.OutputStream.WriteAsync(payload, cancellationToken);
            next.Response.Close();

            var answer = await runtimeApi.GetContextAsync().WaitAsync(Patience, cancellationToken);
            var elapsed = Stopwatch.GetElapsedTime(started);
            using var reader = new StreamReader(answer.Request.InputStream);
            var text = await reader.ReadToEndAsync(cancellationToken);
            answer.Response.StatusCode = (int)HttpStatusCode.Accepted;
            answer.Response.Close();
            return text == """{"batchItemFailures":[]}"""
                ? elapsed.TotalMilliseconds
                : throw new InvalidOperationException($"The function answered {text}");
        }
        finally
        {
            process.Kill();
            await process.WaitForExitAsync(CancellationToken.None);
            await log;
        }
    }
}
