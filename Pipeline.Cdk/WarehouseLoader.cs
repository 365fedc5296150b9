using Amazon.CDK;
using Amazon.CDK.AWS.Events;
using Amazon.CDK.AWS.Events.Targets;
using Amazon.CDK.AWS.IAM;
using Amazon.CDK.AWS.Lambda;
using Amazon.CDK.AWS.Logs;
using Amazon.CDK.AWS.S3;
using Amazon.CDK.AWS.SQS;
using Constructs;

namespace Pipeline.Cdk;

public sealed record WarehouseLoaderProps
{
    public required Bucket Changes { get; init; }
    public required Network Network { get; init; }
    public required Warehouse Warehouse { get; init; }
    public required Code Code { get; init; }
    public required RetentionDays LogRetention { get; init; }
}

/// <summary>
/// The loader as a function: woken by every new change file, and every five minutes for whatever an event missed. A
/// wake-up carries no work: each load finds out by itself what is not loaded yet. All wake-ups share one group
/// of a FIFO queue, and SQS hands out a group's messages to one receiver at a time: so never two loads at once.
/// </summary>
public sealed class WarehouseLoader : Construct
{
    public const string FunctionName = "load_orders";
    public const string WakeUpQueue = "load_orders-wake-ups.fifo";
    public const string FailureQueue = "load_orders-failures.fifo";

    /// <summary>Of one invocation; Pipeline.Loader/WakeUp.cs knows it, too.</summary>
    private const int WakeUpsMax = 10;

    public Function Function { get; }
    public Queue WakeUps { get; }
    public Queue Failures { get; }

    public WarehouseLoader(Construct scope, string id, WarehouseLoaderProps props)
        : base(scope, id)
    {
        Failures = new Queue(this, "Failures", new QueueProps
        {
            QueueName = FailureQueue,
            Fifo = true,
            Encryption = QueueEncryption.SQS_MANAGED,
            EnforceSSL = true,
            RetentionPeriod = Duration.Days(14),
        });

        // Not longer, though Lambda would allow 15 minutes: until it is over a wake-up that failed is not seen again. A load
        // that does not end in it is tried again at half the size (Pipeline.Loader/WakeUp.cs).
        var timeout = Duration.Minutes(2);
        WakeUps = new Queue(this, "WakeUps", new QueueProps
        {
            QueueName = WakeUpQueue,
            Fifo = true,
            // EventBridge gives no deduplication id. A message holds the second of its event and nothing else, so of all the files
            // of a second one wakes the loader. It is handed out when that second is over: its load finds the others, too.
            ContentBasedDeduplication = true,
            DeliveryDelay = Duration.Seconds(1),
            Encryption = QueueEncryption.SQS_MANAGED,
            EnforceSSL = true,
            // How long the next attempt waits after a failed one. Longer than a load may take, or there could be two.
            VisibilityTimeout = timeout.Plus(Duration.Seconds(30)),
            // A wake-up of yesterday wakes nobody: the sweep has long been there.
            RetentionPeriod = Duration.Days(1),
            DeadLetterQueue = new DeadLetterQueue { Queue = Failures, MaxReceiveCount = 10 },
        });

        Function = new PipelineFunction(this, "Run", new PipelineFunctionProps
        {
            Name = FunctionName,
            Description = "Change files to warehouse.",
            Code = props.Code,
            Handler = "Pipeline.Loader",
            // Decoding change files and encoding what COPY reads takes one vCPU, as in process_orders.
            MemoryMegabytes = 1769,
            Timeout = timeout,
            // For whoever invokes it by hand while a wake-up is at work.
            ReservedConcurrency = 1,
            LogRetention = props.LogRetention,
            Vpc = props.Network.Vpc,
            SecurityGroup = props.Network.Loader,
            SecretsExtension = ParamsAndSecretsLayerVersion.FromVersion(ParamsAndSecretsVersions.V1_0_103, new ParamsAndSecretsOptions
            {
                SecretsManagerTtl = Duration.Minutes(5),
            }),
            Environment = new Dictionary<string, string>
            {
                [Names.Settings.BucketName] = props.Changes.BucketName,
                // Everything but the password, which the extension hands out at run time.
                ["ConnectionStrings__warehouse"] =
                    $"Host={props.Warehouse.Cluster.AttrEndpointAddress};Port={Warehouse.Port};Database={Warehouse.Database};" +
                    $"Username={Warehouse.LoaderUser};SSL Mode=VerifyFull;Server Compatibility Mode=Redshift",
                ["Pipeline__WarehouseSecretArn"] = props.Warehouse.LoaderSecret.SecretArn,
                ["Pipeline__WarehouseCopyRoleArn"] = props.Warehouse.CopyRole.RoleArn,
            },
            Rights =
            [
                PipelineFunction.Allow(
                    ["s3:GetObject"],
                    props.Changes.ArnForObjects($"{Names.ChangesPrefix}*"),
                    props.Changes.ArnForObjects($"{Names.QuarantinePrefix}*"),
                    // Before a change is parked: an operator may have discarded it.
                    props.Changes.ArnForObjects($"{Names.DiscardedPrefix}*")),
                // Without a condition on the prefix: a GET has none, and who may not list gets 403 for an object that is gone, not 404.
                PipelineFunction.Allow(["s3:ListBucket"], props.Changes.BucketArn),
                PipelineFunction.Allow(
                    ["s3:PutObject"], props.Changes.ArnForObjects($"{Names.ManifestsPrefix}*"), props.Changes.ArnForObjects($"{Names.QuarantinePrefix}*")),
                PipelineFunction.Allow(["secretsmanager:GetSecretValue"], props.Warehouse.LoaderSecret.SecretArn),
                PipelineFunction.Allow(["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"], WakeUps.QueueArn),
                .. NetworkInterfaces(),

                // What left the quarantine is in the warehouse, and the bucket keeps it as an old version for a month.
                PipelineFunction.Allow(["s3:DeleteObject"], props.Changes.ArnForObjects($"{Names.QuarantinePrefix}*")),
            ],
        }).Function;

        _ = new CfnEventSourceMapping(this, "Mapping", new CfnEventSourceMappingProps
        {
            FunctionName = Function.FunctionName,
            EventSourceArn = WakeUps.QueueArn,
            Enabled = true,
            // One load answers all the wake-ups that wait; ten is the most that FIFO queues allow.
            BatchSize = WakeUpsMax,
        });

        // The CDK's own flag for this adds a custom resource.
        ((CfnBucket)props.Changes.Node.DefaultChild!).AddPropertyOverride("NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", true);
        _ = new Rule(this, "NewChangeFile", new RuleProps
        {
            Description = "A change file was written.",
            EventPattern = ObjectCreated(props.Changes, Names.ChangesPrefix),
            Targets = [WakeUp()],
        });
        _ = new Rule(this, "Sweep", new RuleProps
        {
            Description = "Load what an event missed.",
            Schedule = Schedule.Rate(Duration.Minutes(5)),
            Targets = [WakeUp()],
        });
    }

    /// <summary>The event of S3 for a new object under the prefix.</summary>
    internal static EventPattern ObjectCreated(Bucket bucket, string prefix) => new()
    {
        Source = ["aws.s3"],
        DetailType = ["Object Created"],
        Detail = new Dictionary<string, object>
        {
            ["bucket"] = new Dictionary<string, object> { ["name"] = new object[] { bucket.BucketName } },
            ["object"] = new Dictionary<string, object>
            {
                ["key"] = new object[] { new Dictionary<string, object> { ["prefix"] = prefix } },
            },
        },
    };

    private SqsQueue WakeUp() => new(WakeUps, new SqsQueueProps
    {
        MessageGroupId = "load",
        Message = RuleTargetInput.FromEventPath("$.time"),
        // EventBridge's own bounds, both the highest.
        MaxEventAge = Duration.Hours(24),
        RetryAttempts = 185,
    });

    /// <summary>
    /// What the Lambda service needs to put a function into a VPC. The page "Giving Lambda functions access to
    /// resources in an Amazon VPC" says which of them cannot name a resource, and how to keep the function's own
    /// code from using them.
    /// </summary>
    private static IEnumerable<PolicyStatement> NetworkInterfaces()
    {
        string[] describe = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"];
        string[] change =
        [
            "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:UnassignPrivateIpAddresses",
        ];

        // Describing knows no resources.
        yield return PipelineFunction.Allow(describe, "*");
        yield return PipelineFunction.Allow(change, $"arn:{Aws.PARTITION}:ec2:{Aws.REGION}:{Aws.ACCOUNT_ID}:*/*");
        yield return new PolicyStatement(new PolicyStatementProps
        {
            Effect = Effect.DENY,
            Actions = [.. describe, .. change],
            // A prohibition is widest when it is safest.
            Resources = ["*"],
            Conditions = new Dictionary<string, object>
            {
                ["ArnEquals"] = new Dictionary<string, object>
                {
                    ["lambda:SourceFunctionArn"] = $"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:{Aws.ACCOUNT_ID}:function:{FunctionName}",
                },
            },
        });
    }
}
