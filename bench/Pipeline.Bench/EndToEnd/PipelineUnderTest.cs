using System.Diagnostics;
using System.Globalization;
using Amazon.Runtime;
using Amazon.S3;
using Npgsql;
using NpgsqlTypes;
using Pipeline.Core;
using Pipeline.LambdaEmulator;
using Pipeline.Loader;
using Pipeline.NativeServers;
using Pipeline.Processor;

namespace Pipeline.Bench;

/// <summary>A write that the API has acknowledged.</summary>
internal readonly record struct Written(string OrderId, long Version, DateTimeOffset AcknowledgedAt);

/// <summary>When a write could be seen in the warehouse.</summary>
/// <param name="Write">Which.</param>
/// <param name="LoadBegan">When the transaction that brought it did.</param>
/// <param name="VisibleAt">Its commit.</param>
internal readonly record struct Seen(Written Write, DateTimeOffset LoadBegan, DateTimeOffset VisibleAt);

/// <summary>
/// An order's whole way as real processes: the API, the emulator with the synthesized template, the function and the loader; ours, or
/// baseline B's behind the same API and emulator. The servers are those of the run; table, bucket and database are its own.
/// </summary>
internal sealed class PipelineUnderTest : IAsyncDisposable
{
    private static readonly TimeSpan SeenWithin = TimeSpan.FromSeconds(120);
    private static readonly TimeSpan LookEvery = TimeSpan.FromMilliseconds(200);

    private readonly List<ServiceUnderTest> _services = [];
    private readonly bool _isBaseline;

    private PipelineUnderTest(bool isBaseline, NpgsqlDataSource warehouse)
    {
        _isBaseline = isBaseline;
        Warehouse = warehouse;
    }

    public ApiUnderTest Api { get; private set; } = null!;

    public NpgsqlDataSource Warehouse { get; }

    /// <summary>Emulator, loader, function, API.</summary>
    public IReadOnlyList<ServiceUnderTest> Services => _services;

    /// <param name="context">Whose servers.</param>
    /// <param name="name">Letters, of what it has for itself.</param>
    /// <param name="isBaseline">B's function and loader in the place of ours.</param>
    /// <param name="cancellationToken">Ends the start.</param>
    public static async Task<PipelineUnderTest> StartAsync(StageContext context, string name, bool isBaseline, CancellationToken cancellationToken)
    {
        var servers = await context.ServersAsync(cancellationToken);
        await servers.KeepCommitTimesAsync(cancellationToken);
        await servers.CreateDatabaseAsync(name, template: "template0", cancellationToken);
        var connectionString = servers.ConnectionString(name);
        var pipeline = new PipelineUnderTest(isBaseline, NpgsqlDataSource.Create(connectionString));
        try
        {
            var bucket = $"bench-{name}";
            using var s3 = servers.S3Client();
            await s3.PutBucketAsync(bucket, cancellationToken);

            var emulator = $"127.0.0.1:{LoopbackPorts.Free()}";
            var environment = new Dictionary<string, string>
            {
                ["AWS_REGION"] = LocalSettings.Region,
                ["AWS_ACCESS_KEY_ID"] = name,
                ["AWS_SECRET_ACCESS_KEY"] = name,
                ["AWS_ENDPOINT_URL_DYNAMODB"] = servers.DynamoDb.Url,
                ["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"] = servers.DynamoDb.Url,
                ["AWS_ENDPOINT_URL_S3"] = servers.S3.Url,
                ["AWS_ENDPOINT_URL_SQS"] = servers.S3.Url,
                [Names.Settings.BucketName] = bucket,
                [Names.Settings.PersonalDataKey] = "the key of the benchmarks, for personal data",
                [BaselineProcesses.Warehouse] = connectionString,
            };

            await StartAsync(
                "emulator",
                typeof(Emulator),
                [
                    "--template", Path.Combine(Repository.Root, "artifacts", "cdk.out", $"{Names.Stack}.template.json"),
                    "--state", context.NewFolder("emulator"), "--provision",
                ],
                new(environment) { ["ASPNETCORE_URLS"] = $"http://{emulator}" },
                new Uri($"http://{emulator}/health"));
            var loader = $"http://127.0.0.1:{LoopbackPorts.Free()}";
            await (isBaseline
                ? StartAsync("loader", typeof(BaselineProcesses), [BaselineProcesses.LoaderVerb], environment, health: null)
                : StartAsync("loader", typeof(LoaderOptions), [], new(environment) { ["ASPNETCORE_URLS"] = loader }, new Uri($"{loader}/health")));
            await StartAsync(
                "function",
                isBaseline ? typeof(BaselineProcesses) : typeof(ProcessOrders),
                isBaseline ? [BaselineProcesses.FunctionVerb] : [],
                new(environment) { ["AWS_LAMBDA_RUNTIME_API"] = $"{emulator}/{Names.Function}" },
                health: null);
            pipeline.Api = await ApiUnderTest.StartAsync(new Uri(servers.DynamoDb.Url), name, Names.Table, Names.IdempotencyTable, cancellationToken);
            pipeline._services.Add(pipeline.Api.Service);
            return pipeline;
        }
        catch
        {
            await pipeline.DisposeAsync();
            throw;
        }

        async Task StartAsync(string service, Type program, IEnumerable<string> arguments, Dictionary<string, string> settings, Uri? health) =>
            pipeline._services.Add(await ServiceUnderTest.StartAsync(service, program.Assembly.Location, arguments, settings, health, cancellationToken));
    }

    /// <summary>
    /// Waits until all of them can be seen in the table of orders, and tells when each could: the database keeps the time of every
    /// commit, so nobody has to look all the time, beside what is measured.
    /// </summary>
    /// <param name="written">The last write of each order: what came before it has left the table again.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public async Task<IReadOnlyList<Seen>> SeenAsync(IReadOnlyCollection<Written> written, CancellationToken cancellationToken)
    {
        for (var waited = Stopwatch.StartNew(); ; await Task.Delay(LookEvery, cancellationToken))
        {
            var seen = await LookAsync(written, cancellationToken);
            if (seen.Count == written.Count)
            {
                return seen;
            }

            foreach (var service in _services)
            {
                service.ThrowIfEnded();
            }

            if (waited.Elapsed > SeenWithin)
            {
                throw new TimeoutException(string.Create(
                    CultureInfo.InvariantCulture, $"{written.Count - seen.Count} of {written.Count} orders are not in the warehouse after {SeenWithin.TotalSeconds} s."));
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        // Backwards: none loses what it works with while it still runs.
        foreach (var service in _services.AsEnumerable().Reverse())
        {
            await service.DisposeAsync();
        }

        await Warehouse.DisposeAsync();
    }

    private async Task<List<Seen>> LookAsync(IReadOnlyCollection<Written> written, CancellationToken cancellationToken)
    {
        var table = _isBaseline ? "baseline_orders" : "orders";
        await using var query = Warehouse.CreateCommand($"""
            SELECT o.order_id, o.loaded_at, pg_xact_commit_timestamp(o.xmin)
            FROM unnest($1, $2) AS w (order_id, version)
            JOIN {table} o ON o.order_id = w.order_id AND o.version = w.version
            """);
        query.Parameters.Add(new() { Value = written.Select(write => write.OrderId).ToArray(), NpgsqlDbType = NpgsqlDbType.Array | NpgsqlDbType.Text });
        query.Parameters.Add(new() { Value = written.Select(write => write.Version).ToArray(), NpgsqlDbType = NpgsqlDbType.Array | NpgsqlDbType.Bigint });
        var byOrder = written.ToDictionary(write => write.OrderId, StringComparer.Ordinal);
        var seen = new List<Seen>();
        await using var rows = await query.ExecuteReaderAsync(cancellationToken);
        while (await rows.ReadAsync(cancellationToken))
        {
            seen.Add(new Seen(
                byOrder[rows.GetString(0)],
                rows.GetFieldValue<DateTimeOffset>(1),
                rows.GetFieldValue<DateTimeOffset>(2)));
        }

        return seen;
    }
}

internal static class Servers
{
    public static AmazonS3Client S3Client(this ServerSet servers) => new(
        new BasicAWSCredentials("bench", "bench"),
        new AmazonS3Config { ServiceURL = servers.S3.Url, AuthenticationRegion = LocalSettings.Region, ForcePathStyle = true });

    public static async Task CreateDatabaseAsync(this ServerSet servers, string name, string template, CancellationToken cancellationToken)
    {
        await using var server = NpgsqlDataSource.Create(servers.ConnectionString("postgres"));
        await using var create = server.CreateCommand($"CREATE DATABASE {name} TEMPLATE {template}");
        await create.ExecuteNonQueryAsync(cancellationToken);
    }

    /// <summary>The time of every commit, which PostgreSQL keeps only when it is told to at its start.</summary>
    public static async Task KeepCommitTimesAsync(this ServerSet servers, CancellationToken cancellationToken)
    {
        await using (var server = NpgsqlDataSource.Create(servers.ConnectionString("postgres")))
        {
            await using var asked = server.CreateCommand("SHOW track_commit_timestamp");
            if (await asked.ExecuteScalarAsync(cancellationToken) is "on")
            {
                return;
            }

            await using var setting = server.CreateCommand("ALTER SYSTEM SET track_commit_timestamp = on");
            await setting.ExecuteNonQueryAsync(cancellationToken);
        }

        await servers.Postgres.RestartAsync(cancellationToken);
    }
}
