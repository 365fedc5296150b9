using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Pipeline.Cdk.Tests.Rules;

/// <summary>What is true of the stack as a whole, whatever is added to it.</summary>
internal static partial class StackRules
{
    private static readonly string[] LocalSlice = ["AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue"];

    /// <summary>The only rights on everything, because these actions know no resource.</summary>
    private static readonly string[] OnEverything =
    [
        "xray:PutTraceSegments on *", "xray:PutTelemetryRecords on *", "ec2:DescribeNetworkInterfaces on *", "ec2:DescribeSubnets on *",
    ];

    public static IEnumerable<Rule> All { get; } =
    [
        new("These are the resources",
            template => Assert.Equal(
                [
                    "AWS::ApiGatewayV2::Api: OrdersApi",
                    "AWS::ApiGatewayV2::Integration: OrdersApiIntegration",
                    "AWS::ApiGatewayV2::Route: OrdersApiRoute",
                    "AWS::ApiGatewayV2::Stage: OrdersApiStage",
                    "AWS::CloudWatch::Alarm: AlarmsStreamIsBehind, AlarmsProcessFails, AlarmsProcessIsThrottled, AlarmsRecordsWereGivenUp, AlarmsQuarantineIsNotEmpty, AlarmsLoadLags, AlarmsLoadFails, AlarmsLoadIsThrottled, AlarmsLoadsWereGivenUp, AlarmsApiFails, AlarmsClusterIsUnhealthy, AlarmsClusterIsFull",
                    "AWS::CloudWatch::Dashboard: AlarmsDashboard",
                    "AWS::DynamoDB::Table: OrdersTable, OrdersApiIdempotency",
                    "AWS::EC2::FlowLog: NetworkVpcFlowsFlowLog",
                    "AWS::EC2::RouteTable: NetworkVpcIsolatedSubnet1RouteTable, NetworkVpcIsolatedSubnet2RouteTable",
                    "AWS::EC2::SecurityGroup: NetworkLoaderGroup, NetworkWarehouseGroup, NetworkSecretsGroup",
                    "AWS::EC2::SecurityGroupEgress: NetworkLoaderGrouptoOrderPipelineNetworkWarehouseGroup1F07C2A05439, NetworkLoaderGrouptoOrderPipelineNetworkSecretsGroup06C9AE73443",
                    "AWS::EC2::SecurityGroupIngress: NetworkWarehouseGroupfromOrderPipelineNetworkLoaderGroup03E9563B5439, NetworkSecretsGroupfromOrderPipelineNetworkLoaderGroup03E9563B443",
                    "AWS::EC2::Subnet: NetworkVpcIsolatedSubnet1Subnet, NetworkVpcIsolatedSubnet2Subnet",
                    "AWS::EC2::SubnetRouteTableAssociation: NetworkVpcIsolatedSubnet1RouteTableAssociation, NetworkVpcIsolatedSubnet2RouteTableAssociation",
                    "AWS::EC2::VPC: NetworkVpc",
                    "AWS::EC2::VPCEndpoint: NetworkVpcS3, NetworkVpcDynamoDB, NetworkVpcSecretsManager",
                    "AWS::Events::Rule: LoaderNewChangeFile, LoaderSweep, AlarmsNewInQuarantine",
                    "AWS::IAM::Role: OrdersApiRunRole, ProcessOrdersRunRole, NetworkFlowLogsRole, WarehouseCopyRole, LoaderRunRole",
                    "AWS::Lambda::EventSourceMapping: ProcessOrdersMapping, LoaderMapping",
                    "AWS::Lambda::Function: OrdersApiRunFunction, ProcessOrdersRunFunction, LoaderRunFunction",
                    "AWS::Lambda::Permission: OrdersApiInvoke",
                    "AWS::Logs::LogGroup: OrdersApiRunLogs, OrdersApiAccessLogs, ProcessOrdersRunLogs, NetworkFlowLogs, Warehouseconnectionlog, Warehouseuserlog, Warehouseuseractivitylog, LoaderRunLogs",
                    "AWS::Redshift::Cluster: WarehouseCluster",
                    "AWS::Redshift::ClusterParameterGroup: WarehouseParameters",
                    "AWS::Redshift::ClusterSubnetGroup: WarehouseSubnets",
                    "AWS::S3::Bucket: ChangesAccessLogs, ChangesBucket",
                    "AWS::S3::BucketPolicy: ChangesAccessLogsPolicy, ChangesBucketPolicy",
                    "AWS::SNS::Topic: AlarmsTopic",
                    "AWS::SNS::TopicPolicy: AlarmsTopicPolicy",
                    "AWS::SQS::Queue: ProcessOrdersFailures, LoaderFailures, LoaderWakeUps, AlarmsQuarantined",
                    "AWS::SQS::QueuePolicy: ProcessOrdersFailuresPolicy, LoaderFailuresPolicy, LoaderWakeUpsPolicy, AlarmsQuarantinedPolicy",
                    "AWS::SecretsManager::Secret: OrdersApiCursorKey, ProcessOrdersPersonalDataKey, WarehouseLoaderSecret",
                    "AWS::SecretsManager::SecretTargetAttachment: WarehouseLoaderSecretTarget",
                ],
                template.Everything.GroupBy(r => r.Type).OrderBy(g => g.Key, StringComparer.Ordinal).Select(g => $"{g.Key}: {string.Join(", ", g.Select(r => r.Name))}")),
            new Mutant("a way in past the API", "OrdersApiInvoke", permission => permission.Parent!["Type"] = "AWS::Lambda::Url")),

        new("No custom resource runs code of its own",
            template => Assert.DoesNotContain(template.Everything, r =>
                r.Type.StartsWith("Custom::", StringComparison.Ordinal) || r.Type == "AWS::CloudFormation::CustomResource"),
            new Mutant("the CDK's bucket notifications", "AlarmsTopicPolicy", policy => policy.Parent!["Type"] = "Custom::S3BucketNotifications")),

        new("No policy of any resource lets somebody do something with everything, but for what knows no resource",
            template =>
            {
                Assert.Empty(template.EveryStatement.Where(right => TooMuch().IsMatch(right) && !right.StartsWith("not ", StringComparison.Ordinal)).Except(OnEverything));
                Assert.All(template.All("AWS::IAM::Role"), role => Assert.DoesNotContain(template.RightsOf(role.Name), right => right.StartsWith("managed ", StringComparison.Ordinal)));
            },
            new Mutant("a table that everybody may read", "OrdersTable", table => table["ResourcePolicy"] = new JsonObject { ["PolicyDocument"] = new JsonObject
            {
                ["Version"] = "2012-10-17",
                ["Statement"] = new JsonArray(new JsonObject
                {
                    ["Effect"] = "Allow",
                    ["Principal"] = new JsonObject { ["AWS"] = "*" },
                    ["Action"] = "dynamodb:GetItem",
                    ["Resource"] = "arn:aws:dynamodb:us-east-1:111111111111:table/OrdersTable",
                }),
            } }),
            new Mutant("a queue for everything", "LoaderFailuresPolicy", policy =>
            {
                policy["PolicyDocument"]!["Statement"]![0]!["Effect"] = "Allow";
                policy["PolicyDocument"]!["Statement"]![0]!["Action"] = "sqs:SendMessage";
                policy["PolicyDocument"]!["Statement"]![0]!["Resource"] = "*";
            }),
            new Mutant("everything, on a condition", "OrdersApiRunRole", role =>
            {
                Mutant.Statement(role, 3)["Resource"] = "*";
                Mutant.Statement(role, 3)["Condition"] = new JsonObject { ["Bool"] = new JsonObject { ["aws:SecureTransport"] = "true" } };
            }),
            new Mutant("every action there is", "OrdersApiRunRole", role => Mutant.Statement(role, 2)["Action"] = "*"),
            new Mutant("a role for everything", "OrdersApiRunRole", role => Mutant.Statement(role, 3)["Resource"] = "*"),
            new Mutant("every action on one table", "OrdersApiRunRole", role => Mutant.Statement(role, 2)["Action"] = "dynamodb:*"),
            new Mutant("a managed policy", "LoaderRunRole", role => role["ManagedPolicyArns"] = new JsonArray("arn:aws:iam::aws:policy/ReadOnlyAccess"))),

        new("Only AWS services take the roles",
            template => Assert.Equal(
                [
                    "OrdersApiRunRole: sts:AssumeRole by {Service=lambda.amazonaws.com}",
                    "ProcessOrdersRunRole: sts:AssumeRole by {Service=lambda.amazonaws.com}",
                    "NetworkFlowLogsRole: sts:AssumeRole by {Service=vpc-flow-logs.amazonaws.com} if {StringEquals={aws:SourceAccount=${AWS::AccountId}}}",
                    // Not every user of the cluster may borrow it.
                    "WarehouseCopyRole: sts:AssumeRole by {Service=redshift.amazonaws.com} if {StringEquals={sts:ExternalId=arn:${AWS::Partition}:redshift:${AWS::Region}:${AWS::AccountId}:dbuser:order-pipeline/loader}}",
                    "LoaderRunRole: sts:AssumeRole by {Service=lambda.amazonaws.com}",
                ],
                template.All("AWS::IAM::Role").SelectMany(role => TemplateView.Statements(role.Properties["AssumeRolePolicyDocument"]).Select(taker => $"{role.Name}: {taker}"))),
            new Mutant("every user of every cluster", "WarehouseCopyRole", role => role["AssumeRolePolicyDocument"]!["Statement"]![0]!.AsObject().Remove("Condition")),
            new Mutant("anybody", "ProcessOrdersRunRole", role => role["AssumeRolePolicyDocument"]!["Statement"]![0]!["Principal"] = "*")),

        new("Queues talk TLS only, and only EventBridge's rules of this stack write into them",
            template => template.Are(
                "AWS::SQS::QueuePolicy",
                "ProcessOrdersFailuresPolicy: PolicyDocument: not sqs:* on ${ProcessOrdersFailures.Arn} by {AWS=*} if {Bool={aws:SecureTransport=false}}, Queues=[${ProcessOrdersFailures}]",
                "LoaderFailuresPolicy: PolicyDocument: not sqs:* on ${LoaderFailures.Arn} by {AWS=*} if {Bool={aws:SecureTransport=false}}, Queues=[${LoaderFailures}]",
                "LoaderWakeUpsPolicy: PolicyDocument: not sqs:* on ${LoaderWakeUps.Arn} by {AWS=*} if {Bool={aws:SecureTransport=false}}, PolicyDocument: sqs:SendMessage on ${LoaderWakeUps.Arn} by {Service=events.amazonaws.com} if {ArnEquals={aws:SourceArn=${LoaderNewChangeFile.Arn}}}, PolicyDocument: sqs:GetQueueAttributes on ${LoaderWakeUps.Arn} by {Service=events.amazonaws.com} if {ArnEquals={aws:SourceArn=${LoaderNewChangeFile.Arn}}}, PolicyDocument: sqs:GetQueueUrl on ${LoaderWakeUps.Arn} by {Service=events.amazonaws.com} if {ArnEquals={aws:SourceArn=${LoaderNewChangeFile.Arn}}}, PolicyDocument: sqs:SendMessage on ${LoaderWakeUps.Arn} by {Service=events.amazonaws.com} if {ArnEquals={aws:SourceArn=${LoaderSweep.Arn}}}, PolicyDocument: sqs:GetQueueAttributes on ${LoaderWakeUps.Arn} by {Service=events.amazonaws.com} if {ArnEquals={aws:SourceArn=${LoaderSweep.Arn}}}, PolicyDocument: sqs:GetQueueUrl on ${LoaderWakeUps.Arn} by {Service=events.amazonaws.com} if {ArnEquals={aws:SourceArn=${LoaderSweep.Arn}}}, Queues=[${LoaderWakeUps}]",
                "AlarmsQuarantinedPolicy: PolicyDocument: not sqs:* on ${AlarmsQuarantined.Arn} by {AWS=*} if {Bool={aws:SecureTransport=false}}, PolicyDocument: sqs:SendMessage on ${AlarmsQuarantined.Arn} by {Service=events.amazonaws.com} if {ArnEquals={aws:SourceArn=${AlarmsNewInQuarantine.Arn}}}, PolicyDocument: sqs:GetQueueAttributes on ${AlarmsQuarantined.Arn} by {Service=events.amazonaws.com} if {ArnEquals={aws:SourceArn=${AlarmsNewInQuarantine.Arn}}}, PolicyDocument: sqs:GetQueueUrl on ${AlarmsQuarantined.Arn} by {Service=events.amazonaws.com} if {ArnEquals={aws:SourceArn=${AlarmsNewInQuarantine.Arn}}}, Queues=[${AlarmsQuarantined}]"),
            new Mutant("plain HTTP for all but one caller", "LoaderFailuresPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!["Principal"]!["AWS"] = "arn:aws:iam::111111111111:root"),
            new Mutant("plain HTTP to a queue", "LoaderWakeUpsPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!.AsObject().Remove("Condition")),
            new Mutant("anybody who names the rule", "LoaderWakeUpsPolicy", policy => policy["PolicyDocument"]!["Statement"]![1]!["Principal"] = "*"),
            new Mutant("a queue that anybody may empty", "ProcessOrdersFailuresPolicy", policy => policy["PolicyDocument"]!["Statement"]!.AsArray().Add(new JsonObject
            {
                ["Effect"] = "Allow",
                ["Principal"] = "*",
                ["Action"] = "sqs:*",
                ["Resource"] = policy["PolicyDocument"]!["Statement"]![0]!["Resource"]!.DeepClone(),
            })),
            new Mutant("anybody's rule", "LoaderWakeUpsPolicy", policy => policy["PolicyDocument"]!["Statement"]![1]!.AsObject().Remove("Condition"))),

        new("Logs end after three months",
            template => template.Are(
                "AWS::Logs::LogGroup",
                "OrdersApiRunLogs: LogGroupName=/aws/lambda/orders_api, RetentionInDays=90, UpdateReplacePolicy=Delete, DeletionPolicy=Delete",
                "OrdersApiAccessLogs: LogGroupName=/aws/apigateway/orders, RetentionInDays=90, UpdateReplacePolicy=Delete, DeletionPolicy=Delete",
                "ProcessOrdersRunLogs: LogGroupName=/aws/lambda/process_orders, RetentionInDays=90, UpdateReplacePolicy=Delete, DeletionPolicy=Delete",
                "NetworkFlowLogs: LogGroupName=/order-pipeline/network-flows, RetentionInDays=90, UpdateReplacePolicy=Delete, DeletionPolicy=Delete",
                "Warehouseconnectionlog: LogGroupName=/aws/redshift/cluster/order-pipeline/connectionlog, RetentionInDays=90, UpdateReplacePolicy=Delete, DeletionPolicy=Delete",
                "Warehouseuserlog: LogGroupName=/aws/redshift/cluster/order-pipeline/userlog, RetentionInDays=90, UpdateReplacePolicy=Delete, DeletionPolicy=Delete",
                "Warehouseuseractivitylog: LogGroupName=/aws/redshift/cluster/order-pipeline/useractivitylog, RetentionInDays=90, UpdateReplacePolicy=Delete, DeletionPolicy=Delete",
                "LoaderRunLogs: LogGroupName=/aws/lambda/load_orders, RetentionInDays=90, UpdateReplacePolicy=Delete, DeletionPolicy=Delete"),
            new Mutant("logs for ever", "NetworkFlowLogs", logs => logs.Remove("RetentionInDays"))),

        new("The local slice has these names, and refers to nothing outside itself",
            template =>
            {
                var slice = template.Everything.Where(r => LocalSlice.Contains(r.Type)).ToList();
                Assert.Equal(
                    [
                        Names.Table,
                        Names.IdempotencyTable,
                        "order-pipeline-${AWS::AccountId}-${AWS::Region}-access-logs",
                        Names.BucketFor("${AWS::AccountId}", "${AWS::Region}"),
                        Names.FailureQueue,
                        "load_orders-failures.fifo",
                        "load_orders-wake-ups.fifo",
                        "process_orders-quarantined",
                    ],
                    slice.Select(r => TemplateView.Render((r.Properties["TableName"] ?? r.Properties["BucketName"] ?? r.Properties["QueueName"])!)));
                Assert.All(slice, r => Assert.All(
                    Reference().Matches(TemplateView.Render(r.Properties)).Select(match => match.Groups["name"].Value),
                    name => Assert.True(name is "AWS::AccountId" or "AWS::Region" || slice.Any(other => other.Name == name), $"{r.Name} refers to {name}.")));
            },
            new Mutant("a queue without a name", "ProcessOrdersFailures", queue => queue["QueueName"] = "failures"),
            new Mutant("a queue that refers to a role", "ProcessOrdersFailures",
                queue => queue["RedriveAllowPolicy"] = new JsonObject { ["Ref"] = "ProcessOrdersRunRole01E6FBA3" })),

        new("The outputs name what operators need",
            template => Assert.Equal(
                [
                    "TableName=${OrdersTable}",
                    "StreamArn=${OrdersTable.StreamArn}",
                    "BucketName=${ChangesBucket}",
                    "FailureQueueUrl=${ProcessOrdersFailures}",
                    "ApiUrl=https://${OrdersApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}",
                    "WarehouseLoaderSecretArn=${WarehouseLoaderSecret}",
                    "AlarmTopicArn=${AlarmsTopic}",
                ],
                from output in template.Root["Outputs"]!.AsObject()
                from line in TemplateView.Lines(output.Value)
                where !line.StartsWith("Description=", StringComparison.Ordinal)
                select line.Replace("Value=", $"{output.Key}=", StringComparison.Ordinal)),
            new Mutant("an output is gone", "OrdersTable", table => table.Root["Outputs"]!.AsObject().Remove("StreamArn"))),
    ];

    // Any resource, with or without a condition; any action, or any of a service; anybody, without a condition.
    [GeneratedRegex(@" on \*( by | if |$)|^\* on |:\* on | by (\*|\{AWS=\*\})$")]
    private static partial Regex TooMuch();

    private static Regex Reference() => new(@"\$\{(?<name>[^.}]+)");
}
