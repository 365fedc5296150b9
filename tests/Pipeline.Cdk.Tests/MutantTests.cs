using System.Text.Json.Nodes;

namespace Pipeline.Cdk.Tests;

/// <summary>Breaks the template in one place at a time, and shows that the rule which guards that place fails.</summary>
public sealed class MutantTests(Synthesis synthesis)
{
    private sealed record Mutant(string Rule, string Type, Action<JsonObject> Break);

    private static readonly Dictionary<string, Mutant> Mutants = new()
    {
        ["another key"] = new(nameof(TemplateRules.The_table_is_keyed_by_order_and_paid_by_request), "AWS::DynamoDB::Table",
            table => table["KeySchema"]![0]!["AttributeName"] = "customer_id"),
        ["provisioned capacity"] = new(nameof(TemplateRules.The_table_is_keyed_by_order_and_paid_by_request), "AWS::DynamoDB::Table",
            table => table["BillingMode"] = "PROVISIONED"),
        ["no stream"] = new(nameof(TemplateRules.The_stream_carries_both_images), "AWS::DynamoDB::Table",
            table => table.Remove("StreamSpecification")),
        ["a stream of new images only"] = new(nameof(TemplateRules.The_stream_carries_both_images), "AWS::DynamoDB::Table",
            table => table["StreamSpecification"]!["StreamViewType"] = "NEW_IMAGE"),
        ["an index of keys only"] = new(nameof(TemplateRules.An_index_lists_the_orders_of_a_customer), "AWS::DynamoDB::Table",
            table => table["GlobalSecondaryIndexes"]![0]!["Projection"]!["ProjectionType"] = "KEYS_ONLY"),
        ["no recovery to a point in time"] = new(nameof(TemplateRules.The_table_survives_mistakes), "AWS::DynamoDB::Table",
            table => table.Remove("PointInTimeRecoverySpecification")),
        ["a table that anyone may delete"] = new(nameof(TemplateRules.The_table_survives_mistakes), "AWS::DynamoDB::Table",
            table => table["DeletionProtectionEnabled"] = false),
        ["a table that goes with its stack"] = new(nameof(TemplateRules.The_table_survives_mistakes), "AWS::DynamoDB::Table",
            table => table.Parent!["DeletionPolicy"] = "Delete"),
        ["another bucket name"] = new(nameof(TemplateRules.The_bucket_has_the_name_that_services_expect), "AWS::S3::Bucket",
            bucket => bucket["BucketName"] = "order-pipeline"),
        ["no public-access block"] = new(nameof(TemplateRules.Buckets_are_closed_to_the_public), "AWS::S3::Bucket",
            bucket => bucket.Remove("PublicAccessBlockConfiguration")),
        ["public policies allowed"] = new(nameof(TemplateRules.Buckets_are_closed_to_the_public), "AWS::S3::Bucket",
            bucket => bucket["PublicAccessBlockConfiguration"]!["BlockPublicPolicy"] = false),
        ["no encryption"] = new(nameof(TemplateRules.Buckets_are_encrypted), "AWS::S3::Bucket",
            bucket => bucket.Remove("BucketEncryption")),
        ["plain HTTP to the bucket"] = new(nameof(TemplateRules.The_bucket_talks_TLS_1_2_or_newer_only), "AWS::S3::BucketPolicy",
            policy => policy["PolicyDocument"]!["Statement"]!.AsArray().RemoveAt(0)),
        ["a bucket open to the world"] = new(nameof(TemplateRules.The_bucket_talks_TLS_1_2_or_newer_only), "AWS::S3::BucketPolicy",
            policy => policy["PolicyDocument"]!["Statement"]![0]!["Effect"] = "Allow"),
        ["no versions"] = new(nameof(TemplateRules.The_bucket_keeps_versions_for_a_month_and_objects_for_ever), "AWS::S3::Bucket",
            bucket => bucket["VersioningConfiguration"]!["Status"] = "Suspended"),
        ["change files that expire"] = new(nameof(TemplateRules.The_bucket_keeps_versions_for_a_month_and_objects_for_ever), "AWS::S3::Bucket",
            bucket => bucket["LifecycleConfiguration"]!["Rules"]![0]!["ExpirationInDays"] = 365),
        ["failures forgotten after four days"] = new(nameof(TemplateRules.The_failure_queue_is_named_encrypted_and_kept_as_long_as_SQS_allows), "AWS::SQS::Queue",
            queue => queue.Remove("MessageRetentionPeriod")),
        ["plain HTTP to the queue"] = new(nameof(TemplateRules.Queues_talk_TLS_only), "AWS::SQS::QueuePolicy",
            policy => policy["PolicyDocument"]!["Statement"]![0]!.AsObject().Remove("Condition")),
        ["a function with the default timeout"] = new(nameof(TemplateRules.The_function_is_named_and_bounded), "AWS::Lambda::Function",
            function => function.Remove("Timeout")),
        ["a secret in the environment"] = new(nameof(TemplateRules.The_function_is_told_its_bucket_and_nothing_else), "AWS::Lambda::Function",
            function => function["Environment"]!["Variables"]!["Password"] = "secret"),
        ["logs for ever"] = new(nameof(TemplateRules.The_functions_logs_end_after_a_month), "AWS::Logs::LogGroup",
            logs => logs.Remove("RetentionInDays")),
        ["the whole bucket writable"] = new(nameof(TemplateRules.The_function_may_do_exactly_this), "AWS::IAM::Role",
            role => Statement(role, 2)["Resource"]![0]!["Fn::Join"]![1]![1] = "/*"),
        ["every action on the bucket"] = new(nameof(TemplateRules.The_function_may_do_exactly_this), "AWS::IAM::Role",
            role => Statement(role, 2)["Action"] = "s3:*"),
        ["every queue"] = new(nameof(TemplateRules.The_function_may_do_exactly_this), "AWS::IAM::Role",
            role => Statement(role, 3)["Resource"] = "*"),
        ["an administrator"] = new(nameof(TemplateRules.The_function_may_do_exactly_this), "AWS::IAM::Role",
            role => role["ManagedPolicyArns"] = new JsonArray("arn:aws:iam::aws:policy/AdministratorAccess")),
        ["a role that another account may take"] = new(nameof(TemplateRules.Only_the_Lambda_service_takes_the_functions_role), "AWS::IAM::Role",
            role => role["AssumeRolePolicyDocument"]!["Statement"]![0]!["Principal"] = new JsonObject { ["AWS"] = "*" }),
        ["no starting position"] = new(nameof(TemplateRules.Every_setting_of_the_mapping_is_explicit), "AWS::Lambda::EventSourceMapping",
            mapping => mapping.Remove("StartingPosition")),
        ["start at the latest record"] = new(nameof(TemplateRules.Every_setting_of_the_mapping_is_explicit), "AWS::Lambda::EventSourceMapping",
            mapping => mapping["StartingPosition"] = "LATEST"),
        ["answers of the function ignored"] = new(nameof(TemplateRules.Every_setting_of_the_mapping_is_explicit), "AWS::Lambda::EventSourceMapping",
            mapping => mapping.Remove("FunctionResponseTypes")),
        ["records given up after three attempts"] = new(nameof(TemplateRules.Every_setting_of_the_mapping_is_explicit), "AWS::Lambda::EventSourceMapping",
            mapping => mapping["MaximumRetryAttempts"] = 3),
        ["no place for failures"] = new(nameof(TemplateRules.Every_setting_of_the_mapping_is_explicit), "AWS::Lambda::EventSourceMapping",
            mapping => mapping.Remove("DestinationConfig")),
        ["a custom resource"] = new(nameof(TemplateRules.No_custom_resource_runs_code_of_its_own), "AWS::SQS::QueuePolicy",
            policy => policy.Parent!["Type"] = "Custom::S3BucketNotifications"),
        ["an output renamed"] = new(nameof(TemplateRules.The_outputs_name_what_operators_need), "AWS::DynamoDB::Table",
            table => table.Root["Outputs"]!.AsObject().Remove("StreamArn")),
    };

    public static TheoryData<string> Breaks => [.. Mutants.Keys];

    [Theory]
    [MemberData(nameof(Breaks))]
    public void Mutant_is_caught(string broken)
    {
        var mutant = Mutants[broken];
        var template = new TemplateView(synthesis.Template.Json);
        mutant.Break(template.Resources(mutant.Type).First().Resource["Properties"]!.AsObject());
        var changed = template.Root.ToJsonString();
        Assert.False(JsonNode.DeepEquals(synthesis.Template.Root, template.Root), "The mutant is no mutant: it changes nothing.");

        Assert.ThrowsAny<Exception>(() => TemplateRules.All[mutant.Rule](new TemplateView(changed)));
    }

    [Fact]
    public void Every_rule_has_a_mutant() =>
        Assert.Empty(TemplateRules.All.Keys.Except(Mutants.Values.Select(mutant => mutant.Rule)));

    private static JsonObject Statement(JsonObject role, int index) =>
        role["Policies"]![0]!["PolicyDocument"]!["Statement"]![index]!.AsObject();
}
