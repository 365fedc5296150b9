using Pipeline.Core;
using Pipeline.NativeServers;

namespace Pipeline.AppHost;

/// <summary>DynamoDB Local, an S3 and SQS server and PostgreSQL as plain processes; their data stays between runs.</summary>
internal static class NativePlatform
{
    // Alphanumeric: DynamoDB Local keeps one database per access key, and refuses other characters.
    private const string AccessKey = "local";

    private const string Database = "warehouse";

    // PostgreSQL after a crash replays its log before it lets anybody in.
    private static readonly TimeSpan WarehouseDeadline = TimeSpan.FromSeconds(60);

    public static Platform Add(IDistributedApplicationBuilder builder, string template, string dataDirectory, bool fresh)
    {
        if (fresh && Directory.Exists(dataDirectory))
        {
            Directory.Delete(dataDirectory, recursive: true);
        }

        var dynamoDb = builder.AddServer("dynamodb", DynamoDbLocal.Define(builder.Port("dynamodb", 18000), Path.Combine(dataDirectory, "dynamodb")))
            // An unsigned request is refused, by the server itself: it is up.
            .WithHttpHealthCheck("/", statusCode: 400);
        var s3 = builder.AddServer("s3", S3Server.Define(builder.Port("s3", 18001), Path.Combine(dataDirectory, "s3")))
            .WithHttpHealthCheck("/health");
        var (warehouseServer, warehouse) = AddWarehouse(builder, Path.Combine(dataDirectory, "warehouse"));

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
                ["AWS_REGION"] = ReferenceExpression.Create($"{Platform.Region}"),
                ["AWS_ACCESS_KEY_ID"] = ReferenceExpression.Create($"{AccessKey}"),
                ["AWS_SECRET_ACCESS_KEY"] = ReferenceExpression.Create($"{AccessKey}"),
                [Names.Settings.TableName] = ReferenceExpression.Create($"{Names.Table}"),
                [Names.Settings.BucketName] = ReferenceExpression.Create($"{Names.BucketFor(Names.LocalAccount, Platform.Region)}"),
            },
            Servers = [dynamoDb, s3],
            Warehouse = warehouse,
            WarehouseServer = warehouseServer,
        };
    }

    private static (IResourceBuilder<ExecutableResource> Server, IResourceBuilder<ConnectionStringResource> ConnectionString) AddWarehouse(
        IDistributedApplicationBuilder builder, string dataDirectory)
    {
        PostgresServer.InitializeAsync(dataDirectory, Database).GetAwaiter().GetResult();
        var definition = PostgresServer.Define(builder.Port("warehouse-server", 15432), dataDirectory);
        var server = builder.AddExecutable(
                "warehouse-server", definition.Command.FileName, definition.Command.WorkingDirectory, [.. definition.Command.Arguments])
            .WithEndpoint(port: definition.Port, scheme: "tcp", name: "tcp", isProxied: false)
            // There is no HTTP to ask; whoever waits for it waits for this.
            .OnResourceReady((_, _, cancellationToken) => definition.WaitUntilReadyAsync(WarehouseDeadline, cancellationToken));
        var connectionString = PostgresServer.ConnectionString(definition.Port, dataDirectory, Database);
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
