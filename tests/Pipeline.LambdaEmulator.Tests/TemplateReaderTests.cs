using System.Text.Json;
using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Functions;
using Pipeline.LambdaEmulator.Stack;

namespace Pipeline.LambdaEmulator.Tests;

public sealed class TemplateReaderTests
{
    private const string Template = """
        {
          "Parameters": {
            "Stage": { "Type": "String", "Default": "dev" },
            "Types": { "Type": "CommaDelimitedList", "Default": "ReportBatchItemFailures" }
          },
          "Resources": {
            "Orders": {
              "Type": "AWS::DynamoDB::Table",
              "Properties": {
                "TableName": { "Fn::Sub": "orders-${Stage}" },
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [
                  { "AttributeName": "id", "AttributeType": "S" },
                  { "AttributeName": "line", "AttributeType": "N" },
                  { "AttributeName": "customer", "AttributeType": "S" }
                ],
                "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }, { "AttributeName": "line", "KeyType": "RANGE" }],
                "GlobalSecondaryIndexes": [{
                  "IndexName": "by_customer",
                  "KeySchema": [{ "AttributeName": "customer", "KeyType": "HASH" }],
                  "Projection": { "ProjectionType": "INCLUDE", "NonKeyAttributes": ["total"] }
                }],
                "StreamSpecification": { "StreamViewType": "NEW_AND_OLD_IMAGES" },
                "TimeToLiveSpecification": { "AttributeName": "expires", "Enabled": true },
                "DeletionProtectionEnabled": true
              }
            },
            "Changes": {
              "Type": "AWS::S3::Bucket",
              "Properties": {
                "BucketName": { "Fn::Join": ["", ["changes-", { "Ref": "AWS::AccountId" }, "-", { "Ref": "AWS::Region" }]] },
                "VersioningConfiguration": { "Status": "Enabled" }
              }
            },
            "Unnamed": { "Type": "AWS::S3::Bucket" },
            "Failures": {
              "Type": "AWS::SQS::Queue",
              "Properties": {
                "QueueName": "failures",
                "MessageRetentionPeriod": 1209600,
                "RedrivePolicy": { "deadLetterTargetArn": { "Fn::GetAtt": ["Dead", "Arn"] }, "maxReceiveCount": 3 },
                "SqsManagedSseEnabled": true
              }
            },
            "Dead": { "Type": "AWS::SQS::Queue" },
            "Function": {
              "Type": "AWS::Lambda::Function",
              "Properties": { "FunctionName": "process", "Timeout": 60, "ReservedConcurrentExecutions": 2, "Runtime": "dotnet10" }
            },
            "Mapping": {
              "Type": "AWS::Lambda::EventSourceMapping",
              "Properties": {
                "FunctionName": { "Fn::GetAtt": "Function.Arn" },
                "EventSourceArn": { "Fn::GetAtt": ["Orders", "StreamArn"] },
                "StartingPosition": "TRIM_HORIZON",
                "BatchSize": 1000,
                "MaximumBatchingWindowInSeconds": 2,
                "MaximumRetryAttempts": 5,
                "MaximumRecordAgeInSeconds": -1,
                "ParallelizationFactor": 3,
                "BisectBatchOnFunctionError": true,
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
                "DestinationConfig": { "OnFailure": { "Destination": { "Fn::GetAtt": ["Failures", "Arn"] } } }
              }
            },
            "OfQueue": {
              "Type": "AWS::Lambda::EventSourceMapping",
              "Properties": {
                "FunctionName": "process",
                "EventSourceArn": { "Fn::GetAtt": ["Failures", "Arn"] },
                "BatchSize": 20,
                "MaximumBatchingWindowInSeconds": 5,
                "ScalingConfig": { "MaximumConcurrency": 3 },
                "FunctionResponseTypes": ["ReportBatchItemFailures"]
              }
            },
            "Role": { "Type": "AWS::IAM::Role", "Properties": { "Anything": { "Fn::ImportValue": "not computed" } } }
          }
        }
        """;

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    [Fact]
    public void A_template_becomes_the_plan_of_what_is_done_locally()
    {
        var function = new FunctionDefinition("process", "arn:aws:lambda:sa-east-1:000000000000:function:process", TimeSpan.FromSeconds(60), 2);
        var plan = new StackPlan(
            [
                new TablePlan(
                    new CreateTableRequest
                    {
                        TableName = "orders-dev",
                        BillingMode = BillingMode.PAY_PER_REQUEST,
                        AttributeDefinitions = [new("id", ScalarAttributeType.S), new("line", ScalarAttributeType.N), new("customer", ScalarAttributeType.S)],
                        KeySchema = [new("id", KeyType.HASH), new("line", KeyType.RANGE)],
                        GlobalSecondaryIndexes =
                        [
                            new()
                            {
                                IndexName = "by_customer",
                                KeySchema = [new("customer", KeyType.HASH)],
                                Projection = new() { ProjectionType = ProjectionType.INCLUDE, NonKeyAttributes = ["total"] },
                            },
                        ],
                        StreamSpecification = new() { StreamEnabled = true, StreamViewType = StreamViewType.NEW_AND_OLD_IMAGES },
                    },
                    "expires",
                    ["DeletionProtectionEnabled"]),
            ],
            [new BucketPlan("changes-000000000000-sa-east-1", ["VersioningConfiguration"]), new BucketPlan("shop-unnamed", [])],
            [
                new QueuePlan(
                    "failures",
                    new Dictionary<string, string>
                    {
                        ["MessageRetentionPeriod"] = "1209600",
                        ["RedrivePolicy"] = """{"deadLetterTargetArn":"arn:aws:sqs:sa-east-1:000000000000:Shop-Dead","maxReceiveCount":3}""",
                    },
                    ["SqsManagedSseEnabled"]),
                new QueuePlan("Shop-Dead", new Dictionary<string, string>(), []),
            ],
            [function],
            [
                new MappingPlan(
                    Read().Mappings[0].Id,
                    function,
                    "orders-dev",
                    null,
                    new MappingSettings
                    {
                        StartingPosition = StartingPosition.TrimHorizon,
                        BatchSize = 1000,
                        BatchingWindow = TimeSpan.FromSeconds(2),
                        RetryAttemptsMax = 5,
                        RecordAgeMax = null,
                        ParallelizationFactor = 3,
                        BisectOnError = true,
                        ReportBatchItemFailures = true,
                    },
                    new OnFailurePlan.Sqs("failures"),
                    true),
            ],
            [
                new QueueMappingPlan(
                    Read().QueueMappings[0].Id,
                    function,
                    "failures",
                    "arn:aws:sqs:sa-east-1:000000000000:failures",
                    new QueueSettings { BatchSize = 20, BatchingWindow = TimeSpan.FromSeconds(5), ReportBatchItemFailures = true, ConcurrencyMax = 3 },
                    true),
            ],
            [new IgnoredResource("Role", "AWS::IAM::Role")]);
        Assert.Equal(Text(plan), Text(Read()));
    }

    [Fact]
    public void A_mapping_keeps_its_id_from_run_to_run_and_differs_between_stacks()
    {
        Assert.Equal(Read().Mappings[0].Id, Read().Mappings[0].Id);
        Assert.NotEqual(Read().Mappings[0].Id, TemplateReader.Read(Template, "Other", "000000000000", "sa-east-1").Mappings[0].Id);
    }

    [Fact]
    public void A_mapping_of_a_table_that_is_not_in_the_template_names_it_by_its_stream()
    {
        var plan = Read(properties => properties["EventSourceArn"] = "arn:aws:dynamodb:us-east-1:000000000000:table/Elsewhere/stream/2026-01-01T00:00:00.000");
        Assert.Equal("Elsewhere", plan.Mappings[0].Table);
        Assert.Equal("arn:aws:dynamodb:us-east-1:000000000000:table/Elsewhere/stream/2026-01-01T00:00:00.000", plan.Mappings[0].StreamArn);
        Assert.Null(Read(properties => properties["EventSourceArn"] = "arn:aws:dynamodb:us-east-1:000000000000:table/Elsewhere/stream/*").Mappings[0].StreamArn);
    }

    [Fact]
    public void An_on_failure_destination_is_a_queue_or_a_bucket()
    {
        var plan = Read(properties => properties["DestinationConfig"]!["OnFailure"]!["Destination"] = JsonNode.Parse("""{"Fn::GetAtt":["Changes","Arn"]}"""));
        Assert.Equal(new OnFailurePlan.S3("changes-000000000000-sa-east-1"), plan.Mappings[0].OnFailure);
    }

    [Fact]
    public void What_the_mapping_does_not_say_has_Lambdas_defaults()
    {
        var plan = Read(properties =>
        {
            foreach (var name in properties.Select(property => property.Key).Except(["FunctionName", "EventSourceArn", "StartingPosition"]).ToList())
            {
                properties.Remove(name);
            }
        });
        Assert.Equal(new MappingSettings { StartingPosition = StartingPosition.TrimHorizon, BatchSize = 100 }, plan.Mappings[0].Settings);
        Assert.True(plan.Mappings[0].IsEnabled);
        Assert.Null(plan.Mappings[0].OnFailure);
    }

    public static TheoryData<string, string, string> Refusals => new()
    {
        { "FunctionResponseTypes", """{ "Ref": "Types" }""", "Mapping.FunctionResponseTypes is \"ReportBatchItemFailures\"; the emulator takes a list of texts here." },
        { "FunctionResponseTypes", """{ "Fn::If": ["c", ["ReportBatchItemFailures"], { "Ref": "AWS::NoValue" }] }""", "Mapping.FunctionResponseTypes uses Fn::If in a way that the emulator does not compute." },
        { "FunctionResponseTypes", """["ReportEverything"]""", "Mapping.FunctionResponseTypes has ReportEverything, but Lambda knows ReportBatchItemFailures only." },
        { "DestinationConfig", """{ "Fn::If": ["c", {}, {}] }""", "Mapping.DestinationConfig uses Fn::If in a way that the emulator does not compute." },
        { "DestinationConfig", """{ "OnSuccess": {} }""", "Mapping.DestinationConfig.OnSuccess is not supported by the emulator. Supported: OnFailure." },
        { "DestinationConfig", """{ "OnFailure": { "Destinations": [] } }""", "Mapping.DestinationConfig.OnFailure.Destinations is not supported by the emulator. Supported: Destination." },
        { "DestinationConfig", "[]", "Mapping.DestinationConfig is []; the emulator takes an object here." },
        { "FilterCriteria", """{ "Filters": { "Pattern": "{}" } }""", "Mapping.FilterCriteria.Filters is {\"Pattern\":\"{}\"}; the emulator takes a list of objects here." },
        { "FilterCriteria", """{ "Filters": [], "Filter": [] }""", "Mapping.FilterCriteria.Filter is not supported by the emulator. Supported: Filters." },
        { "BatchSize", "[10]", "Mapping.BatchSize is [10]; the emulator takes a single value here." },
        { "TumblingWindowInSeconds", "30", "Mapping.TumblingWindowInSeconds is not supported by the emulator. Supported: BatchSize, " },
        { "StartingPosition", "\"AT_TIMESTAMP\"", "Mapping.StartingPosition is AT_TIMESTAMP; a DynamoDB stream needs TRIM_HORIZON or LATEST." },
        { "StartingPosition", "null", "Mapping.StartingPosition is missing; a DynamoDB stream needs TRIM_HORIZON or LATEST." },
        { "BatchSize", "0", "Mapping: BatchSize is 0, but Lambda takes 1 to 10000." },
        { "BatchSize", "\"many\"", "Mapping.BatchSize is many, which is not a whole number." },
        { "Enabled", "\"yes\"", "Mapping.Enabled is yes; it must be true or false." },
        { "FunctionName", "\"typo\"", "Mapping.FunctionName is typo, but the template has no such function. It has: process." },
        { "EventSourceArn", "\"arn:aws:kinesis:us-east-1:0:stream/s\"", "Mapping.EventSourceArn is arn:aws:kinesis:us-east-1:0:stream/s; the emulator reads DynamoDB streams (arn:aws:dynamodb:…:table/NAME/stream/LABEL, or * for the latest) and SQS queues." },
        { "FilterCriteria", """{"Filters":[{"Pattern":"{\"a\":[{\"wild\":1}]}"}]}""", "Mapping: In a filter pattern, the pattern.a.wild is no operator of Lambda's" },
        { "EventSourceArn", "{\"Ref\":\"Missing\"}", "Mapping.EventSourceArn refers to Missing, which is no resource of it with a type." },
        { "EventSourceArn", "{\"Fn::ImportValue\":\"x\"}", "Mapping.EventSourceArn uses Fn::ImportValue in a way that the emulator does not compute." },
        { "DestinationConfig", "{\"OnFailure\":{\"Destination\":\"arn:aws:sns:us-east-1:0:topic\"}}", "Mapping.DestinationConfig.OnFailure.Destination is arn:aws:sns:us-east-1:0:topic; the emulator supports" },
        { "FunctionName", "{\"Ref\":\"Role\"}", "Mapping.FunctionName refers to Role, a resource of type AWS::IAM::Role that is not emulated." },
    };

    [Fact]
    public void A_mapping_of_a_queue_has_Lambdas_defaults_and_knows_a_FIFO_queue_by_its_name()
    {
        var plan = ReadOfQueue("""{ "FunctionName": "process", "EventSourceArn": "arn:aws:sqs:us-east-1:1:orders.fifo", "Enabled": false }""");
        Assert.Equal(new QueueSettings { BatchSize = 10, IsFifo = true }, plan.QueueMappings[0].Settings);
        Assert.Equal("orders.fifo", plan.QueueMappings[0].Queue);
        Assert.False(plan.QueueMappings[0].IsEnabled);
    }

    [Theory]
    [InlineData("\"BisectBatchOnFunctionError\": true", "OfQueue.BisectBatchOnFunctionError is not supported by the emulator. Supported: BatchSize, Enabled, ")]
    [InlineData("\"ProvisionedPollerConfig\": {}", "OfQueue.ProvisionedPollerConfig is not supported by the emulator.")]
    [InlineData("\"ScalingConfig\": { \"MaximumConcurrency\": 1 }", "OfQueue: ScalingConfig.MaximumConcurrency is 1, but Lambda takes 2 to 1000.")]
    [InlineData("\"FilterCriteria\": { \"Filters\": [{ \"Pattern\": \"{\" }] }", "OfQueue: The filter pattern { is not JSON: ")]
    public void What_Lambda_would_refuse_of_a_queues_mapping_is_refused_and_named(string setting, string message)
    {
        var error = Assert.Throws<TemplateException>(() =>
            ReadOfQueue($$"""{ "FunctionName": "process", "EventSourceArn": "arn:aws:sqs:us-east-1:1:orders", {{setting}} }"""));
        Assert.StartsWith(message, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Refusals))]
    public void What_cannot_be_emulated_is_refused_and_named(string property, string value, string message)
    {
        var error = Assert.Throws<TemplateException>(() => Read(properties => properties[property] = JsonNode.Parse(value)));
        Assert.StartsWith(message, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{", "The template is not JSON: ")]
    [InlineData("[]", "The template is not a JSON object.")]
    [InlineData("{}", "The file is not a CloudFormation template in JSON: it has no object \"Resources\".")]
    [InlineData("""{"Resources":{"A":{}}}""", "The template refers to A, which is no resource of it with a type.")]
    [InlineData("""{"Resources":{"F":{"Type":"AWS::Lambda::Function","Properties":{"Timeout":901}}}}""", "F.Timeout is 901, but Lambda takes 1 to 900 seconds.")]
    [InlineData("""{"Parameters":{"P":{"Type":"String"}},"Resources":{"F":{"Type":"AWS::Lambda::Function","Properties":{"FunctionName":{"Ref":"P"}}}}}""", "F.FunctionName needs the parameter P, which has no default.")]
    public void A_template_that_cannot_be_read_is_refused(string template, string message)
    {
        var error = Assert.Throws<TemplateException>(() => TemplateReader.Read(template, "Shop", "000000000000", "sa-east-1"));
        Assert.StartsWith(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_existing_table_with_the_same_shape_can_be_used()
    {
        var wanted = Read().Tables[0].Create;
        Assert.Null(Provisioner.Difference(wanted, Existing(wanted)));
    }

    [Fact]
    public void An_existing_table_with_another_shape_is_refused_with_the_difference()
    {
        var wanted = Read().Tables[0].Create;

        var otherKey = Existing(wanted);
        otherKey.KeySchema = [new("order", KeyType.HASH)];
        Assert.Equal("its key is order (HASH), the template's is id (HASH), line (RANGE)", Provisioner.Difference(wanted, otherKey));

        var noStream = Existing(wanted);
        noStream.StreamSpecification = null;
        Assert.Equal("it has no stream, the template's has", Provisioner.Difference(wanted, noStream));

        var otherStream = Existing(wanted);
        otherStream.StreamSpecification = new() { StreamEnabled = true, StreamViewType = StreamViewType.KEYS_ONLY };
        Assert.Equal("its stream is KEYS_ONLY, the template's is NEW_AND_OLD_IMAGES", Provisioner.Difference(wanted, otherStream));

        var noIndex = Existing(wanted);
        noIndex.GlobalSecondaryIndexes = null;
        Assert.Equal("its index by_customer is missing, the template's is customer (HASH)", Provisioner.Difference(wanted, noIndex));
    }

    private static TableDescription Existing(CreateTableRequest wanted) => new()
    {
        KeySchema = wanted.KeySchema,
        StreamSpecification = wanted.StreamSpecification,
        GlobalSecondaryIndexes = [new() { IndexName = "by_customer", KeySchema = wanted.GlobalSecondaryIndexes[0].KeySchema }],
    };

    private static StackPlan Read(Action<JsonObject>? changeMapping = null)
    {
        var template = JsonNode.Parse(Template)!;
        changeMapping?.Invoke(template["Resources"]!["Mapping"]!["Properties"]!.AsObject());
        return TemplateReader.Read(template.ToJsonString(), "Shop", "000000000000", "sa-east-1");
    }

    private static StackPlan ReadOfQueue(string properties)
    {
        var template = JsonNode.Parse(Template)!;
        template["Resources"]!["OfQueue"]!["Properties"] = JsonNode.Parse(properties);
        return TemplateReader.Read(template.ToJsonString(), "Shop", "000000000000", "sa-east-1");
    }

    private static string Text(StackPlan plan) => JsonSerializer.Serialize(plan, Indented);
}
