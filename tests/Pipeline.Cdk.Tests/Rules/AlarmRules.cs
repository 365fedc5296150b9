using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Pipeline.Cdk.Tests.Rules;

internal static partial class AlarmRules
{
    public static IEnumerable<Rule> All { get; } =
    [
        new("These alarms go off, each to the topic",
            template =>
            {
                Assert.Equal(
                    [
                        "StreamIsBehind: AWS/Lambda IteratorAge of FunctionName ${ProcessOrdersRunFunction}, Maximum >= 60000, 3 of 3 minutes, else notBreaching",
                        "ProcessFails: AWS/Lambda Errors of FunctionName ${ProcessOrdersRunFunction}, Sum >= 1, 3 of 3 minutes, else notBreaching",
                        "ProcessIsThrottled: AWS/Lambda Throttles of FunctionName ${ProcessOrdersRunFunction}, Sum >= 1, 3 of 3 minutes, else notBreaching",
                        "RecordsWereGivenUp: AWS/SQS ApproximateNumberOfMessagesVisible of QueueName ${ProcessOrdersFailures.QueueName}, Maximum >= 1, 1 of 1 minutes, else notBreaching",
                        "QuarantineIsNotEmpty: AWS/SQS ApproximateNumberOfMessagesVisible of QueueName ${AlarmsQuarantined.QueueName}, Maximum >= 1, 1 of 1 minutes, else notBreaching",
                        "LoadLags: AWS/SQS ApproximateAgeOfOldestMessage of QueueName ${LoaderWakeUps.QueueName}, Maximum >= 300, 1 of 1 minutes, else notBreaching",
                        "LoadFails: AWS/Lambda Errors of FunctionName ${LoaderRunFunction}, Sum >= 1, 1 of 1 minutes, else notBreaching",
                        "LoadIsThrottled: AWS/Lambda Throttles of FunctionName ${LoaderRunFunction}, Sum >= 1, 1 of 1 minutes, else notBreaching",
                        "LoadsWereGivenUp: AWS/SQS ApproximateNumberOfMessagesVisible of QueueName ${LoaderFailures.QueueName}, Maximum >= 1, 1 of 1 minutes, else notBreaching",
                        "ApiFails: AWS/ApiGateway 5xx of ApiId ${OrdersApi}, Sum >= 5, 1 of 1 minutes, else notBreaching",
                        "ClusterIsUnhealthy: AWS/Redshift HealthStatus of ClusterIdentifier order-pipeline, Minimum < 1, 3 of 3 minutes, else breaching",
                        "ClusterIsFull: AWS/Redshift PercentageDiskSpaceUsed of ClusterIdentifier order-pipeline, Maximum >= 80, 1 of 1 minutes, else notBreaching",
                    ],
                    from alarm in template.All("AWS::CloudWatch::Alarm")
                    let p = alarm.Properties
                    let dimension = Assert.Single(p["Dimensions"]!.AsArray())
                    let compare = (string?)p["ComparisonOperator"] switch { "LessThanThreshold" => "<", "GreaterThanOrEqualToThreshold" => ">=", var other => other }
                    select $"{((string)p["AlarmName"]!).Replace("order-pipeline-", "", StringComparison.Ordinal)}: {p["Namespace"]} {p["MetricName"]} of " +
                        $"{dimension!["Name"]} {TemplateView.Render(dimension["Value"])}, {p["Statistic"]} {compare} {p["Threshold"]}, " +
                        $"{p["EvaluationPeriods"]} of {p["EvaluationPeriods"]} minutes, else {p["TreatMissingData"]}");
                Assert.All(template.All("AWS::CloudWatch::Alarm"), alarm => Assert.Equal(
                    ["AlarmActions=[${AlarmsTopic}]", "OKActions=[${AlarmsTopic}]", "Period=60"],
                    template.Whole(alarm.Name).Where(line => !Told().IsMatch(line))));
                Assert.All(template.All("AWS::CloudWatch::Alarm"), alarm => Assert.All(
                    alarm.Properties["Dimensions"]!.AsArray(), dimension => Assert.Equal(["Name", "Value"], dimension!.AsObject().Select(d => d.Key))));
            },
            new Mutant("minutes in a row with a failed load, which do not come", "AlarmsLoadFails", alarm => alarm["EvaluationPeriods"] = 3),
            new Mutant("a metric that there is not", "AlarmsLoadLags", alarm => alarm["Namespace"] = "AWS/Sqs"),
            new Mutant("a dimension that there is not", "AlarmsLoadLags", alarm => alarm["Dimensions"]![0]!["Name"] = "Queue"),
            new Mutant("switched off", "AlarmsStreamIsBehind", alarm => alarm["ActionsEnabled"] = false),
            new Mutant("nobody is told", "AlarmsStreamIsBehind", alarm => alarm.Remove("AlarmActions")),
            new Mutant("an hour behind is well", "AlarmsStreamIsBehind", alarm => alarm["Threshold"] = 3_600_000),
            new Mutant("a cluster that says nothing is well", "AlarmsClusterIsUnhealthy", alarm => alarm["TreatMissingData"] = "notBreaching"),
            new Mutant("no look at the quarantine", "AlarmsQuarantineIsNotEmpty", alarm => alarm.Parent!.Parent!.AsObject().Remove(alarm.Parent.GetPropertyName()))),

        new("What goes into the quarantine is on the operator's list",
            template =>
            {
                template.Is(
                    "AlarmsQuarantined",
                    "MessageRetentionPeriod=1209600",
                    "QueueName=process_orders-quarantined",
                    "SqsManagedSseEnabled=true",
                    "UpdateReplacePolicy=Delete",
                    "DeletionPolicy=Delete");
                template.Is(
                    "AlarmsNewInQuarantine",
                    "EventPattern={detail={bucket={name=[${ChangesBucket}]}, object={key=[{prefix=orders/quarantine/}]}}, detail-type=[Object Created], source=[aws.s3]}",
                    "State=ENABLED",
                    "Targets=[{Arn=${AlarmsQuarantined.Arn}, Id=Target0, RetryPolicy={MaximumEventAgeInSeconds=86400, MaximumRetryAttempts=185}}]");
            },
            new Mutant("the rule is switched off", "AlarmsNewInQuarantine", rule => rule["State"] = "DISABLED"),
            new Mutant("change files on the list", "AlarmsNewInQuarantine", rule => rule["EventPattern"]!["detail"]!["object"]!["key"]![0]!["prefix"] = "orders/")),

        new("Only CloudWatch of this account raises alarms on the topic",
            template =>
            {
                template.Is(
                    "AlarmsTopic",
                    "TopicName=order-pipeline-alarms");
                template.Is(
                    "AlarmsTopicPolicy",
                    "PolicyDocument: sns:Publish on ${AlarmsTopic} by {Service=cloudwatch.amazonaws.com} if {StringEquals={aws:SourceAccount=${AWS::AccountId}}}",
                    "PolicyDocument: not sns:Publish on ${AlarmsTopic} by * if {Bool={aws:SecureTransport=false}}",
                    "Topics=[${AlarmsTopic}]");
            },
            // CloudWatch may not use it, so that nobody would be told.
            new Mutant("the key that AWS keeps for SNS", "AlarmsTopic", topic => topic["KmsMasterKeyId"] = "alias/aws/sns"),
            new Mutant("anybody of this account", "AlarmsTopicPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!["Principal"] = "*"),
            new Mutant("anybody's CloudWatch", "AlarmsTopicPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!.AsObject().Remove("Condition"))),

        new("The dashboard follows an order through the pipeline",
            template =>
            {
                Assert.Equal(["DashboardName=order-pipeline"], template.Whole("AlarmsDashboard").Where(line => !line.StartsWith("DashboardBody=", StringComparison.Ordinal)));
                var body = JsonNode.Parse(TemplateView.Render(template["AlarmsDashboard"]["DashboardBody"]))!;
                Assert.Equal(
                    [
                        "1. Requests: Count of ${OrdersApi} Sum, 4xx of ${OrdersApi} Sum, 5xx of ${OrdersApi} Sum",
                        "Latency, p50 and p99 (ms): Latency of ${OrdersApi} p50, Latency of ${OrdersApi} p99",
                        "2. Age in the stream (ms): IteratorAge of ${ProcessOrdersRunFunction} Maximum",
                        "process_orders: Invocations of ${ProcessOrdersRunFunction} Sum, Errors of ${ProcessOrdersRunFunction} Sum, Duration of ${ProcessOrdersRunFunction} p99",
                        "3. Age of a wake-up (s): ApproximateAgeOfOldestMessage of ${LoaderWakeUps.QueueName} Maximum",
                        "load_orders: Invocations of ${LoaderRunFunction} Sum, Errors of ${LoaderRunFunction} Sum, Duration of ${LoaderRunFunction} p99",
                        "4. Cluster: CPUUtilization of order-pipeline Average, PercentageDiskSpaceUsed of order-pipeline Maximum, HealthStatus of order-pipeline Minimum",
                        "Waiting for an operator: ApproximateNumberOfMessagesVisible of ${ProcessOrdersFailures.QueueName} Maximum, ApproximateNumberOfMessagesVisible of ${AlarmsQuarantined.QueueName} Maximum, ApproximateNumberOfMessagesVisible of ${LoaderFailures.QueueName} Maximum",
                    ],
                    body["widgets"]!.AsArray().Select(widget => widget!["properties"]!).Select(graph =>
                        $"{graph["title"]}: {string.Join(", ", graph["metrics"]!.AsArray().Select(m => $"{m![1]} of {m[3]} {m[4]!["stat"] ?? "Average"}"))}"));
            },
            new Mutant("an empty dashboard", "AlarmsDashboard", dashboard => dashboard["DashboardBody"] = """{ "widgets": [] }""")),
    ];

    // What the rule's line of an alarm says.
    [GeneratedRegex("^(AlarmName|ComparisonOperator|Dimensions|EvaluationPeriods|MetricName|Namespace|Statistic|Threshold|TreatMissingData)=")]
    private static partial Regex Told();
}
