using Amazon.DynamoDBv2;
using Amazon.S3;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using Pipeline.Loader;
using Pipeline.NativeServers;
using Pipeline.Ops.Tests;

[assembly: AssemblyFixture(typeof(OpsServers))]

namespace Pipeline.Ops.Tests;

/// <summary>DynamoDB Local, an S3 server and PostgreSQL, once for all tests of this project; each test has a table, a bucket and a database of its own.</summary>
public sealed class OpsServers : IAsyncLifetime
{
    private const string AccessKey = "opsTests";
    private const string Region = "us-east-1";
    private const string Migrated = "migrated";

    /// <summary>For a process of its own: DynamoDB Local keeps the tables of each access key and region apart.</summary>
    internal static readonly IReadOnlyDictionary<string, string> Credentials = new Dictionary<string, string>
    {
        ["AWS_ACCESS_KEY_ID"] = AccessKey,
        ["AWS_SECRET_ACCESS_KEY"] = AccessKey,
        ["AWS_REGION"] = Region,
    };

    private readonly string _folder = Directory.CreateTempSubdirectory("ops-tests-").FullName;
    private readonly List<NativeServer> _started = [];
    private readonly SemaphoreSlim _creating = new(1);
    private int _worlds;

    public async ValueTask InitializeAsync()
    {
        await PostgresServer.InitializeAsync(_folder, Migrated);
        foreach (var definition in new[]
        {
            // A million orders, which take minutes, need the better compiler and collector.
            DynamoDbLocal.Define(LoopbackPorts.Free(), dataDirectory: null, isShortLived: Environment.GetEnvironmentVariable(ManyOrdersTests.CountSetting) is null),
            S3Server.Define(LoopbackPorts.Free(), dataDirectory: null),
            PostgresServer.Define(LoopbackPorts.Free(), _folder, isDurable: false),
        })
        {
            _started.Add(await NativeServer.StartAsync(definition));
        }

        await using var database = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(WarehouseOf(Migrated)) { Pooling = false });
        await new Migrator(database, NullLogger<Migrator>.Instance).MigrateAsync(CancellationToken.None);
    }

    /// <summary>A table, a bucket and a warehouse with its schema, all empty.</summary>
    internal async Task<World> CreateWorldAsync()
    {
        var name = $"world{Interlocked.Increment(ref _worlds)}";
        var received = new ReceivedBytes();
        var world = new World(name, DynamoDb(received), received, S3(), await CreateDatabaseAsync(name, empty: false), _folder);
        await world.CreateAsync();
        return world;
    }

    /// <summary>The connection string of a new database, with the schema or without.</summary>
    internal async Task<string> CreateDatabaseAsync(string name, bool empty)
    {
        // A template must not be in use, and CREATE DATABASE is in its way, too.
        await _creating.WaitAsync();
        try
        {
            await using var server = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(WarehouseOf("postgres")) { Pooling = false });
            // Of the two ways to copy a template the cheaper one, as long as nothing waits for the disk.
            await using var create = server.CreateCommand($"CREATE DATABASE {name} TEMPLATE {(empty ? "template0" : Migrated)} STRATEGY FILE_COPY");
            await create.ExecuteNonQueryAsync();
        }
        finally
        {
            _creating.Release();
        }

        return WarehouseOf(name);
    }

    public string DynamoDbUrl => _started[0].Url;
    public string S3Url => _started[1].Url;

    private HookedDynamoDb DynamoDb(ReceivedBytes received) => new(AccessKey, new AmazonDynamoDBConfig
    {
        ServiceURL = DynamoDbUrl,
        AuthenticationRegion = Region,
        HttpClientFactory = received,
        Timeout = TimeSpan.FromSeconds(60),
    });

    private AmazonS3Client S3() => new(AccessKey, AccessKey, new AmazonS3Config
    {
        ServiceURL = S3Url,
        AuthenticationRegion = Region,
        ForcePathStyle = true,
        Timeout = TimeSpan.FromSeconds(60),
    });

    private string WarehouseOf(string database) => PostgresServer.ConnectionString(_started[2].Port, _folder, database);

    public async ValueTask DisposeAsync()
    {
        foreach (var server in _started)
        {
            await server.DisposeAsync();
        }

        _creating.Dispose();
        Directory.Delete(_folder, recursive: true);
    }
}
