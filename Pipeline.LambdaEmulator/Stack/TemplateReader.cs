using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Functions;

namespace Pipeline.LambdaEmulator.Stack;

/// <summary>Reads a CloudFormation template into what is done with it locally. No I/O: the same text gives the same plan.</summary>
public sealed class TemplateReader
{
    /// <summary>Lambda developer guide, "Lambda quotas": a function runs 15 minutes at most; 3 seconds if nothing is set.</summary>
    private const int TimeoutSecondsMax = 900;

    private readonly string _stack;
    private readonly TemplateValues _values;
    private readonly string _account;
    private readonly string _region;

    private TemplateReader(JsonObject template, string stack, string account, string region)
    {
        _stack = stack;
        _account = account;
        _region = region;
        _values = new TemplateValues(template, stack, account, region);
    }

    /// <param name="json">The template.</param>
    /// <param name="stack">The stack's name; part of names that the template does not give.</param>
    /// <param name="account">The account id for ARNs and pseudo parameters.</param>
    /// <param name="region">The region for ARNs and pseudo parameters.</param>
    /// <exception cref="TemplateException">The template asks for something that is not emulated.</exception>
    public static StackPlan Read(string json, string stack, string account, string region)
    {
        JsonNode? template;
        try
        {
            template = JsonNode.Parse(json);
        }
        catch (JsonException e)
        {
            throw new TemplateException($"The template is not JSON: {e.Message}");
        }

        return new TemplateReader(
            template as JsonObject ?? throw new TemplateException("The template is not a JSON object."), stack, account, region).Plan();
    }

    private StackPlan Plan()
    {
        var resources = _values.Resources.ToLookup(resource => resource.Type);
        var functions = resources[ResourceTypes.Function].ToDictionary(f => _values.NameOf(f.LogicalId, "FunctionName"), f => Function(f.LogicalId, f.Properties));
        var mappings = resources[ResourceTypes.Mapping].ToLookup(mapping => IsOfQueue(mapping.LogicalId, mapping.Properties));
        return new StackPlan(
            [.. resources[ResourceTypes.Table].Select(table => Table(table.LogicalId, table.Properties))],
            [.. resources[ResourceTypes.Bucket].Select(bucket => new BucketPlan(
                _values.BucketNameOf(bucket.LogicalId), NotIn(bucket.Properties, "BucketName")))],
            [.. resources[ResourceTypes.Queue].Select(queue => Queue(queue.LogicalId, queue.Properties))],
            [.. functions.Values],
            [.. mappings[false].Select(mapping => Mapping(mapping.LogicalId, mapping.Properties, functions))],
            [.. mappings[true].Select(mapping => QueueMapping(mapping.LogicalId, mapping.Properties, functions))],
            [.. _values.Resources
                .Where(resource => resource.Type is not (ResourceTypes.Table or ResourceTypes.Bucket or ResourceTypes.Queue or ResourceTypes.Function or ResourceTypes.Mapping))
                .Select(resource => new IgnoredResource(resource.LogicalId, resource.Type))]);
    }

    private TablePlan Table(string logicalId, JsonObject properties)
    {
        var p = new Properties(_values, logicalId, properties);
        var create = new CreateTableRequest
        {
            TableName = _values.NameOf(logicalId, "TableName"),
            KeySchema = KeySchema(p),
            AttributeDefinitions = [.. p.List("AttributeDefinitions").Select(a =>
                new AttributeDefinition(a.Text("AttributeName"), new ScalarAttributeType(a.Text("AttributeType"))))],
            GlobalSecondaryIndexes = NullIfEmpty(p.List("GlobalSecondaryIndexes").Select(index => new GlobalSecondaryIndex
            {
                IndexName = index.Text("IndexName"),
                KeySchema = KeySchema(index),
                Projection = Projection(index),
                ProvisionedThroughput = Throughput(index),
            })),
            LocalSecondaryIndexes = NullIfEmpty(p.List("LocalSecondaryIndexes").Select(index => new LocalSecondaryIndex
            {
                IndexName = index.Text("IndexName"),
                KeySchema = KeySchema(index),
                Projection = Projection(index),
            })),
            BillingMode = new BillingMode(p.OptionalText("BillingMode") ?? "PROVISIONED"),
            ProvisionedThroughput = Throughput(p),
            StreamSpecification = p.Object("StreamSpecification")?.Text("StreamViewType") is { } viewType
                ? new StreamSpecification { StreamEnabled = true, StreamViewType = new StreamViewType(viewType) }
                : null,
        };
        var timeToLive = p.Object("TimeToLiveSpecification");
        return new TablePlan(
            create,
            timeToLive?.Flag("Enabled") == true ? timeToLive.Text("AttributeName") : null,
            NotIn(properties, "TableName", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "LocalSecondaryIndexes",
                "BillingMode", "ProvisionedThroughput", "StreamSpecification", "TimeToLiveSpecification"));
    }

    /// <summary>DynamoDB refuses an empty list.</summary>
    private static List<T>? NullIfEmpty<T>(IEnumerable<T> items) => items.ToList() is { Count: > 0 } list ? list : null;

    private static List<KeySchemaElement> KeySchema(Properties p) =>
        [.. p.List("KeySchema").Select(key => new KeySchemaElement(key.Text("AttributeName"), new KeyType(key.Text("KeyType"))))];

    private static Projection Projection(Properties index) => new()
    {
        ProjectionType = new ProjectionType(index.Object("Projection")?.OptionalText("ProjectionType") ?? "ALL"),
        NonKeyAttributes = index.Object("Projection")?.Texts("NonKeyAttributes") is { Count: > 0 } attributes ? attributes : null,
    };

    private static ProvisionedThroughput? Throughput(Properties p) => p.Object("ProvisionedThroughput") is { } throughput
        ? new ProvisionedThroughput(throughput.Int("ReadCapacityUnits") ?? 0, throughput.Int("WriteCapacityUnits") ?? 0)
        : null;

    private QueuePlan Queue(string logicalId, JsonObject properties)
    {
        string[] applied =
        [
            "DelaySeconds", "MaximumMessageSize", "MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds", "VisibilityTimeout",
            "RedrivePolicy", "FifoQueue", "ContentBasedDeduplication",
        ];
        return new QueuePlan(
            _values.NameOf(logicalId, "QueueName"),
            applied.Where(properties.ContainsKey).ToDictionary(
                name => name,
                name => _values.Resolve(properties[name], $"{logicalId}.{name}") is var value && value is JsonObject
                    ? value.ToJsonString()
                    : value!.ToString()),
            NotIn(properties, ["QueueName", .. applied]));
    }

    private FunctionDefinition Function(string logicalId, JsonObject properties)
    {
        var p = new Properties(_values, logicalId, properties);
        var timeout = p.Int("Timeout") ?? 3;
        if (timeout is < 1 or > TimeoutSecondsMax)
        {
            throw new TemplateException($"{logicalId}.Timeout is {timeout}, but Lambda takes 1 to {TimeoutSecondsMax} seconds.");
        }

        var name = _values.NameOf(logicalId, "FunctionName");
        return new FunctionDefinition(
            name, $"arn:aws:lambda:{_region}:{_account}:function:{name}", TimeSpan.FromSeconds(timeout), p.Int("ReservedConcurrentExecutions"));
    }

    private bool IsOfQueue(string logicalId, JsonObject properties) =>
        new Properties(_values, logicalId, properties).Text("EventSourceArn").Split(':') is ["arn", _, "sqs", ..];

    private MappingPlan Mapping(string logicalId, JsonObject properties, Dictionary<string, FunctionDefinition> functions)
    {
        var p = new Properties(_values, logicalId, properties).Only(
            "BatchSize", "BisectBatchOnFunctionError", "DestinationConfig", "Enabled", "EventSourceArn", "FilterCriteria", "FunctionName",
            "FunctionResponseTypes", "MaximumBatchingWindowInSeconds", "MaximumRecordAgeInSeconds", "MaximumRetryAttempts",
            "ParallelizationFactor", "StartingPosition", "Tags");
        var function = FunctionOf(logicalId, p, functions);
        var (table, streamArn) = Stream(logicalId, p.Text("EventSourceArn"));
        var settings = Valid(logicalId, () => Settings(logicalId, p).Validated());
        return new MappingPlan(
            IdOf(logicalId), function, table, streamArn, settings, OnFailure(logicalId, p), p.Flag("Enabled") ?? true);
    }

    private QueueMappingPlan QueueMapping(string logicalId, JsonObject properties, Dictionary<string, FunctionDefinition> functions)
    {
        var p = new Properties(_values, logicalId, properties).Only(
            "BatchSize", "Enabled", "EventSourceArn", "FilterCriteria", "FunctionName", "FunctionResponseTypes",
            "MaximumBatchingWindowInSeconds", "ScalingConfig", "Tags");
        var arn = p.Text("EventSourceArn");
        var queue = arn.Split(':') is [_, _, _, _, _, { Length: > 0 } name] ? name
            : throw new TemplateException($"{logicalId}.EventSourceArn is {arn}, which is not arn:aws:sqs:REGION:ACCOUNT:NAME.");
        var settings = Valid(logicalId, () => new QueueSettings
        {
            BatchSize = p.Int("BatchSize") ?? 10,
            BatchingWindow = TimeSpan.FromSeconds(p.Int("MaximumBatchingWindowInSeconds") ?? 0),
            ReportBatchItemFailures = ReportsFailures(logicalId, p),
            Filter = Filter(p),
            ConcurrencyMax = p.Object("ScalingConfig")?.Only("MaximumConcurrency").Int("MaximumConcurrency"),
            IsFifo = queue.EndsWith(".fifo", StringComparison.Ordinal),
        }.Validated());
        return new QueueMappingPlan(IdOf(logicalId), FunctionOf(logicalId, p, functions), queue, arn, settings, p.Flag("Enabled") ?? true);
    }

    private static FunctionDefinition FunctionOf(string logicalId, Properties p, Dictionary<string, FunctionDefinition> functions)
    {
        var function = p.Text("FunctionName");
        function = (function.Contains(":function:", StringComparison.Ordinal) ? function.Split(":function:")[1] : function).Split(':')[0];
        return functions.GetValueOrDefault(function)
            ?? throw new TemplateException($"{logicalId}.FunctionName is {function}, but the template has no such function. It has: {string.Join(", ", functions.Keys)}.");
    }

    private static T Valid<T>(string logicalId, Func<T> settings)
    {
        try
        {
            return settings();
        }
        catch (ArgumentException e)
        {
            throw new TemplateException($"{logicalId}: {e.Message}");
        }
    }

    private static FilterCriteria? Filter(Properties p) => FilterCriteria.Parse(
        [.. (p.Object("FilterCriteria")?.Only("Filters").List("Filters") ?? []).Select(filter => filter.Only("Pattern").Text("Pattern"))]);

    private static bool ReportsFailures(string logicalId, Properties p)
    {
        const string Reports = "ReportBatchItemFailures";
        var types = p.Texts("FunctionResponseTypes");
        return types.Find(type => type != Reports) is { } unknown
            ? throw new TemplateException($"{logicalId}.FunctionResponseTypes has {unknown}, but Lambda knows {Reports} only.")
            : types.Count > 0;
    }

    private static MappingSettings Settings(string logicalId, Properties p) => new()
    {
        BatchSize = p.Int("BatchSize") ?? 100,
        BatchingWindow = TimeSpan.FromSeconds(p.Int("MaximumBatchingWindowInSeconds") ?? 0),
        StartingPosition = p.OptionalText("StartingPosition") switch
        {
            "TRIM_HORIZON" => StartingPosition.TrimHorizon,
            "LATEST" => StartingPosition.Latest,
            var position => throw new TemplateException($"{logicalId}.StartingPosition is {position ?? "missing"}; a DynamoDB stream needs TRIM_HORIZON or LATEST."),
        },
        ParallelizationFactor = p.Int("ParallelizationFactor") ?? 1,
        RetryAttemptsMax = p.Int("MaximumRetryAttempts") is { } attempts and not -1 ? attempts : null,
        RecordAgeMax = p.Int("MaximumRecordAgeInSeconds") is { } age and not -1 ? TimeSpan.FromSeconds(age) : null,
        BisectOnError = p.Flag("BisectBatchOnFunctionError") ?? false,
        ReportBatchItemFailures = ReportsFailures(logicalId, p),
        Filter = Filter(p),
    };

    private static (string Table, string? StreamArn) Stream(string logicalId, string arn)
    {
        if (arn.Split(':') is ["arn", _, "dynamodb", _, _, .. var rest]
            && string.Join(':', rest).Split('/') is ["table", var table, "stream", var label])
        {
            return (table, label == "*" ? null : arn);
        }

        throw new TemplateException($"{logicalId}.EventSourceArn is {arn}; the emulator reads DynamoDB streams (arn:aws:dynamodb:…:table/NAME/stream/LABEL, or * for the latest) and SQS queues.");
    }

    private static OnFailurePlan? OnFailure(string logicalId, Properties p)
    {
        // Streams have no OnSuccess.
        var config = p.Object("DestinationConfig")?.Only("OnFailure");
        return config?.Object("OnFailure")?.Only("Destination").Text("Destination") switch
        {
            null => null,
            var arn when arn.Split(':') is ["arn", _, "sqs", _, _, var queue] => new OnFailurePlan.Sqs(queue),
            var arn when arn.Split(':') is ["arn", _, "s3", _, _, var bucket] => new OnFailurePlan.S3(bucket),
            var arn => throw new TemplateException($"{logicalId}.DestinationConfig.OnFailure.Destination is {arn}; the emulator supports SQS queues and S3 buckets."),
        };
    }

    /// <summary>The same for the same resource of the same stack, in every run.</summary>
    private Guid IdOf(string logicalId) => new(SHA256.HashData(Encoding.UTF8.GetBytes($"{_stack}/{logicalId}")).AsSpan(0, 16));

    private static IReadOnlyList<string> NotIn(JsonObject properties, params string[] names) =>
        [.. properties.Select(property => property.Key).Where(name => !names.Contains(name))];

    /// <summary>A resource's properties, with errors that say where they are.</summary>
    private sealed class Properties(TemplateValues values, string where, JsonObject node)
    {
        /// <summary>What is not emulated must not be passed over: the local run would tell something else than the deployed one.</summary>
        public Properties Only(params string[] known) => NotIn(node, known) is [var unknown, ..]
            ? throw new TemplateException($"{where}.{unknown} is not supported by the emulator. Supported: {string.Join(", ", known)}.")
            : this;

        public string Text(string name) => OptionalText(name) ?? throw new TemplateException($"{where}.{name} is missing.");

        public string? OptionalText(string name) => Value(name) switch
        {
            null => null,
            JsonValue value => value.ToString(),
            var other => throw Not("a single value", name, other),
        };

        public int? Int(string name) => OptionalText(name) is not { } text ? null
            : int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) ? number
            : throw new TemplateException($"{where}.{name} is {text}, which is not a whole number.");

        public bool? Flag(string name) => OptionalText(name) is not { } text ? null
            : bool.TryParse(text, out var flag) ? flag
            : throw new TemplateException($"{where}.{name} is {text}; it must be true or false.");

        public List<string> Texts(string name) => Value(name) switch
        {
            null => [],
            JsonArray array => [.. array.Select(item => item is JsonValue text ? text.ToString() : throw Not("a list of texts", name, array))],
            var other => throw Not("a list of texts", name, other),
        };

        public Properties? Object(string name) => Value(name) switch
        {
            null => null,
            JsonObject child => new Properties(values, $"{where}.{name}", child),
            var other => throw Not("an object", name, other),
        };

        public IEnumerable<Properties> List(string name) => Value(name) switch
        {
            null => [],
            JsonArray array => array.Select((item, index) => new Properties(
                values, $"{where}.{name}[{index}]", item as JsonObject ?? throw Not("a list of objects", name, array))),
            var other => throw Not("a list of objects", name, other),
        };

        /// <summary>A setting of another shape must not be taken for one that is not there.</summary>
        private TemplateException Not(string shape, string name, JsonNode value) =>
            new($"{where}.{name} is {value.ToJsonString()}; the emulator takes {shape} here.");

        private JsonNode? Value(string name) => values.Resolve(node[name], $"{where}.{name}");
    }
}
