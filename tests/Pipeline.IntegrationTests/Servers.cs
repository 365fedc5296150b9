using DotNet.Testcontainers.Builders;
using Pipeline.NativeServers;
using Testcontainers.LocalStack;
using Testcontainers.PostgreSql;

namespace Pipeline.IntegrationTests;

/// <summary>Where AWS and the warehouse are for a run of the tests.</summary>
internal abstract class Servers : IAsyncDisposable
{
    public abstract string DynamoDbUrl { get; }
    public abstract string S3Url { get; }
    public abstract string WarehouseConnectionString { get; }

    /// <summary>PostgreSQL, where it is a process of this machine that a test can kill and start again; null for a container.</summary>
    public virtual NativeServer? WarehouseServer => null;

    /// <summary>LocalStack through Testcontainers where a Docker engine answers, native processes elsewhere.</summary>
    public static async Task<Servers> StartAsync(string dataDirectory, CancellationToken cancellationToken) =>
        DockerAnswers()
            ? await ContainerServers.StartAsync(cancellationToken)
            : await NativeProcessServers.StartAsync(dataDirectory, cancellationToken);

    public abstract ValueTask DisposeAsync();

    private static bool DockerAnswers()
    {
        try
        {
            // Testcontainers looks for an engine in all the places that it knows; building throws when none answers.
            _ = new ContainerBuilder("hello-world").Build();
            return true;
        }
        catch (DockerUnavailableException)
        {
            return false;
        }
    }
}

internal sealed class NativeProcessServers : Servers
{
    private const string Database = "warehouse";

    private readonly List<NativeServer> _started = [];
    private string _postgresDirectory = "";

    public override string DynamoDbUrl => _started[0].Url;
    public override string S3Url => _started[1].Url;
    public override NativeServer? WarehouseServer => _started[2];
    public override string WarehouseConnectionString => PostgresServer.ConnectionString(_started[2].Port, _postgresDirectory, Database);

    public static new async Task<NativeProcessServers> StartAsync(string dataDirectory, CancellationToken cancellationToken)
    {
        var servers = new NativeProcessServers { _postgresDirectory = Path.Combine(dataDirectory, "postgres") };
        try
        {
            await PostgresServer.InitializeAsync(servers._postgresDirectory, Database, cancellationToken);
            foreach (var definition in new[]
            {
                DynamoDbLocal.Define(LoopbackPorts.Free(), dataDirectory: null),
                S3Server.Define(LoopbackPorts.Free(), Path.Combine(dataDirectory, "s3")),
                PostgresServer.Define(LoopbackPorts.Free(), servers._postgresDirectory),
            })
            {
                servers._started.Add(await NativeServer.StartAsync(definition, cancellationToken));
            }

            return servers;
        }
        catch
        {
            await servers.DisposeAsync();
            throw;
        }
    }

    public override async ValueTask DisposeAsync()
    {
        foreach (var server in _started)
        {
            await server.DisposeAsync();
        }
    }
}

internal sealed class ContainerServers(LocalStackContainer localStack, PostgreSqlContainer postgres) : Servers
{
    // The last release that runs without an account; later images exit unless LOCALSTACK_AUTH_TOKEN is set.
    private const string LocalStackImage = "localstack/localstack:4.14.0";
    private const string PostgresImage = "postgres:18";

    public override string DynamoDbUrl => localStack.GetConnectionString();
    public override string S3Url => localStack.GetConnectionString();
    public override string WarehouseConnectionString => postgres.GetConnectionString();

    public static async Task<ContainerServers> StartAsync(CancellationToken cancellationToken)
    {
        var servers = new ContainerServers(new LocalStackBuilder(LocalStackImage).Build(), new PostgreSqlBuilder(PostgresImage).Build());
        try
        {
            await servers.StartContainersAsync(cancellationToken);
            return servers;
        }
        catch
        {
            await servers.DisposeAsync();
            throw;
        }
    }

    private async Task StartContainersAsync(CancellationToken cancellationToken)
    {
        await localStack.StartAsync(cancellationToken);
        await postgres.StartAsync(cancellationToken);
    }

    public override async ValueTask DisposeAsync()
    {
        await localStack.DisposeAsync();
        await postgres.DisposeAsync();
    }
}
