using System.Text.Json;
using Amazon.Lambda.Core;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;
using Pipeline.Core;
using Pipeline.Processor;

namespace Pipeline.Bench;

/// <summary>
/// From the JSON of a batch to the change file: against one bare pass of the JSON reader over the same bytes, against the
/// baseline's function, and the whole function against the bare PUT of the object that it writes.
/// </summary>
internal static class ChangeFileStage
{
    private const int Records = 1000;
    private const string Bucket = "bench-change-file";
    private const string File = "payload → change file";

    public static Stage Stage { get; } = new(
        "change-file",
        "A batch's JSON → the change file, against a bare JSON pass and the baseline's function; the whole function against a bare PUT.",
        QuickSeconds: 15,
        FullSeconds: 60,
        RunAsync);

    private static async Task RunAsync(StageContext context, CancellationToken cancellationToken)
    {
        var payload = context.Inputs.Payloads(Records).First();
        var written = new KeptObject();
        var function = new ProcessOrders(written, _ => ValueTask.FromResult(Inputs.Protector), TimeProvider.System);
        var invocation = new Invocation();
        var repeat = context.IsQuick ? 5 : 40;
        var what = FormattableString.Invariant($"{Records:N0} records of {payload.Length / 1e6:F2} MB in all; a round is {repeat} batches.");
        Task OursAsync() => HandleAsync(function, payload, invocation);

        // 1. Time against the least that anybody who reads JSON can do.
        context.Progress("against a bare JSON pass", 0);
        var bare = await Rounds.RunAsync(
            context.IsQuick ? Rounds.Min : 2 * Rounds.Min,
            () => EachAsync(repeat, OursAsync),
            () => EachAsync(repeat, () =>
            {
                ReadBare(payload);
                return Task.CompletedTask;
            }),
            share => context.Progress("against a bare JSON pass", 0.3 * share),
            cancellationToken);
        context.Add(Row.Of(File, "one bare Utf8JsonReader pass", "ms", bare, Goal.AtMost(1.5), $"{what} The file has {written.Content.Length / 1e3:F0} KB. "
            + await ProfileAsync(context.Inputs, repeat, bare)));

        // 2. Memory and speed against the baseline.
        var allocations = await Rounds.RunAsync(
            Rounds.Min,
            async () => await Rounds.AllocatedBytesAsync(OursAsync) / 1e6,
            async () => await Rounds.AllocatedBytesAsync(() =>
            {
                BaselineFunction.ToJsonLines(payload);
                return Task.CompletedTask;
            }) / 1e6,
            _ => { },
            cancellationToken);
        context.Add(Row.Of(File, "allocations of B's function without S3", "MB", allocations, Goal.AtMost(0.1)));
        var baseline = await Rounds.RunAsync(
            context.IsQuick ? Rounds.Min : 2 * Rounds.Min,
            async () => Records / await EachAsync(repeat, OursAsync) * 1000,
            async () => Records / await EachAsync(repeat, () =>
            {
                BaselineFunction.ToJsonLines(payload);
                return Task.CompletedTask;
            }) * 1000,
            share => context.Progress("against the baseline's function", 0.3 + (0.3 * share)),
            cancellationToken);
        context.Add(Row.Of(File, "B's function without S3", "records/s", baseline, Goal.AtLeast(2)));

        // 3. With S3: what the function adds to the PUT that it cannot do without.
        var servers = await context.ServersAsync(cancellationToken);
        using var s3 = new AmazonS3Client(
            new BasicAWSCredentials("bench", "bench"),
            new AmazonS3Config { ServiceURL = servers.S3.Url, AuthenticationRegion = "us-east-1", ForcePathStyle = true });
        await s3.PutBucketAsync(Bucket, cancellationToken);
        var stored = new S3ObjectWriter(s3, Bucket);
        var whole = new ProcessOrders(stored, _ => ValueTask.FromResult(Inputs.Protector), TimeProvider.System);
        var puts = context.IsQuick ? 5 : 30;
        var put = await Rounds.RunAsync(
            context.IsQuick ? Rounds.Min : 2 * Rounds.Min,
            () => EachAsync(puts, () => HandleAsync(whole, payload, invocation)),
            () => EachAsync(puts, async () =>
            {
                using var body = new MemoryStream(written.Content);
                await s3.PutObjectAsync(new PutObjectRequest { BucketName = Bucket, Key = written.Key, InputStream = body }, cancellationToken);
            }),
            share => context.Progress("the whole function against a bare PUT", 0.6 + (0.4 * share)),
            cancellationToken);
        context.Add(Row.Of("the whole function, payload → PUT acknowledged", "the bare PUT of the same object", "ms", put, Goal.AtMost(1.3), FormattableString.Invariant(
            $"The file takes {bare.Ours.Median:F1} ms to make, and one bare pass over the JSON, without which nobody knows what to PUT, {bare.Against.Median:F1} ms: {1 + (bare.Against.Median / put.Against.Median):F1} × would be the least. The PUT goes to a server on the same machine: what the function adds to it stays the same where a PUT takes longer.")));
    }

    /// <summary>The parts that can be told apart from outside, each by itself.</summary>
    private static async Task<string> ProfileAsync(Inputs inputs, int repeat, Pairs bare)
    {
        var customer = PersonalData.Item.Member("customer")!;
        var values = inputs.ItemChanges().Take(Records)
            .SelectMany(change => (change.NewImage ?? change.OldImage)!["customer"].M)
            .Select(member => (Place: customer.Member(member.Key), Value: member.Value.S))
            .Where(value => value.Place is not null)
            .ToList();
        var protecting = await EachAsync(repeat, () =>
        {
            Span<byte> hash = stackalloc byte[PersonalDataProtector.TextLength];
            foreach (var (place, value) in values)
            {
                Inputs.Protector.Protect(place!, value, hash);
            }

            return Task.CompletedTask;
        });
        var batch = Inputs.Decode(inputs.Payloads(Records).First());
        var writing = await EachAsync(repeat, () => ChangeFile.WriteAsync(batch, Stream.Null, CancellationToken.None));
        return FormattableString.Invariant(
            $"Of its {bare.Ours.Median:F1} ms the bare pass itself takes {bare.Against.Median:F1}, protecting {values.Count:N0} personal values {protecting:F1} (HMAC-SHA-256, each by itself), and columns, compression and seal of decoded rows {writing:F1}; the rest checks and rewrites each value of the image as canonical JSON.");
    }

    private static async Task HandleAsync(ProcessOrders function, byte[] payload, ILambdaContext invocation)
    {
        var answer = await function.HandleAsync(payload, invocation);
        if (answer.BatchItemFailures.Count > 0)
        {
            throw new InvalidOperationException("The function failed the batch.");
        }
    }

    private static void ReadBare(ReadOnlySpan<byte> payload)
    {
        var reader = new Utf8JsonReader(payload);
        while (reader.Read())
        {
        }
    }

    /// <summary>Milliseconds of one, over some of them: one alone is too short to be timed on a busy machine.</summary>
    private static async Task<double> EachAsync(int repeat, Func<Task> work) => await Rounds.MillisecondsAsync(async () =>
    {
        for (var i = 0; i < repeat; i++)
        {
            await work();
        }
    }) / repeat;

    /// <summary>Takes the place of S3: keeps the last object.</summary>
    private sealed class KeptObject : IObjectWriter
    {
        public string Key { get; private set; } = "";
        public byte[] Content { get; private set; } = [];

        public Task PutAsync(
            string key, ReadOnlyMemory<byte> content, string contentType, IReadOnlyDictionary<string, string> metadata, CancellationToken cancellationToken)
        {
            if (Key != key)
            {
                (Key, Content) = (key, content.ToArray());
            }

            return Task.CompletedTask;
        }
    }

    /// <summary>An invocation without a Lambda; what is logged is formatted by nobody.</summary>
    private sealed class Invocation : ILambdaContext, ILambdaLogger
    {
        public TimeSpan RemainingTime => TimeSpan.FromSeconds(30);
        public string AwsRequestId => "00000000-0000-0000-0000-000000000000";
        public ILambdaLogger Logger => this;
        public string FunctionName => "process_orders";
        public string FunctionVersion => "$LATEST";
        public string InvokedFunctionArn => "";
        public string LogGroupName => "";
        public string LogStreamName => "";
        public int MemoryLimitInMB => 512;
        public IClientContext ClientContext => null!;
        public ICognitoIdentity Identity => null!;

        public void Log(string message)
        {
        }

        public void Log(string level, string message, params object[] args)
        {
        }

        public void LogLine(string message)
        {
        }
    }
}
