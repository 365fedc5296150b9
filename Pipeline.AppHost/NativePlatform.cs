using Pipeline.Core;
using Pipeline.NativeServers;

namespace Pipeline.AppHost;

/// <summary>DynamoDB Local, an S3 and SQS server and PostgreSQL as plain processes; their data stays between runs.</summary>
internal static class NativePlatform
{
    // PostgreSQL after a crash replays its log before it lets anybody in.
    private static readonly TimeSpan WarehouseDeadline = TimeSpan.FromSeconds(60);

    private static FileStream? _inUse;

    public static Platform Add(IDistributedApplicationBuilder builder, string template, string dataDirectory, bool fresh)
    {
        _inUse = Lock(dataDirectory);
        if (fresh && Directory.Exists(dataDirectory))
        {
            Directory.Delete(dataDirectory, recursive: true);
        }

        var dynamoDb = builder.AddServer("dynamodb", DynamoDbLocal.Define(builder.Port("dynamodb", LocalSettings.DynamoDbPort), Path.Combine(dataDirectory, "dynamodb")))
            // An unsigned request is refused, by the server itself: it is up.
            .WithHttpHealthCheck("/", statusCode: 400);
        var s3 = builder.AddServer("s3", S3Server.Define(builder.Port("s3", LocalSettings.S3Port), Path.Combine(dataDirectory, "s3")))
            .WithHttpHealthCheck("/health");
        var (warehouseServer, warehouse) = AddWarehouse(builder, Path.Combine(dataDirectory, LocalSettings.WarehouseFolder));

        // IP addresses: with a name the SDK asks for bucket.localhost.
        var dynamoDbUrl = Url(dynamoDb);
        var s3Url = Url(s3);
        return new Platform
        {
            TemplateFile = template,
            EmulatorState = Path.Combine(dataDirectory, "lambda-emulator"),
            EmulatorArguments = ["--provision"],
            Environment = new Dictionary<string, ReferenceExpression>
            {
                ["AWS_ENDPOINT_URL_DYNAMODB"] = dynamoDbUrl,
                ["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"] = dynamoDbUrl,
                ["AWS_ENDPOINT_URL_S3"] = s3Url,
                ["AWS_ENDPOINT_URL_SQS"] = s3Url,
                ["AWS_REGION"] = ReferenceExpression.Create($"{LocalSettings.Region}"),
                ["AWS_ACCESS_KEY_ID"] = ReferenceExpression.Create($"{LocalSettings.AccessKey}"),
                ["AWS_SECRET_ACCESS_KEY"] = ReferenceExpression.Create($"{LocalSettings.AccessKey}"),
                [Names.Settings.TableName] = ReferenceExpression.Create($"{Names.Table}"),
                [Names.Settings.IdempotencyTableName] = ReferenceExpression.Create($"{Names.IdempotencyTable}"),
                [Names.Settings.BucketName] = ReferenceExpression.Create($"{Names.BucketFor(Names.LocalAccount, LocalSettings.Region)}"),
            },
            Servers = [dynamoDb, s3],
            Warehouse = warehouse,
            WarehouseServer = warehouseServer,
        };
    }

    /// <summary>
    /// Until this process ends. Two AppHosts over the same data (of another build configuration, on other ports) would
    /// write the same files, and <c>--fresh</c> would delete them under the other's servers.
    /// </summary>
    private static FileStream Lock(string dataDirectory)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(dataDirectory)!);
        try
        {
            return new FileStream($"{dataDirectory}.lock", FileMode.OpenOrCreate, FileAccess.Write, FileShare.None);
        }
        catch (IOException e)
        {
            throw new DistributedApplicationException($"Another AppHost uses the data in {dataDirectory}. Stop it first. ({e.Message})");
        }
    }

    private static (IResourceBuilder<ExecutableResource> Server, IResourceBuilder<ConnectionStringResource> ConnectionString) AddWarehouse(
        IDistributedApplicationBuilder builder, string dataDirectory)
    {
        PostgresServer.InitializeAsync(dataDirectory, LocalSettings.WarehouseDatabase).GetAwaiter().GetResult();
        var definition = PostgresServer.Define(builder.Port("warehouse-server", LocalSettings.WarehousePort), dataDirectory);
        var server = builder.AddExecutable(
                "warehouse-server", definition.Command.FileName, definition.Command.WorkingDirectory, [.. definition.Command.Arguments])
            .WithEndpoint(port: definition.Port, scheme: "tcp", name: "tcp", isProxied: false)
            // There is no HTTP to ask; whoever waits for it waits for this.
            .OnResourceReady((_, _, cancellationToken) => definition.WaitUntilReadyAsync(WarehouseDeadline, cancellationToken));
        var connectionString = PostgresServer.ConnectionString(definition.Port, dataDirectory, LocalSettings.WarehouseDatabase);
        var warehouse = builder.AddConnectionString("warehouse", ReferenceExpression.Create($"{connectionString}"))
            .WithParentRelationship(server);
        return (server, warehouse);
    }

    private static IResourceBuilder<ExecutableResource> AddServer(
        this IDistributedApplicationBuilder builder, string name, ServerDefinition definition) =>
        builder.AddExecutable(name, definition.Command.FileName, definition.Command.WorkingDirectory, [.. definition.Command.Arguments])
            .WithHttpEndpoint(port: definition.Port, isProxied: false);

    private static ReferenceExpression Url(IResourceBuilder<ExecutableResource> server)
    {
        var endpoint = server.GetEndpoint("http");
        return ReferenceExpression.Create($"http://{endpoint.Property(EndpointProperty.IPV4Host)}:{endpoint.Property(EndpointProperty.Port)}");
    }
}
