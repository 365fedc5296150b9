namespace Pipeline.Cdk.Tests.Rules;

internal static class AlarmRules
{
    public static IEnumerable<Rule> All { get; } =
    [
        new("These alarms go off, each to the topic",
            template =>
            {
                Assert.Equal(
                    [
                        "StreamIsBehind: IteratorAge of ${ProcessOrdersRunFunction} Maximum >= 60000, 3 of 3 minutes, else notBreaching",
                        "ProcessFails: Errors of ${ProcessOrdersRunFunction} Sum >= 1, 3 of 3 minutes, else notBreaching",
                        "ProcessIsThrottled: Throttles of ${ProcessOrdersRunFunction} Sum >= 1, 3 of 3 minutes, else notBreaching",
                        "RecordsWereGivenUp: ApproximateNumberOfMessagesVisible of ${ProcessOrdersFailures.QueueName} Maximum >= 1, 1 of 1 minutes, else notBreaching",
                        "QuarantineIsNotEmpty: ApproximateNumberOfMessagesVisible of ${AlarmsQuarantined.QueueName} Maximum >= 1, 1 of 1 minutes, else notBreaching",
                        "LoadLags: ApproximateAgeOfOldestMessage of ${LoaderWakeUps.QueueName} Maximum >= 300, 1 of 1 minutes, else notBreaching",
                        "LoadFails: Errors of ${LoaderRunFunction} Sum >= 1, 1 of 1 minutes, else notBreaching",
                        "LoadIsThrottled: Throttles of ${LoaderRunFunction} Sum >= 1, 1 of 1 minutes, else notBreaching",
                        "LoadsWereGivenUp: ApproximateNumberOfMessagesVisible of ${LoaderFailures.QueueName} Maximum >= 1, 1 of 1 minutes, else notBreaching",
                        "ApiFails: 5xx of ${OrdersApi} Sum >= 5, 1 of 1 minutes, else notBreaching",
                        "ClusterIsUnhealthy: HealthStatus of order-pipeline Minimum < 1, 3 of 3 minutes, else breaching",
                        "ClusterIsFull: PercentageDiskSpaceUsed of order-pipeline Maximum >= 80, 1 of 1 minutes, else notBreaching",
                    ],
                    from alarm in template.All("AWS::CloudWatch::Alarm")
                    let p = alarm.Properties
                    let compare = (string)p["ComparisonOperator"]! == "LessThanThreshold" ? "<" : ">="
                    select $"{((string)p["AlarmName"]!).Replace("order-pipeline-", "", StringComparison.Ordinal)}: {p["MetricName"]} of " +
                        $"{TemplateView.Render(p["Dimensions"]![0]!["Value"]!)} {p["Statistic"]} {compare} {p["Threshold"]}, " +
                        $"{p["EvaluationPeriods"]} of {p["EvaluationPeriods"]} minutes, else {p["TreatMissingData"]}");
                template.AllHave("AWS::CloudWatch::Alarm", """{ "Period": 60 }""");
                Assert.All(template.All("AWS::CloudWatch::Alarm"), alarm => Assert.Equal(
                    ["[${AlarmsTopic}]", "[${AlarmsTopic}]"],
                    [TemplateView.Render(alarm.Properties["AlarmActions"]!), TemplateView.Render(alarm.Properties["OKActions"]!)]));
            },
            new Mutant("minutes in a row with a failed load, which do not come", "AlarmsLoadFails", alarm => alarm["EvaluationPeriods"] = 3),
            new Mutant("nobody is told", "AlarmsStreamIsBehind", alarm => alarm.Remove("AlarmActions")),
            new Mutant("an hour behind is well", "AlarmsStreamIsBehind", alarm => alarm["Threshold"] = 3_600_000),
            new Mutant("a cluster that says nothing is well", "AlarmsClusterIsUnhealthy", alarm => alarm["TreatMissingData"] = "notBreaching"),
            new Mutant("no look at the quarantine", "AlarmsQuarantineIsNotEmpty", alarm => alarm.Parent!.Parent!.AsObject().Remove(alarm.Parent.GetPropertyName()))),

        new("What goes into the quarantine is on the operator's list",
            template =>
            {
                template.Has("AWS::SQS::Queue", """{ "QueueName": "process_orders-quarantined", "MessageRetentionPeriod": 1209600 }""");
                Assert.Equal(
                    $"{{detail={{bucket={{name=[${{ChangesBucket}}]}}, object={{key=[{{prefix={Names.QuarantinePrefix}}}]}}}}, detail-type=[Object Created], source=[aws.s3]}}",
                    TemplateView.Render(template["AlarmsNewInQuarantine"]["EventPattern"]!));
                Assert.Equal("${AlarmsQuarantined.Arn}", TemplateView.Render(template["AlarmsNewInQuarantine"]["Targets"]![0]!["Arn"]!));
            },
            new Mutant("change files on the list", "AlarmsNewInQuarantine", rule => rule["EventPattern"]!["detail"]!["object"]!["key"]![0]!["prefix"] = "orders/")),

        new("Only CloudWatch of this account raises alarms on the topic",
            template => Assert.Equal(
                [
                    "sns:Publish on ${AlarmsTopic} by {Service=cloudwatch.amazonaws.com} if {StringEquals={aws:SourceAccount=${AWS::AccountId}}}",
                    "not sns:Publish on ${AlarmsTopic} by * if {Bool={aws:SecureTransport=false}}",
                ],
                TemplateView.Statements(template["AlarmsTopicPolicy"]["PolicyDocument"]!)),
            new Mutant("anybody of this account", "AlarmsTopicPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!["Principal"] = "*"),
            new Mutant("anybody's CloudWatch", "AlarmsTopicPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!.AsObject().Remove("Condition"))),

        new("The dashboard follows an order through the pipeline",
            template => Assert.All(
                ["1. Requests", "2. Age in the stream (ms)", "3. Age of a wake-up (s)", "4. Cluster", "Waiting for an operator"],
                title => Assert.Contains($"\"title\":\"{title}\"", TemplateView.Render(template["AlarmsDashboard"]["DashboardBody"]!), StringComparison.Ordinal)),
            new Mutant("an empty dashboard", "AlarmsDashboard", dashboard => dashboard["DashboardBody"] = "{}")),
    ];
}
