namespace Pipeline.NativeServers;

/// <summary>The three servers that a whole pipeline needs, each on a port of its own: DynamoDB Local, S3 with SQS, and PostgreSQL.</summary>
public sealed class ServerSet : IAsyncDisposable
{
    private const string Database = "warehouse";

    private readonly List<NativeServer> _started = [];
    private readonly string _postgresDirectory;

    private ServerSet(string postgresDirectory) => _postgresDirectory = postgresDirectory;

    public NativeServer DynamoDb => _started[0];
    public NativeServer S3 => _started[1];
    public NativeServer Postgres => _started[2];

    /// <summary>Of an empty database, without the warehouse's schema.</summary>
    public string WarehouseConnectionString => ConnectionString(Database);

    /// <param name="dataDirectory">Where objects and rows are kept; tables are kept in memory.</param>
    /// <param name="isShortLived">As for <see cref="DynamoDbLocal.Define"/>.</param>
    /// <param name="cancellationToken">Ends the wait; what is started by then is stopped.</param>
    /// <exception cref="PrerequisiteException">Something is not installed here; the message says what and how to get it.</exception>
    public static async Task<ServerSet> StartAsync(string dataDirectory, bool isShortLived, CancellationToken cancellationToken)
    {
        var set = new ServerSet(Path.Combine(dataDirectory, "postgres"));
        try
        {
            await PostgresServer.InitializeAsync(set._postgresDirectory, Database, cancellationToken);
            foreach (var definition in new[]
            {
                DynamoDbLocal.Define(LoopbackPorts.Free(), dataDirectory: null, isShortLived),
                S3Server.Define(LoopbackPorts.Free(), Path.Combine(dataDirectory, "s3")),
                PostgresServer.Define(LoopbackPorts.Free(), set._postgresDirectory),
            })
            {
                set._started.Add(await NativeServer.StartAsync(definition, cancellationToken));
            }

            return set;
        }
        catch
        {
            await set.DisposeAsync();
            throw;
        }
    }

    /// <summary>Of another database on the same server.</summary>
    public string ConnectionString(string database) => PostgresServer.ConnectionString(Postgres.Port, _postgresDirectory, database);

    public async ValueTask DisposeAsync()
    {
        foreach (var server in _started)
        {
            await server.DisposeAsync();
        }
    }
}
