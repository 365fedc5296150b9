using Amazon.CDK;
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
            // No bootstrap version parameter and rule: emulators of CloudFormation read neither.
            Synthesizer = new DefaultStackSynthesizer(new DefaultStackSynthesizerProps { GenerateBootstrapVersionRule = false }),
        })
    {
        var orders = new OrdersTable(this, "Orders");
        var changes = new ChangeBucket(this, "Changes");
        var process = new ProcessOrders(this, "ProcessOrders", new ProcessOrdersProps
        {
            Orders = orders.Table,
            Changes = changes.Bucket,
            Code = FunctionCode.Of("Pipeline.Processor", this, props.PublishedFunctions),
        });

        Output("TableName", orders.Table.TableName, "The table that the Orders API writes.");
        Output("StreamArn", orders.Table.TableStreamArn!, "The stream that the event source mapping reads.");
        Output("BucketName", changes.Bucket.BucketName, "Change files and quarantine.");
        Output("FailureQueueUrl", process.Failures.QueueUrl, "Which records of the stream were given up.");
    }

    private void Output(string name, string value, string description) =>
        _ = new CfnOutput(this, name, new CfnOutputProps { Value = value, Description = description });
}
