using Amazon.CDK;
using Amazon.CDK.AWS.Logs;
using Constructs;

namespace Pipeline.Cdk;

/// <summary>
/// The one definition of the infrastructure. On AWS the whole template is deployed; locally its tables, buckets
/// and queues are created and the event source mapping is emulated, with the settings that stand here.
/// </summary>
public sealed class PipelineStack : Stack
{
    public PipelineStack(Construct scope, string id, PipelineStackProps props)
        : base(scope, id, new StackProps
        {
            Description = "Orders from DynamoDB to the warehouse, through a stream, a function and S3.",
            TerminationProtection = props.IsProd,
            // No bootstrap version parameter and rule: emulators of CloudFormation read neither.
            Synthesizer = new DefaultStackSynthesizer(new DefaultStackSynthesizerProps { GenerateBootstrapVersionRule = false }),
        })
    {
        var logRetention = props.IsProd ? RetentionDays.THREE_MONTHS : RetentionDays.ONE_WEEK;

        // The table and its API.
        var orders = new OrdersTable(this, "Orders", keep: props.IsProd);
        var api = new OrdersApi(this, "OrdersApi", new OrdersApiProps
        {
            Orders = orders.Table,
            Keep = props.IsProd,
            // Without an issuer the program does not start. `npm run deploy` says so at once, a bare `cdk deploy` with this key.
            Code = props is { PublishedFunctions: not null, Issuer: null }
                ? FunctionCode.Missing("Pipeline.OrdersApi", this, "set-jwtIssuer-and-jwtAudience-first")
                : FunctionCode.Of("Pipeline.OrdersApi", this, props, OrdersApi.StartScript),
            LogRetention = logRetention,
            RequestsPerSecond = props.ApiRequestsPerSecond,
            Issuer = props.Issuer,
        });

        // From the stream to change files.
        var changes = new ChangeBucket(this, "Changes", keep: props.IsProd);
        var process = new ProcessOrders(this, "ProcessOrders", new ProcessOrdersProps
        {
            Orders = orders.Table,
            Changes = changes.Bucket,
            Code = FunctionCode.Of("Pipeline.Processor", this, props),
            LogRetention = logRetention,
            Concurrency = props.ProcessConcurrency,
            Keep = props.IsProd,
        });

        // From change files to the warehouse.
        var network = new Network(this, "Network", new NetworkProps
        {
            Changes = changes.Bucket,
            Orders = orders.Table,
            LogRetention = logRetention,
            EndpointInEveryZone = props.IsProd,
        });
        var warehouse = new Warehouse(this, "Warehouse", new WarehouseProps
        {
            Network = network,
            Changes = changes.Bucket,
            NodeType = props.WarehouseNodeType,
            Nodes = props.WarehouseNodes,
            Keep = props.IsProd,
            LogRetention = logRetention,
        });
        network.LetThrough(warehouse.LoaderSecret);
        var loader = new WarehouseLoader(this, "Loader", new WarehouseLoaderProps
        {
            Changes = changes.Bucket,
            Network = network,
            Warehouse = warehouse,
            Code = FunctionCode.Of("Pipeline.Loader", this, props),
            LogRetention = logRetention,
        });

        // What somebody must look at.
        var alarms = new Alarms(this, "Alarms", new AlarmsProps
        {
            Emails = props.AlarmEmails,
            Changes = changes.Bucket,
            Process = process,
            Loader = loader,
            Api = api,
        });

        Output("TableName", orders.Table.TableName, "The table that the Orders API writes.");
        Output("StreamArn", orders.Table.TableStreamArn!, "The stream that the event source mapping reads.");
        Output("BucketName", changes.Bucket.BucketName, "Change files and quarantine.");
        Output("FailureQueueUrl", process.Failures.QueueUrl, "Which records of the stream were given up.");
        Output("ApiUrl", $"https://{api.Api.Ref}.execute-api.{Aws.REGION}.{Aws.URL_SUFFIX}", "The Orders API.");
        Output("WarehouseLoaderSecretArn", warehouse.LoaderSecret.SecretArn, "The loader's user of the warehouse.");
        Output("AlarmTopicArn", alarms.Topic.TopicArn, "Where alarms go.");
    }

    private void Output(string name, string value, string description) =>
        _ = new CfnOutput(this, name, new CfnOutputProps { Value = value, Description = description });
}
