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
        new("process_orders is bounded in memory, time and number",
            template => template.Has("AWS::Lambda::Function",
                $$"""
                {
                  "FunctionName": "{{Names.Function}}",
                  "Runtime": "dotnet10",
                  "Architectures": ["arm64"],
                  "Handler": "Pipeline.Processor",
                  "MemorySize": 1769,
                  "Timeout": 60,
                  "ReservedConcurrentExecutions": 20
                }
                """),
            new Mutant("the default timeout", Function, function => function.Remove("Timeout")),
            new Mutant("as many at once as the account has", Function, function => function.Remove("ReservedConcurrentExecutions"))),

        new("process_orders is told its bucket and where its key lies, but not the key",
            template => Assert.Equal(
                [$"{Names.Settings.BucketName}=${{ChangesBucket}}", $"{Names.Settings.PersonalDataSecretArn}=${{ProcessOrdersPersonalDataKey}}"],
                TemplateView.Lines(template[Function]["Environment"]!["Variables"]!)
                    .Where(line => !line.StartsWith("PARAMETERS_SECRETS_EXTENSION_", StringComparison.Ordinal)
                        && !line.StartsWith("SECRETS_MANAGER_T", StringComparison.Ordinal) && !line.StartsWith("SSM_", StringComparison.Ordinal))),
            new Mutant("a secret in the environment", Function, function => function["Environment"]!["Variables"]!["Password"] = "secret"),
            new Mutant("the key in the environment", Function, function => function["Environment"]!["Variables"]![Names.Settings.PersonalDataKey] =
                $"{{{{resolve:secretsmanager:{Names.PersonalDataSecret}:SecretString}}}}")),

        new("Personal data is protected with a key that nobody chose",
            template => template.Has("AWS::SecretsManager::Secret",
                $$"""{ "Name": "{{Names.PersonalDataSecret}}", "GenerateSecretString": { "PasswordLength": 64, "ExcludePunctuation": true } }"""),
            new Mutant("a known key", Key, secret =>
            {
                secret.Remove("GenerateSecretString");
                secret["SecretString"] = "secret";
            })),

        new("The key for personal data outlives the stack",
            template => Assert.Equal("Retain", (string?)template[Key].Parent!["DeletionPolicy"]),
            new Mutant("the key goes with its stack", Key, secret => secret.Parent!["DeletionPolicy"] = "Delete"))
        {
            OfProdOnly = true,
        },

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
            template => Assert.Equal(
                [
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
                    "StartingPosition=TRIM_HORIZON",
                ],
                TemplateView.Lines(template[Mapping])),
            new Mutant("no starting position", Mapping, mapping => mapping.Remove("StartingPosition")),
            new Mutant("start at the latest record", Mapping, mapping => mapping["StartingPosition"] = "LATEST"),
            new Mutant("the function's answers ignored", Mapping, mapping => mapping.Remove("FunctionResponseTypes")),
            new Mutant("given up after three attempts", Mapping, mapping => mapping["MaximumRetryAttempts"] = 3),
            new Mutant("no place for failures", Mapping, mapping => mapping.Remove("DestinationConfig"))),

        new("What was given up is kept as long as SQS allows",
            template => template.Has("AWS::SQS::Queue", $$"""{ "QueueName": "{{Names.FailureQueue}}", "MessageRetentionPeriod": 1209600 }"""),
            new Mutant("forgotten after four days", "ProcessOrdersFailures", queue => queue.Remove("MessageRetentionPeriod"))),
    ];
}
