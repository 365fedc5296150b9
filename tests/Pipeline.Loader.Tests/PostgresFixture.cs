using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using Pipeline.Loader.Tests;
using Pipeline.NativeServers;

[assembly: AssemblyFixture(typeof(PostgresFixture))]

namespace Pipeline.Loader.Tests;

/// <summary>One PostgreSQL for all tests of this project, and a database for each test, copied from a migrated one.</summary>
public sealed class PostgresFixture : IAsyncLifetime
{
    private const string Migrated = "migrated";

    private readonly string _folder = Directory.CreateTempSubdirectory("loader-tests-").FullName;
    private readonly SemaphoreSlim _creating = new(1);
    private NativeServer? _server;
    private int _databases;

    public async ValueTask InitializeAsync()
    {
        await PostgresServer.InitializeAsync(_folder, Migrated);
        _server = await NativeServer.StartAsync(PostgresServer.Define(LoopbackPorts.Free(), _folder, isDurable: false));
        await using var database = Open(Migrated, pooling: false);
        await new Migrator(database, NullLogger<Migrator>.Instance).MigrateAsync(CancellationToken.None);
    }

    /// <summary>A database of the test's own with the schema in it, or an empty one.</summary>
    public async Task<NpgsqlDataSource> CreateDatabaseAsync(bool empty = false)
    {
        var name = $"test_{Interlocked.Increment(ref _databases)}";
        await _creating.WaitAsync();
        try
        {
            await using var server = Open("postgres", pooling: false);
            // Of the two ways to copy a template the cheaper one, as long as nothing waits for the disk.
            await using var create = server.CreateCommand($"CREATE DATABASE {name} TEMPLATE {(empty ? "template0" : Migrated)} STRATEGY FILE_COPY");
            await create.ExecuteNonQueryAsync();
        }
        finally
        {
            _creating.Release();
        }

        return Open(name, pooling: true);
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }

        _creating.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private NpgsqlDataSource Open(string database, bool pooling) => NpgsqlDataSource.Create(
        new NpgsqlConnectionStringBuilder(PostgresWarehouse.ConnectionString(PostgresServer.ConnectionString(_server!.Port, _folder, database)))
        {
            Pooling = pooling,
            // A program that a test starts connects with the very string.
            PersistSecurityInfo = true,
        });
}
