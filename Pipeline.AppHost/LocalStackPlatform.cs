using Amazon.CloudFormation;
using Amazon.Runtime;
using Pipeline.Core;
using Pipeline.NativeServers;

namespace Pipeline.AppHost;

/// <summary>
/// LocalStack and PostgreSQL as containers. They keep nothing: every run starts anew. Only the official packages can
/// start containers, so this file is compiled with them alone.
/// </summary>
internal sealed partial record Platform
{
    private const string LocalStackImage = "localstack/localstack";
    private const string LocalStackTag = "4.14.0";
    private const int LocalStackPort = 4566;

    // What LocalStack takes for the account 000000000000.
    private const string LocalStackKey = "test";

    static partial void IsOfficialSet(ref bool isOfficial) => isOfficial = true;

    static partial void AddLocalStack(IDistributedApplicationBuilder builder, string template, string dataDirectory, ref Platform? platform)
    {
        // Checkpoints of a stream that went away with its container would point nowhere.
        if (Directory.Exists(dataDirectory))
        {
            Directory.Delete(dataDirectory, recursive: true);
        }

        Directory.CreateDirectory(dataDirectory);
        var sliceFile = Path.Combine(dataDirectory, "local-slice.template.json");
        File.WriteAllText(sliceFile, LocalSlice.Of(File.ReadAllText(template)));

        // A fixed host port: the CloudFormation client below is made before the container is.
        var port = Port(builder, "localstack", LocalStackPort);
        var localStack = builder.AddContainer("localstack", LocalStackImage, LocalStackTag)
            .WithEnvironment("SERVICES", "cloudformation,dynamodb,dynamodbstreams,s3,sqs")
            .WithHttpEndpoint(port: port, targetPort: LocalStackPort)
            .WithHttpHealthCheck("/_localstack/health");
        var stack = builder.AddAWSCloudFormationTemplate("local-slice", sliceFile, Names.Stack)
            .WithReference(new AmazonCloudFormationClient(
                new BasicAWSCredentials(LocalStackKey, LocalStackKey),
                new AmazonCloudFormationConfig { ServiceURL = $"http://127.0.0.1:{port}", AuthenticationRegion = LocalSettings.Region }))
            .WaitFor(localStack);

        var warehouseServer = builder.AddPostgres("warehouse-server");
        var url = ReferenceExpression.Create($"http://127.0.0.1:{localStack.GetEndpoint("http").Property(EndpointProperty.Port)}");
        platform = new Platform
        {
            TemplateFile = template,
            EmulatorState = Path.Combine(dataDirectory, "lambda-emulator"),
            // CloudFormation has created them.
            EmulatorArguments = [],
            Environment = new Dictionary<string, ReferenceExpression>
            {
                ["AWS_ENDPOINT_URL_DYNAMODB"] = url,
                ["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"] = url,
                ["AWS_ENDPOINT_URL_S3"] = url,
                ["AWS_ENDPOINT_URL_SQS"] = url,
                ["AWS_REGION"] = ReferenceExpression.Create($"{LocalSettings.Region}"),
                ["AWS_ACCESS_KEY_ID"] = ReferenceExpression.Create($"{LocalStackKey}"),
                ["AWS_SECRET_ACCESS_KEY"] = ReferenceExpression.Create($"{LocalStackKey}"),
                [Names.Settings.TableName] = ReferenceExpression.Create($"{stack.GetOutput("TableName")}"),
                [Names.Settings.IdempotencyTableName] = ReferenceExpression.Create($"{Names.IdempotencyTable}"),
                [Names.Settings.BucketName] = ReferenceExpression.Create($"{stack.GetOutput("BucketName")}"),
            },
            Servers = [localStack, stack],
            Warehouse = warehouseServer.AddDatabase(LocalSettings.WarehouseDatabase),
            WarehouseServer = warehouseServer,
        };
    }
}
