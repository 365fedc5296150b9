using Amazon.CDK;
using Amazon.CDK.AWS.CloudWatch;
using Amazon.CDK.AWS.CloudWatch.Actions;
using Amazon.CDK.AWS.Events;
using Amazon.CDK.AWS.Events.Targets;
using Amazon.CDK.AWS.IAM;
using Amazon.CDK.AWS.S3;
using Amazon.CDK.AWS.SNS;
using Amazon.CDK.AWS.SNS.Subscriptions;
using Amazon.CDK.AWS.SQS;
using Constructs;

namespace Pipeline.Cdk;

public sealed record AlarmsProps
{
    public required IReadOnlyList<string> Emails { get; init; }
    public required Bucket Changes { get; init; }
    public required ProcessOrders Process { get; init; }
    public required WarehouseLoader Loader { get; init; }
    public required OrdersApi Api { get; init; }
}

/// <summary>
/// What somebody must look at, all on one topic, and a dashboard that follows an order through the pipeline. Missing
/// data is good news (a function that is not invoked has no errors), but for the cluster, which reports by itself.
/// </summary>
public sealed class Alarms : Construct
{
    public const string QuarantineQueue = "process_orders-quarantined";

    public Topic Topic { get; }

    /// <summary>The key of every object that was put into the quarantine, until an operator deals with it.</summary>
    public Queue Quarantined { get; }

    public Alarms(Construct scope, string id, AlarmsProps props)
        : base(scope, id)
    {
        // Not encrypted with a key: CloudWatch may not use the one that AWS keeps for SNS. An alarm holds no data.
        Topic = new Topic(this, "Topic", new TopicProps { TopicName = "order-pipeline-alarms", EnforceSSL = true });
        Topic.AddToResourcePolicy(new PolicyStatement(new PolicyStatementProps
        {
            Principals = [new ServicePrincipal("cloudwatch.amazonaws.com")],
            Actions = ["sns:Publish"],
            Resources = [Topic.TopicArn],
            Conditions = new Dictionary<string, object>
            {
                ["StringEquals"] = new Dictionary<string, object> { ["aws:SourceAccount"] = Aws.ACCOUNT_ID },
            },
        }));
        foreach (var email in props.Emails)
        {
            Topic.AddSubscription(new EmailSubscription(email));
        }

        // S3 has no metric for a prefix. A queue of the keys has one, and is the operator's list of what to do.
        Quarantined = new Queue(this, "Quarantined", new QueueProps
        {
            QueueName = QuarantineQueue,
            Encryption = QueueEncryption.SQS_MANAGED,
            EnforceSSL = true,
            // The longest there is. After it the alarm goes off the list, whether the change is dealt with or not; `quarantine list` knows.
            RetentionPeriod = Duration.Days(14),
        });
        _ = new Rule(this, "NewInQuarantine", new RuleProps
        {
            Description = "A change was put into the quarantine, or tried again.",
            EventPattern = WarehouseLoader.ObjectCreated(props.Changes, Names.QuarantinePrefix),
            Targets =
            [
                new SqsQueue(Quarantined, new SqsQueueProps { MaxEventAge = Duration.Hours(24), RetryAttempts = 185 }),
            ],
        });

        var iteratorAge = props.Process.Function.Metric("IteratorAge", Each("Maximum"));
        var wakeUpAge = props.Loader.WakeUps.MetricApproximateAgeOfOldestMessage(Each("Maximum"));
        var healthy = Redshift("HealthStatus", "Minimum");
        var disk = Redshift("PercentageDiskSpaceUsed", "Maximum");

        Raise("StreamIsBehind", iteratorAge, 60_000, "Changes wait a minute and longer in the stream (milliseconds). The stream forgets them after 24 hours.", minutes: 3);
        Raise("ProcessFails", props.Process.Function.MetricErrors(Each("Sum")), 1, "process_orders failed. Its batch is tried again until it succeeds.", minutes: 3);
        Raise("ProcessIsThrottled", props.Process.Function.MetricThrottles(Each("Sum")), 1, "process_orders was throttled: more shards than processConcurrency.", minutes: 3);
        Raise("RecordsWereGivenUp", Waiting(props.Process.Failures), 1, $"Lambda gave up records of the stream; {Names.FailureQueue} says which.");
        Raise("QuarantineIsNotEmpty", Waiting(Quarantined), 1, $"Changes could not be decoded or loaded, and later ones of their orders wait; {QuarantineQueue} says where they are, for 14 days: after that this alarm is OK again, and `quarantine list` still shows them.");
        Raise("LoadLags", wakeUpAge, 300, "A change file waits five minutes and longer for its load (seconds).");
        // One minute each: a wake-up that failed is invisible for two and a half minutes, and the others of its group with it, so
        // there are never three minutes in a row with a failure in each.
        Raise("LoadFails", props.Loader.Function.MetricErrors(Each("Sum")), 1, "A load failed. It is tried again.");
        Raise("LoadIsThrottled", props.Loader.Function.MetricThrottles(Each("Sum")), 1, "load_orders was throttled: it was invoked by hand, or its concurrency is taken away.");
        Raise("LoadsWereGivenUp", Waiting(props.Loader.Failures), 1, $"Ten loads in a row failed; {WarehouseLoader.FailureQueue} holds their wake-ups. The sweep goes on trying.");
        Raise("ApiFails", Api(props.Api, "5xx", "Sum"), 5, "The Orders API answered 5xx five times in a minute.");
        Raise("ClusterIsUnhealthy", healthy, 1, "The Redshift cluster reports bad health, or nothing at all.", minutes: 3, below: true);
        Raise("ClusterIsFull", disk, 80, "The Redshift cluster has used 80 % of its disk.");

        var dashboard = new Dashboard(this, "Dashboard", new DashboardProps { DashboardName = "order-pipeline" });
        dashboard.AddWidgets(
            Graph("1. Requests", Api(props.Api, "Count", "Sum"), Api(props.Api, "4xx", "Sum"), Api(props.Api, "5xx", "Sum")),
            Graph("Latency, p50 and p99 (ms)", Api(props.Api, "Latency", "p50"), Api(props.Api, "Latency", "p99")));
        dashboard.AddWidgets(
            Graph("2. Age in the stream (ms)", iteratorAge),
            Graph("process_orders", props.Process.Function.MetricInvocations(Each("Sum")), props.Process.Function.MetricErrors(Each("Sum")), props.Process.Function.MetricDuration(Each("p99"))));
        dashboard.AddWidgets(
            Graph("3. Age of a wake-up (s)", wakeUpAge),
            Graph("load_orders", props.Loader.Function.MetricInvocations(Each("Sum")), props.Loader.Function.MetricErrors(Each("Sum")), props.Loader.Function.MetricDuration(Each("p99"))));
        dashboard.AddWidgets(
            Graph("4. Cluster", Redshift("CPUUtilization", "Average"), disk, healthy),
            Graph("Waiting for an operator", Waiting(props.Process.Failures), Waiting(Quarantined), Waiting(props.Loader.Failures)));
    }

    private void Raise(string name, IMetric metric, double threshold, string description, int minutes = 1, bool below = false)
    {
        var alarm = new Alarm(this, name, new AlarmProps
        {
            AlarmName = $"order-pipeline-{name}",
            AlarmDescription = description,
            Metric = metric,
            Threshold = threshold,
            EvaluationPeriods = minutes,
            ComparisonOperator = below ? ComparisonOperator.LESS_THAN_THRESHOLD : ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            TreatMissingData = below ? TreatMissingData.BREACHING : TreatMissingData.NOT_BREACHING,
        });
        alarm.AddAlarmAction(new SnsAction(Topic));
        alarm.AddOkAction(new SnsAction(Topic));
    }

    private static MetricOptions Each(string statistic) => new() { Statistic = statistic, Period = Duration.Minutes(1) };

    private static Metric Waiting(Queue queue) => queue.MetricApproximateNumberOfMessagesVisible(Each("Maximum"));

    private static Metric Redshift(string name, string statistic) => new(new MetricProps
    {
        Namespace = "AWS/Redshift",
        MetricName = name,
        DimensionsMap = new Dictionary<string, string> { ["ClusterIdentifier"] = Warehouse.Identifier },
        Statistic = statistic,
        Period = Duration.Minutes(1),
    });

    private static Metric Api(OrdersApi api, string name, string statistic) => new(new MetricProps
    {
        Namespace = "AWS/ApiGateway",
        MetricName = name,
        DimensionsMap = new Dictionary<string, string> { ["ApiId"] = api.Api.Ref },
        Statistic = statistic,
        Period = Duration.Minutes(1),
    });

    private static GraphWidget Graph(string title, params IMetric[] metrics) =>
        new(new GraphWidgetProps { Title = title, Left = metrics, Width = 12 });
}
