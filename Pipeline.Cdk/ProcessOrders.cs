using Amazon.CDK;
using Amazon.CDK.AWS.DynamoDB;
using Amazon.CDK.AWS.IAM;
using Amazon.CDK.AWS.Lambda;
using Amazon.CDK.AWS.Logs;
using Amazon.CDK.AWS.S3;
using Amazon.CDK.AWS.SQS;
using Constructs;

namespace Pipeline.Cdk;

public sealed record ProcessOrdersProps
{
    public required Table Orders { get; init; }
    public required Bucket Changes { get; init; }
    public required Code Code { get; init; }
}

/// <summary>
/// The function that turns a batch of the stream into a change file, and the mapping that feeds it. Why each
/// setting of the mapping has its value: docs/decisions/0006-infrastructure.md.
/// </summary>
public sealed class ProcessOrders : Construct
{
    /// <summary>Which records were given up: shard and sequence numbers, not the records themselves.</summary>
    public Queue Failures { get; }

    public Function Function { get; }

    public ProcessOrders(Construct scope, string id, ProcessOrdersProps props)
        : base(scope, id)
    {
        Failures = new Queue(this, "Failures", new QueueProps
        {
            QueueName = Names.FailureQueue,
            Encryption = QueueEncryption.SQS_MANAGED,
            EnforceSSL = true,
            // The longest that SQS offers.
            RetentionPeriod = Duration.Days(14),
        });

        var logs = new LogGroup(this, "Logs", new LogGroupProps
        {
            LogGroupName = $"/aws/lambda/{Names.Function}",
            Retention = RetentionDays.ONE_MONTH,
            RemovalPolicy = RemovalPolicy.DESTROY,
        });

        Function = new Function(this, "Function", new FunctionProps
        {
            FunctionName = Names.Function,
            Description = "Stream batch to Parquet change file.",
            Runtime = new Runtime("dotnet10", RuntimeFamily.DOTNET_CORE),
            Architecture = Architecture.ARM_64,
            Handler = "Pipeline.Processor",
            Code = props.Code,
            // Lambda gives one whole vCPU at 1,769 MB; encoding a batch is bound by it.
            MemorySize = 1769,
            // A full batch takes about a second; a minute leaves room for S3's retries.
            Timeout = Duration.Seconds(60),
            LogGroup = logs,
            Role = Role(props, logs),
            Environment = new Dictionary<string, string> { [Names.Settings.BucketName] = props.Changes.BucketName },
        });

        // The L2 DynamoEventSource cannot say "retry until the record expires" and grants more than is needed.
        _ = new CfnEventSourceMapping(this, "Mapping", new CfnEventSourceMappingProps
        {
            FunctionName = Function.FunctionName,
            EventSourceArn = props.Orders.TableStreamArn,
            Enabled = true,
            StartingPosition = "TRIM_HORIZON",
            BatchSize = 1000,
            MaximumBatchingWindowInSeconds = 0,
            ParallelizationFactor = 1,
            BisectBatchOnFunctionError = true,
            FunctionResponseTypes = ["ReportBatchItemFailures"],
            MaximumRetryAttempts = -1,
            MaximumRecordAgeInSeconds = -1,
            DestinationConfig = new CfnEventSourceMapping.DestinationConfigProperty
            {
                OnFailure = new CfnEventSourceMapping.OnFailureProperty { Destination = Failures.QueueArn },
            },
        });
    }

    // Written out instead of granted: what the function may do is what stands here, and nothing is added to it.
    private IRole Role(ProcessOrdersProps props, LogGroup logs)
    {
        var role = new Role(this, "Role", new RoleProps
        {
            AssumedBy = new ServicePrincipal("lambda.amazonaws.com"),
            InlinePolicies = new Dictionary<string, PolicyDocument>
            {
                ["process_orders"] = new PolicyDocument(new PolicyDocumentProps
                {
                    Statements =
                    [
                        Allow(["logs:CreateLogStream", "logs:PutLogEvents"], logs.LogGroupArn),
                        // Any stream of this table: a stream that is switched off and on again has a new name.
                        Allow(
                            ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"],
                            $"{props.Orders.TableArn}/stream/*"),
                        Allow(
                            ["s3:PutObject"],
                            props.Changes.ArnForObjects($"{Names.ChangesPrefix}*"),
                            props.Changes.ArnForObjects($"{Names.QuarantinePrefix}*")),
                        Allow(["sqs:SendMessage"], Failures.QueueArn),
                    ],
                }),
            },
        });
        return role.WithoutPolicyUpdates();
    }

    private static PolicyStatement Allow(string[] actions, params string[] resources) =>
        new(new PolicyStatementProps { Actions = actions, Resources = resources });
}
