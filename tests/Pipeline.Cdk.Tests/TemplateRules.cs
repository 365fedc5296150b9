using System.Reflection;

namespace Pipeline.Cdk.Tests;

/// <summary>
/// What must be true of the template. <see cref="TemplateTests"/> holds the template against every rule, and
/// <see cref="MutantTests"/> shows for every rule that it can fail.
/// </summary>
public static class TemplateRules
{
    public static IReadOnlyDictionary<string, Action<TemplateView>> All { get; } = typeof(TemplateRules)
        .GetMethods(BindingFlags.Public | BindingFlags.Static | BindingFlags.DeclaredOnly)
        .Where(method => method.ReturnType == typeof(void))
        .ToDictionary(method => method.Name, method => method.CreateDelegate<Action<TemplateView>>());

    public static void The_table_is_keyed_by_order_and_paid_by_request(TemplateView template) => template.HasOne("AWS::DynamoDB::Table",
        $$"""
        {
          "TableName": "{{Names.Table}}",
          "KeySchema": [{ "AttributeName": "order_id", "KeyType": "HASH" }],
          "BillingMode": "PAY_PER_REQUEST"
        }
        """);

    public static void The_stream_carries_both_images(TemplateView template) => template.HasOne("AWS::DynamoDB::Table",
        """{ "StreamSpecification": { "StreamViewType": "NEW_AND_OLD_IMAGES" } }""");

    public static void An_index_lists_the_orders_of_a_customer(TemplateView template) => template.HasOne("AWS::DynamoDB::Table",
        $$"""
        {
          "GlobalSecondaryIndexes": [{
            "IndexName": "{{Names.CustomerIndex}}",
            "KeySchema": [
              { "AttributeName": "customer_id", "KeyType": "HASH" },
              { "AttributeName": "created_at", "KeyType": "RANGE" }
            ],
            "Projection": { "ProjectionType": "ALL" }
          }],
          "AttributeDefinitions": [
            { "AttributeName": "order_id", "AttributeType": "S" },
            { "AttributeName": "customer_id", "AttributeType": "S" },
            { "AttributeName": "created_at", "AttributeType": "S" }
          ]
        }
        """);

    public static void The_table_survives_mistakes(TemplateView template)
    {
        template.HasOne("AWS::DynamoDB::Table",
            """
            {
              "DeletionProtectionEnabled": true,
              "PointInTimeRecoverySpecification": { "PointInTimeRecoveryEnabled": true }
            }
            """);
        template.AllAreKept("AWS::DynamoDB::Table");
    }

    public static void The_bucket_has_the_name_that_services_expect(TemplateView template) => Assert.Equal(
        Names.BucketFor("${AWS::AccountId}", "${AWS::Region}"),
        TemplateView.Render(Assert.Single(template.Resources("AWS::S3::Bucket")).Resource["Properties"]!["BucketName"]!));

    public static void Buckets_are_closed_to_the_public(TemplateView template) => template.AllHave("AWS::S3::Bucket",
        """
        {
          "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": true, "BlockPublicPolicy": true, "IgnorePublicAcls": true, "RestrictPublicBuckets": true
          },
          "OwnershipControls": { "Rules": [{ "ObjectOwnership": "BucketOwnerEnforced" }] }
        }
        """);

    public static void Buckets_are_encrypted(TemplateView template) => template.AllHave("AWS::S3::Bucket",
        """
        {
          "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{ "ServerSideEncryptionByDefault": { "SSEAlgorithm": "AES256" } }]
          }
        }
        """);

    public static void The_bucket_talks_TLS_1_2_or_newer_only(TemplateView template)
    {
        var (_, policy) = Assert.Single(template.Resources("AWS::S3::BucketPolicy"));
        Assert.Equal("${ChangesBucket}", TemplateView.Render(policy["Properties"]!["Bucket"]!));
        Assert.Equal(
            [
                """not s3:* on ${ChangesBucket.Arn} if {"Bool":{"aws:SecureTransport":"false"}}""",
                """not s3:* on ${ChangesBucket.Arn}/* if {"Bool":{"aws:SecureTransport":"false"}}""",
                """not s3:* on ${ChangesBucket.Arn} if {"NumericLessThan":{"s3:TlsVersion":1.2}}""",
                """not s3:* on ${ChangesBucket.Arn}/* if {"NumericLessThan":{"s3:TlsVersion":1.2}}""",
            ],
            TemplateView.Lines(policy["Properties"]!["PolicyDocument"]!));
    }

    public static void The_bucket_keeps_versions_for_a_month_and_objects_for_ever(TemplateView template)
    {
        template.HasOne("AWS::S3::Bucket",
            """
            {
              "VersioningConfiguration": { "Status": "Enabled" },
              "LifecycleConfiguration": {
                "Rules": [
                  { "Id": "old-versions", "NoncurrentVersionExpiration": { "NoncurrentDays": 30 }, "Status": "Enabled" },
                  { "Id": "aborted-uploads", "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 1 }, "Status": "Enabled" }
                ]
              }
            }
            """);
        Assert.DoesNotContain("\"ExpirationInDays\"", template.Json, StringComparison.Ordinal);
        template.AllAreKept("AWS::S3::Bucket");
    }

    public static void The_failure_queue_is_named_encrypted_and_kept_as_long_as_SQS_allows(TemplateView template) => template.HasOne("AWS::SQS::Queue",
        $$"""{ "QueueName": "{{Names.FailureQueue}}", "SqsManagedSseEnabled": true, "MessageRetentionPeriod": 1209600 }""");

    public static void Queues_talk_TLS_only(TemplateView template) => Assert.Equal(
        template.Resources("AWS::SQS::Queue").Select(queue => queue.Id),
        from policy in template.Resources("AWS::SQS::QueuePolicy")
        where TemplateView.Lines(policy.Resource["Properties"]!["PolicyDocument"]!)
            .Any(line => line.StartsWith("not sqs:* on ", StringComparison.Ordinal) && line.Contains("SecureTransport\":\"false", StringComparison.Ordinal))
        from queue in policy.Resource["Properties"]!["Queues"]!.AsArray()
        select (string)queue["Ref"]!);

    public static void The_function_is_named_and_bounded(TemplateView template) => template.HasOne("AWS::Lambda::Function",
        $$"""
        {
          "FunctionName": "{{Names.Function}}",
          "Runtime": "dotnet10",
          "Architectures": ["arm64"],
          "Handler": "Pipeline.Processor",
          "MemorySize": 1769,
          "Timeout": 60
        }
        """);

    public static void The_function_is_told_its_bucket_and_nothing_else(TemplateView template)
    {
        var (_, function) = Assert.Single(template.Resources("AWS::Lambda::Function"));
        var (name, value) = Assert.Single(function["Properties"]!["Environment"]!["Variables"]!.AsObject());
        Assert.Equal((Names.Settings.BucketName, "${ChangesBucket}"), (name, TemplateView.Render(value!)));
    }

    public static void The_functions_logs_end_after_a_month(TemplateView template)
    {
        template.HasOne("AWS::Logs::LogGroup", $$"""{ "LogGroupName": "/aws/lambda/{{Names.Function}}", "RetentionInDays": 30 }""");
        var (_, function) = Assert.Single(template.Resources("AWS::Lambda::Function"));
        Assert.Equal("${ProcessOrdersLogs}", TemplateView.Render(function["Properties"]!["LoggingConfig"]!["LogGroup"]!));
    }

    public static void The_function_may_do_exactly_this(TemplateView template) => Assert.Equal(
        [
            "dynamodb:DescribeStream on ${OrdersTable.Arn}/stream/*",
            "dynamodb:GetRecords on ${OrdersTable.Arn}/stream/*",
            "dynamodb:GetShardIterator on ${OrdersTable.Arn}/stream/*",
            "dynamodb:ListStreams on ${OrdersTable.Arn}/stream/*",
            "logs:CreateLogStream on ${ProcessOrdersLogs.Arn}",
            "logs:PutLogEvents on ${ProcessOrdersLogs.Arn}",
            $"s3:PutObject on ${{ChangesBucket.Arn}}/{Names.ChangesPrefix}*",
            $"s3:PutObject on ${{ChangesBucket.Arn}}/{Names.QuarantinePrefix}*",
            "sqs:SendMessage on ${ProcessOrdersFailures.Arn}",
        ],
        template.RightsOf("ProcessOrdersRole"));

    public static void Only_the_Lambda_service_takes_the_functions_role(TemplateView template) => template.HasOne("AWS::IAM::Role",
        """
        {
          "AssumeRolePolicyDocument": {
            "Statement": [{ "Action": "sts:AssumeRole", "Effect": "Allow", "Principal": { "Service": "lambda.amazonaws.com" } }]
          }
        }
        """);

    public static void Every_setting_of_the_mapping_is_explicit(TemplateView template)
    {
        var (_, mapping) = Assert.Single(template.Resources("AWS::Lambda::EventSourceMapping"));
        Assert.Equal(
            [
                "BatchSize=1000",
                "BisectBatchOnFunctionError=true",
                "DestinationConfig={OnFailure={Destination=${ProcessOrdersFailures.Arn}}}",
                "Enabled=true",
                "EventSourceArn=${OrdersTable.StreamArn}",
                "FunctionName=${ProcessOrdersFunction}",
                "FunctionResponseTypes=[ReportBatchItemFailures]",
                "MaximumBatchingWindowInSeconds=0",
                "MaximumRecordAgeInSeconds=-1",
                "MaximumRetryAttempts=-1",
                "ParallelizationFactor=1",
                "StartingPosition=TRIM_HORIZON",
            ],
            mapping["Properties"]!.AsObject().Select(p => $"{p.Key}={TemplateView.Render(p.Value!)}"));
    }

    public static void No_custom_resource_runs_code_of_its_own(TemplateView template) => Assert.DoesNotContain(template.Types,
        type => type.StartsWith("Custom::", StringComparison.Ordinal) || type == "AWS::CloudFormation::CustomResource");

    public static void The_outputs_name_what_operators_need(TemplateView template) => Assert.Equal(
        [
            "TableName=${OrdersTable}",
            "StreamArn=${OrdersTable.StreamArn}",
            "BucketName=${ChangesBucket}",
            "FailureQueueUrl=${ProcessOrdersFailures}",
        ],
        template.Root["Outputs"]!.AsObject().Select(output => $"{output.Key}={TemplateView.Render(output.Value!["Value"]!)}"));
}
