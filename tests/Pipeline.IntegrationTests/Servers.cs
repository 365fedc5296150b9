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
            : new NativeProcessServers(await ServerSet.StartAsync(dataDirectory, isShortLived: true, cancellationToken));

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

internal sealed class NativeProcessServers(ServerSet servers) : Servers
{
    public override string DynamoDbUrl => servers.DynamoDb.Url;
    public override string S3Url => servers.S3.Url;
    public override NativeServer? WarehouseServer => servers.Postgres;
    public override string WarehouseConnectionString => servers.WarehouseConnectionString;

    public override ValueTask DisposeAsync() => servers.DisposeAsync();
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
