using System.CommandLine;
using System.Globalization;
using Amazon.Lambda.Core;
using Amazon.Lambda.RuntimeSupport;
using Amazon.S3;
using Amazon.S3.Model;
using Npgsql;
using Pipeline.Core;

namespace Pipeline.Bench;

/// <summary>Baseline B's function and loader as processes; their settings are those of ours.</summary>
internal static class BaselineProcesses
{
    public const string FunctionVerb = "baseline-function";
    public const string LoaderVerb = "baseline-loader";
    public const string Warehouse = "ConnectionStrings__warehouse";

    /// <summary>As often as ours looks, so that neither is ahead by waiting less.</summary>
    private static readonly TimeSpan LookEvery = TimeSpan.FromMilliseconds(200);

    public static IEnumerable<Command> Commands()
    {
        var function = new Command(FunctionVerb, "Baseline B's function, until it is ended.") { Hidden = true };
        function.SetAction((_, cancellationToken) => RunFunctionAsync(cancellationToken));
        var loader = new Command(LoaderVerb, "Baseline B's loader, until it is ended.") { Hidden = true };
        loader.SetAction((_, cancellationToken) => RunLoaderAsync(cancellationToken));
        return [function, loader];
    }

    private static async Task RunFunctionAsync(CancellationToken cancellationToken)
    {
        using var s3 = new AmazonS3Client();
        var bucket = Setting(Names.Settings.BucketName);
        using var bootstrap = LambdaBootstrapBuilder.Create(async (Stream input, ILambdaContext _) =>
        {
            using var payload = new MemoryStream();
            await input.CopyToAsync(payload, cancellationToken);

            // Batches of one shard come one after the other: the time orders their objects.
            var key = string.Create(CultureInfo.InvariantCulture, $"{DateTime.UtcNow:yyyyMMddHHmmssfffffff}-{Guid.NewGuid():N}.jsonl");
            await BaselineFunction.HandleAsync(payload.ToArray(), s3, bucket, key, cancellationToken);
            return Stream.Null;
        }).Build();
        await bootstrap.RunAsync(cancellationToken);
    }

    /// <summary>Lists, loads each file in one statement, and deletes it.</summary>
    private static async Task RunLoaderAsync(CancellationToken cancellationToken)
    {
        using var s3 = new AmazonS3Client();
        var bucket = Setting(Names.Settings.BucketName);
        await using var database = NpgsqlDataSource.Create(Setting(Warehouse));
        var loader = new BaselineLoader(database, s3, bucket);
        await loader.CreateTableAsync(cancellationToken);
        while (true)
        {
            var page = await s3.ListObjectsV2Async(new ListObjectsV2Request { BucketName = bucket }, cancellationToken);
            foreach (var file in page.S3Objects ?? [])
            {
                await loader.LoadAsBatchAsync(file.Key, cancellationToken);
                await s3.DeleteObjectAsync(bucket, file.Key, cancellationToken);
            }

            if (page.S3Objects is not { Count: > 0 })
            {
                await Task.Delay(LookEvery, cancellationToken);
            }
        }
    }

    private static string Setting(string name) =>
        Environment.GetEnvironmentVariable(name) ?? throw new InvalidOperationException($"The environment variable {name} is not set.");
}
