namespace Pipeline.Cdk.Tests.Rules;

internal static class LoaderRules
{
    private const string Function = "LoaderRunFunction";
    private const string Role = "LoaderRunRole";
    private const string WakeUps = "LoaderWakeUps";

    public static IEnumerable<Rule> All { get; } =
    [
        new("load_orders runs in the network, one at a time, and knows where everything is, but no password",
            template => template.Is(
                Function,
                "Architectures=[arm64]",
                "Code={S3Bucket=cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}, S3Key=run-dotnet-publish-first/Pipeline.Loader.zip}",
                "Environment: Pipeline__BucketName=${ChangesBucket}",
                "Environment: ConnectionStrings__warehouse=Host=${WarehouseCluster.Endpoint.Address};Port=5439;Database=warehouse;Username=loader;SSL Mode=VerifyFull;Server Compatibility Mode=Redshift",
                "Environment: Pipeline__WarehouseSecretArn=${WarehouseLoaderSecret}",
                "Environment: Pipeline__WarehouseCopyRoleArn=${WarehouseCopyRole.Arn}",
                "Environment: PARAMETERS_SECRETS_EXTENSION_CACHE_ENABLED=true",
                "Environment: PARAMETERS_SECRETS_EXTENSION_CACHE_SIZE=1000",
                "Environment: PARAMETERS_SECRETS_EXTENSION_HTTP_PORT=2773",
                "Environment: PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL=info",
                "Environment: PARAMETERS_SECRETS_EXTENSION_MAX_CONNECTIONS=3",
                "Environment: SECRETS_MANAGER_TIMEOUT_MILLIS=0",
                "Environment: SECRETS_MANAGER_TTL=300",
                "Environment: SSM_PARAMETER_STORE_TIMEOUT_MILLIS=0",
                "Environment: SSM_PARAMETER_STORE_TTL=300",
                "FunctionName=load_orders",
                "Handler=Pipeline.Loader",
                "Layers=[{Fn::FindInMap=[ParamsandsecretslayerMap, ${AWS::Region}, 1x0x103xarm64]}]",
                "LoggingConfig={LogGroup=${LoaderRunLogs}}",
                "MemorySize=1769",
                "ReservedConcurrentExecutions=1",
                "Role=${LoaderRunRole.Arn}",
                "Runtime=dotnet10",
                "Timeout=120",
                "TracingConfig={Mode=Active}",
                "VpcConfig={SecurityGroupIds=[${NetworkLoaderGroup.GroupId}], SubnetIds=[${NetworkVpcIsolatedSubnet1Subnet}, ${NetworkVpcIsolatedSubnet2Subnet}]}",
                "DependsOn=[LoaderRunRole, NetworkVpcIsolatedSubnet1RouteTableAssociation, NetworkVpcIsolatedSubnet2RouteTableAssociation]"),
            new Mutant("two at once", Function, function => function["ReservedConcurrentExecutions"] = 2),
            new Mutant("outside the network", Function, function => function.Remove("VpcConfig")),
            new Mutant("another processor than the layer's", Function, function => function["Architectures"]![0] = "x86_64"),
            new Mutant("logs that Lambda makes, for ever", Function, function => function.Remove("LoggingConfig")),
            new Mutant("TLS that is not verified", Function, function => function["Environment"]!["Variables"]!["ConnectionStrings__warehouse"]!["Fn::Join"]![1]![2] = ";SSL Mode=Prefer"),
            new Mutant("a secret in the environment", Function, function => function["Environment"]!["Variables"]!["Password"] = "secret")),

        new("load_orders has the Secrets extension of AWS beside it, in every region",
            template =>
            {
                Assert.Equal("[{Fn::FindInMap=[ParamsandsecretslayerMap, ${AWS::Region}, 1x0x103xarm64]}]", TemplateView.Render(template[Function]["Layers"]));
                var regions = template.Root["Mappings"]!["ParamsandsecretslayerMap"]!.AsObject();
                Assert.Equal("arn:aws:lambda:us-east-1:177933569100:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:4", (string?)regions["us-east-1"]!["1x0x103xarm64"]);
                Assert.All(regions, region => Assert.Matches(
                    $@"^arn:aws[a-z-]*:lambda:{region.Key}:\d{{12}}:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:\d+$", (string?)region.Value!["1x0x103xarm64"]));
            },
            new Mutant("no extension", Function, function => function.Remove("Layers")),
            new Mutant("somebody else's layer", Function, function => function["Layers"]![0] = "arn:aws:lambda:us-east-1:111111111111:layer:Extension:1")),

        new("load_orders may do exactly this",
            template =>
            {
                const string itself = " if {ArnEquals={lambda:SourceFunctionArn=arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:load_orders}}";
                const string network = "arn:${AWS::Partition}:ec2:${AWS::Region}:${AWS::AccountId}:*/*";
                Assert.Equal(
                    [
                        $"ec2:AssignPrivateIpAddresses on {network}",
                        $"ec2:CreateNetworkInterface on {network}",
                        $"ec2:DeleteNetworkInterface on {network}",
                        "ec2:DescribeNetworkInterfaces on *",
                        "ec2:DescribeSubnets on *",
                        $"ec2:UnassignPrivateIpAddresses on {network}",
                        "logs:CreateLogStream on ${LoaderRunLogs.Arn}",
                        "logs:PutLogEvents on ${LoaderRunLogs.Arn}",
                        $"not ec2:AssignPrivateIpAddresses on *{itself}",
                        $"not ec2:CreateNetworkInterface on *{itself}",
                        $"not ec2:DeleteNetworkInterface on *{itself}",
                        $"not ec2:DescribeNetworkInterfaces on *{itself}",
                        $"not ec2:DescribeSubnets on *{itself}",
                        $"not ec2:UnassignPrivateIpAddresses on *{itself}",
                        $"s3:DeleteObject on ${{ChangesBucket.Arn}}/{Names.QuarantinePrefix}*",
                        $"s3:GetObject on ${{ChangesBucket.Arn}}/{Names.ChangesPrefix}*",
                        $"s3:GetObject on ${{ChangesBucket.Arn}}/{Names.DiscardedPrefix}*",
                        $"s3:GetObject on ${{ChangesBucket.Arn}}/{Names.QuarantinePrefix}*",
                        "s3:ListBucket on ${ChangesBucket.Arn}",
                        "s3:PutObject on ${ChangesBucket.Arn}/orders/manifests/*",
                        $"s3:PutObject on ${{ChangesBucket.Arn}}/{Names.QuarantinePrefix}*",
                        "secretsmanager:GetSecretValue on ${WarehouseLoaderSecret}",
                        "sqs:DeleteMessage on ${LoaderWakeUps.Arn}",
                        "sqs:GetQueueAttributes on ${LoaderWakeUps.Arn}",
                        "sqs:ReceiveMessage on ${LoaderWakeUps.Arn}",
                        "xray:PutTelemetryRecords on *",
                        "xray:PutTraceSegments on *",
                    ],
                    template.RightsOf(Role));
            },
            new Mutant("an object that is gone looks forbidden", Role, role => Mutant.Statement(role, 3)["Condition"] =
                new System.Text.Json.Nodes.JsonObject { ["StringLike"] = new System.Text.Json.Nodes.JsonObject { ["s3:prefix"] = "orders/*" } }),
            new Mutant("a discarded record cannot be read", Role, role => ((System.Text.Json.Nodes.JsonArray)Mutant.Statement(role, 2)["Resource"]!).RemoveAt(2)),
            new Mutant("every secret", Role, role => Mutant.Statement(role, 5)["Resource"] = "*"),
            new Mutant("may write change files", Role, role => Mutant.Statement(role, 4)["Resource"]![1] = Mutant.Statement(role, 2)["Resource"]![0]!.DeepClone()),
            new Mutant("may delete change files", Role, role => Mutant.Statement(role, 10)["Resource"] = Mutant.Statement(role, 2)["Resource"]![0]!.DeepClone()),
            new Mutant("its code may make network interfaces", Role, role => role["Policies"]![0]!["PolicyDocument"]!["Statement"]!.AsArray().RemoveAt(9))),

        new("Wake-ups stand in one line, and a failed one is seen again when its load is over",
            template =>
            {
                template.Is(
                    WakeUps,
                    "ContentBasedDeduplication=true",
                    "DelaySeconds=1",
                    "FifoQueue=true",
                    "MessageRetentionPeriod=86400",
                    "QueueName=load_orders-wake-ups.fifo",
                    "RedrivePolicy={deadLetterTargetArn=${LoaderFailures.Arn}, maxReceiveCount=10}",
                    "SqsManagedSseEnabled=true",
                    "VisibilityTimeout=150",
                    "UpdateReplacePolicy=Delete",
                    "DeletionPolicy=Delete");
                template.Is(
                    "LoaderFailures",
                    "FifoQueue=true",
                    "MessageRetentionPeriod=1209600",
                    "QueueName=load_orders-failures.fifo",
                    "SqsManagedSseEnabled=true",
                    "UpdateReplacePolicy=Delete",
                    "DeletionPolicy=Delete");
                template.Is(
                    "LoaderMapping",
                    "BatchSize=10",
                    "Enabled=true",
                    "EventSourceArn=${LoaderWakeUps.Arn}",
                    "FunctionName=${LoaderRunFunction}");
                Assert.True((int)template[WakeUps]["VisibilityTimeout"]! > (int)template[Function]["Timeout"]!, "A second load could start while the first still runs.");
            },
            new Mutant("handed out before the second of the file is over", WakeUps, queue => queue.Remove("DelaySeconds")),
            new Mutant("seen again while the load still runs", WakeUps, queue => queue["VisibilityTimeout"] = 30),
            new Mutant("no end to a failing wake-up", WakeUps, queue => queue.Remove("RedrivePolicy")),
            new Mutant("a mapping of something else", "LoaderMapping", mapping => mapping["EventSourceArn"] = mapping["FunctionName"]!.DeepClone())),

        new("A new change file wakes the loader, and so does the clock",
            template =>
            {
                template.Is(
                    "LoaderNewChangeFile",
                    "EventPattern={detail={bucket={name=[${ChangesBucket}]}, object={key=[{prefix=orders/changes/}]}}, detail-type=[Object Created], source=[aws.s3]}",
                    "State=ENABLED",
                    "Targets=[{Arn=${LoaderWakeUps.Arn}, Id=Target0, InputPath=$.time, RetryPolicy={MaximumEventAgeInSeconds=86400, MaximumRetryAttempts=185}, SqsParameters={MessageGroupId=load}}]");
                template.Is(
                    "LoaderSweep",
                    "ScheduleExpression=rate(5 minutes)",
                    "State=ENABLED",
                    "Targets=[{Arn=${LoaderWakeUps.Arn}, Id=Target0, InputPath=$.time, RetryPolicy={MaximumEventAgeInSeconds=86400, MaximumRetryAttempts=185}, SqsParameters={MessageGroupId=load}}]");
            },
            new Mutant("a wake-up for each of a thousand files", "LoaderNewChangeFile", rule => rule["Targets"]![0]!.AsObject().Remove("InputPath")),
            new Mutant("the quarantine wakes it", "LoaderNewChangeFile", rule => rule["EventPattern"]!["detail"]!["object"]!["key"]![0]!["prefix"] = "orders/quarantine/"),
            new Mutant("wake-ups in a line of their own", "LoaderSweep", rule => rule["Targets"]![0]!["SqsParameters"]!["MessageGroupId"] = "sweep"),
            new Mutant("no sweep", "LoaderSweep", rule => rule["State"] = "DISABLED")),
    ];
}
