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
        new("No custom resource runs code of its own",
            template => Assert.DoesNotContain(template.Everything, r =>
                r.Type.StartsWith("Custom::", StringComparison.Ordinal) || r.Type == "AWS::CloudFormation::CustomResource"),
            new Mutant("the CDK's bucket notifications", "AlarmsTopicPolicy", policy => policy.Parent!["Type"] = "Custom::S3BucketNotifications")),

        new("No role may do something with everything, but for what knows no resource",
            template => Assert.All(template.All("AWS::IAM::Role"), role => Assert.Empty(
                template.RightsOf(role.Name)
                    .Where(right => TooMuch().IsMatch(right) && !right.StartsWith("not ", StringComparison.Ordinal))
                    .Except(OnEverything))),
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
            template => Assert.All(template.All("AWS::IAM::Role"), role => Assert.All(template.TakersOf(role.Name),
                taker => Assert.Matches(@"^\{Service=(lambda|redshift|vpc-flow-logs)\.amazonaws\.com\}", taker))),
            new Mutant("anybody", "ProcessOrdersRunRole", role => role["AssumeRolePolicyDocument"]!["Statement"]![0]!["Principal"] = "*")),

        new("Queues are encrypted, and talk TLS only",
            template =>
            {
                template.AllHave("AWS::SQS::Queue", """{ "SqsManagedSseEnabled": true }""");
                Assert.Equal(
                    template.All("AWS::SQS::Queue").Select(queue => $"not sqs:* on ${{{queue.Name}.Arn}} by {{AWS=*}} if {{Bool={{aws:SecureTransport=false}}}}").Order(),
                    template.All("AWS::SQS::QueuePolicy")
                        .SelectMany(policy => TemplateView.Statements(policy.Properties["PolicyDocument"]!))
                        .Where(statement => statement.StartsWith("not ", StringComparison.Ordinal)).Order());
            },
            new Mutant("no encryption", "ProcessOrdersFailures", queue => queue.Remove("SqsManagedSseEnabled")),
            new Mutant("plain HTTP for all but one caller", "LoaderFailuresPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!["Principal"]!["AWS"] = "arn:aws:iam::111111111111:root"),
            new Mutant("plain HTTP to a queue", "LoaderWakeUpsPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!.AsObject().Remove("Condition"))),

        new("Only EventBridge's rules of this stack write into queues",
            template => Assert.Equal(
                from way in new[] { (Queue: "AlarmsQuarantined", Rule: "AlarmsNewInQuarantine"), (Queue: "LoaderWakeUps", Rule: "LoaderNewChangeFile"), (Queue: "LoaderWakeUps", Rule: "LoaderSweep") }
                from action in new[] { "GetQueueAttributes", "GetQueueUrl", "SendMessage" }
                select $"sqs:{action} on ${{{way.Queue}.Arn}} by {{Service=events.amazonaws.com}} if {{ArnEquals={{aws:SourceArn=${{{way.Rule}.Arn}}}}}}" into line
                orderby line
                select line,
                template.All("AWS::SQS::QueuePolicy")
                    .SelectMany(policy => TemplateView.Statements(policy.Properties["PolicyDocument"]!))
                    .Where(statement => !statement.StartsWith("not ", StringComparison.Ordinal)).Order()),
            new Mutant("anybody who names the rule", "LoaderWakeUpsPolicy", policy => policy["PolicyDocument"]!["Statement"]![1]!["Principal"] = "*"),
            new Mutant("a queue that anybody may empty", "ProcessOrdersFailuresPolicy", policy => policy["PolicyDocument"]!["Statement"]!.AsArray().Add(new JsonObject
            {
                ["Effect"] = "Allow",
                ["Principal"] = "*",
                ["Action"] = "sqs:*",
                ["Resource"] = policy["PolicyDocument"]!["Statement"]![0]!["Resource"]!.DeepClone(),
            })),
            new Mutant("anybody's rule", "LoaderWakeUpsPolicy", policy => policy["PolicyDocument"]!["Statement"]![1]!.AsObject().Remove("Condition"))),

        new("Functions write into logs of their own, and are traced",
            template => Assert.All(template.All("AWS::Lambda::Function"), function =>
            {
                var logs = function.Name.Replace("Function", "Logs", StringComparison.Ordinal);
                Assert.Equal("{LogGroup=${" + logs + "}}", TemplateView.Render(function.Properties["LoggingConfig"]!));
                Assert.Equal($"/aws/lambda/{function.Properties["FunctionName"]}", (string)template[logs]["LogGroupName"]!);
                Assert.Equal("Active", (string)function.Properties["TracingConfig"]!["Mode"]!);
            }),
            new Mutant("no traces", "ProcessOrdersRunFunction", function => function.Remove("TracingConfig")),
            new Mutant("logs that Lambda makes, for ever", "LoaderRunFunction", function => function.Remove("LoggingConfig"))),

        new("Logs end after three months",
            template => template.AllHave("AWS::Logs::LogGroup", """{ "RetentionInDays": 90 }"""),
            new Mutant("logs for ever", "NetworkFlowLogs", logs => logs.Remove("RetentionInDays")))
        {
            OfProdOnly = true,
        },

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
                template.Root["Outputs"]!.AsObject().Select(output => $"{output.Key}={TemplateView.Render(output.Value!["Value"]!)}")),
            new Mutant("an output is gone", "OrdersTable", table => table.Root["Outputs"]!.AsObject().Remove("StreamArn"))),
    ];

    // Any resource, with or without a condition; any action, or any of a service; somebody else's policy.
    [GeneratedRegex(@" on \*( if |$)|^\* on |:\* on |^managed ")]
    private static partial Regex TooMuch();

    private static Regex Reference() => new(@"\$\{(?<name>[^.}]+)");
}
