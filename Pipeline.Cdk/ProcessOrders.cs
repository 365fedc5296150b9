using Amazon.CDK;
using Amazon.CDK.AWS.DynamoDB;
using Amazon.CDK.AWS.Lambda;
using Amazon.CDK.AWS.Logs;
using Amazon.CDK.AWS.S3;
using Amazon.CDK.AWS.SecretsManager;
using Amazon.CDK.AWS.SQS;
using Constructs;

namespace Pipeline.Cdk;

public sealed record ProcessOrdersProps
{
    public required Table Orders { get; init; }
    public required Bucket Changes { get; init; }
    public required Code Code { get; init; }
    public required RetentionDays LogRetention { get; init; }
    public required int Concurrency { get; init; }

    /// <summary>Whether the key outlives the stack: without it nobody can tell any more whose the hashes are.</summary>
    public required bool Keep { get; init; }
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

        var personalData = new Secret(this, "PersonalDataKey", new SecretProps
        {
            SecretName = Names.PersonalDataSecret,
            Description = "The key that personal data is protected with before it leaves the table.",
            // 64 letters and digits are 380 bits.
            GenerateSecretString = new SecretStringGenerator { PasswordLength = 64, ExcludePunctuation = true },
            // A first deployment that fails takes it away again: the next one needs its name, and nothing was protected with it.
            RemovalPolicy = props.Keep ? RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE : RemovalPolicy.DESTROY,
        });

        Function = new PipelineFunction(this, "Run", new PipelineFunctionProps
        {
            Name = Names.Function,
            Description = "Stream batch to Parquet change file.",
            Code = props.Code,
            Handler = "Pipeline.Processor",
            // Lambda gives one whole vCPU at 1,769 MB; encoding a batch is bound by it.
            MemoryMegabytes = 1769,
            // A full batch takes about a second; a minute leaves room for S3's retries.
            Timeout = Duration.Seconds(60),
            ReservedConcurrency = props.Concurrency,
            LogRetention = props.LogRetention,
            SecretsExtension = ParamsAndSecretsLayerVersion.FromVersion(ParamsAndSecretsVersions.V1_0_103, new ParamsAndSecretsOptions
            {
                // A new key is in use everywhere after so long.
                SecretsManagerTtl = Duration.Minutes(5),
            }),
            Environment = new Dictionary<string, string>
            {
                [Names.Settings.BucketName] = props.Changes.BucketName,
                [Names.Settings.PersonalDataSecretArn] = personalData.SecretArn,
            },
            Rights =
            [
                // Any stream of this table: a stream that is switched off and on again has a new name.
                PipelineFunction.Allow(
                    ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"],
                    $"{props.Orders.TableArn}/stream/*"),
                PipelineFunction.Allow(
                    ["s3:PutObject"],
                    props.Changes.ArnForObjects($"{Names.ChangesPrefix}*"),
                    props.Changes.ArnForObjects($"{Names.QuarantinePrefix}*")),
                PipelineFunction.Allow(["sqs:SendMessage"], Failures.QueueArn),
                PipelineFunction.Allow(["secretsmanager:GetSecretValue"], personalData.SecretArn),
            ],
        }).Function;

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
}
