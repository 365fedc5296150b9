using System.Text.Json.Nodes;

namespace Pipeline.Cdk.Tests.Rules;

internal static class ProcessRules
{
    private const string Function = "ProcessOrdersRunFunction";
    private const string Role = "ProcessOrdersRunRole";
    private const string Key = "ProcessOrdersPersonalDataKey";
    private const string Mapping = "ProcessOrdersMapping";

    public static IEnumerable<Rule> All { get; } =
    [
        new("process_orders is bounded, has its own role, and is told its bucket and where its key lies, but not the key",
            template => template.Is(
                Function,
                "Architectures=[arm64]",
                "Code={S3Bucket=cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}, S3Key=run-dotnet-publish-first/Pipeline.Processor.zip}",
                "Environment: Pipeline__BucketName=${ChangesBucket}",
                "Environment: Pipeline__PersonalDataSecretArn=${ProcessOrdersPersonalDataKey}",
                "Environment: PARAMETERS_SECRETS_EXTENSION_CACHE_ENABLED=true",
                "Environment: PARAMETERS_SECRETS_EXTENSION_CACHE_SIZE=1000",
                "Environment: PARAMETERS_SECRETS_EXTENSION_HTTP_PORT=2773",
                "Environment: PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL=info",
                "Environment: PARAMETERS_SECRETS_EXTENSION_MAX_CONNECTIONS=3",
                "Environment: SECRETS_MANAGER_TIMEOUT_MILLIS=0",
                "Environment: SECRETS_MANAGER_TTL=300",
                "Environment: SSM_PARAMETER_STORE_TIMEOUT_MILLIS=0",
                "Environment: SSM_PARAMETER_STORE_TTL=300",
                "FunctionName=process_orders",
                "Handler=Pipeline.Processor",
                "Layers=[{Fn::FindInMap=[ParamsandsecretslayerMap, ${AWS::Region}, 1x0x103xarm64]}]",
                "LoggingConfig={LogGroup=${ProcessOrdersRunLogs}}",
                "MemorySize=1769",
                "ReservedConcurrentExecutions=20",
                "Role=${ProcessOrdersRunRole.Arn}",
                "Runtime=dotnet10",
                "Timeout=60",
                "TracingConfig={Mode=Active}",
                "DependsOn=[ProcessOrdersRunRole]"),
            new Mutant("the default timeout", Function, function => function.Remove("Timeout")),
            new Mutant("as many at once as the account has", Function, function => function.Remove("ReservedConcurrentExecutions")),
            new Mutant("the loader's role", Function, function => function["Role"]!["Fn::GetAtt"]![0] = "LoaderRunRoleBA16DACA"),
            new Mutant("somebody's role for everything", Function, function => function["Role"] = "arn:aws:iam::111111111111:role/Admin"),
            new Mutant("another processor than the layer's", Function, function => function["Architectures"]![0] = "x86_64"),
            new Mutant("no traces", Function, function => function.Remove("TracingConfig")),
            new Mutant("a secret in the environment", Function, function => function["Environment"]!["Variables"]!["Password"] = "secret"),
            new Mutant("the key in the environment", Function, function => function["Environment"]!["Variables"]![Names.Settings.PersonalDataKey] =
                $"{{{{resolve:secretsmanager:{Names.PersonalDataSecret}:SecretString}}}}")),

        new("Personal data is protected with a key that nobody chose, and that outlives the stack, once that was created",
            template => template.Is(
                Key,
                "GenerateSecretString={ExcludePunctuation=true, PasswordLength=64}",
                "Name=order-pipeline/personal-data",
                "UpdateReplacePolicy=Retain",
                "DeletionPolicy=RetainExceptOnCreate"),
            new Mutant("a known key", Key, secret =>
            {
                secret.Remove("GenerateSecretString");
                secret["SecretString"] = "secret";
            }),
            new Mutant("encrypted with somebody else's key", Key, secret => secret["KmsKeyId"] = "arn:aws:kms:us-east-1:111111111111:key/1"),
            new Mutant("the key of a first deployment that failed is in the way of the next one", Key, secret => secret.Parent!["DeletionPolicy"] = "Retain"),
            new Mutant("the key goes with its stack", Key, secret => secret.Parent!["DeletionPolicy"] = "Delete")),

        new("process_orders may do exactly this",
            template => Assert.Equal(
                [
                    "dynamodb:DescribeStream on ${OrdersTable.Arn}/stream/*",
                    "dynamodb:GetRecords on ${OrdersTable.Arn}/stream/*",
                    "dynamodb:GetShardIterator on ${OrdersTable.Arn}/stream/*",
                    "dynamodb:ListStreams on ${OrdersTable.Arn}/stream/*",
                    "logs:CreateLogStream on ${ProcessOrdersRunLogs.Arn}",
                    "logs:PutLogEvents on ${ProcessOrdersRunLogs.Arn}",
                    $"s3:PutObject on ${{ChangesBucket.Arn}}/{Names.ChangesPrefix}*",
                    $"s3:PutObject on ${{ChangesBucket.Arn}}/{Names.QuarantinePrefix}*",
                    "secretsmanager:GetSecretValue on ${ProcessOrdersPersonalDataKey}",
                    "sqs:SendMessage on ${ProcessOrdersFailures.Arn}",
                    "xray:PutTelemetryRecords on *",
                    "xray:PutTraceSegments on *",
                ],
                template.RightsOf(Role)),
            new Mutant("the whole bucket", Role, role => Mutant.Statement(role, 3)["Resource"]![0]!["Fn::Join"]![1]![1] = "/*"),
            new Mutant("every action on the bucket", Role, role => Mutant.Statement(role, 3)["Action"] = "s3:*"),
            new Mutant("every queue", Role, role => Mutant.Statement(role, 4)["Resource"] = "*"),
            new Mutant("every secret", Role, role => Mutant.Statement(role, 5)["Resource"] = "*"),
            new Mutant("administrator", Role, role => role["ManagedPolicyArns"] = new JsonArray("arn:aws:iam::aws:policy/AdministratorAccess"))),

        new("Every setting of the stream's mapping is explicit",
            template => template.Is(
                Mapping,
                "BatchSize=1000",
                "BisectBatchOnFunctionError=true",
                "DestinationConfig={OnFailure={Destination=${ProcessOrdersFailures.Arn}}}",
                "Enabled=true",
                "EventSourceArn=${OrdersTable.StreamArn}",
                "FunctionName=${ProcessOrdersRunFunction}",
                "FunctionResponseTypes=[ReportBatchItemFailures]",
                "MaximumBatchingWindowInSeconds=0",
                "MaximumRecordAgeInSeconds=-1",
                "MaximumRetryAttempts=-1",
                "ParallelizationFactor=1",
                "StartingPosition=TRIM_HORIZON"),
            new Mutant("no starting position", Mapping, mapping => mapping.Remove("StartingPosition")),
            new Mutant("start at the latest record", Mapping, mapping => mapping["StartingPosition"] = "LATEST"),
            new Mutant("the function's answers ignored", Mapping, mapping => mapping.Remove("FunctionResponseTypes")),
            new Mutant("given up after three attempts", Mapping, mapping => mapping["MaximumRetryAttempts"] = 3),
            new Mutant("no place for failures", Mapping, mapping => mapping.Remove("DestinationConfig"))),

        new("What was given up is kept as long as SQS allows",
            template => template.Is(
                "ProcessOrdersFailures",
                "MessageRetentionPeriod=1209600",
                "QueueName=process_orders-failures",
                "SqsManagedSseEnabled=true",
                "UpdateReplacePolicy=Delete",
                "DeletionPolicy=Delete"),
            new Mutant("no encryption", "ProcessOrdersFailures", queue => queue.Remove("SqsManagedSseEnabled")),
            new Mutant("forgotten after four days", "ProcessOrdersFailures", queue => queue.Remove("MessageRetentionPeriod"))),
    ];
}
