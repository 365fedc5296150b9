namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>The documented rule that a case holds the emulator to. docs/conformance.md is made of these.</summary>
/// <param name="page">One of <see cref="Pages"/>.</param>
/// <param name="rule">What it says, in our words.</param>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class RuleAttribute(string page, string rule) : Attribute
{
    public string Page => page;

    public string Rule => rule;

    /// <summary>Where the page is silent or contradicts another: what was chosen, and why.</summary>
    public string? Choice { get; init; }
}

/// <summary>Pages of AWS's documentation, by guide and title.</summary>
internal static class Pages
{
    public const string Using = "Lambda developer guide: Using AWS Lambda with Amazon DynamoDB";
    public const string Parameters = "Lambda developer guide: Lambda parameters for Amazon DynamoDB event source mappings";
    public const string Errors = "Lambda developer guide: Retain discarded records for a DynamoDB event source in Lambda";
    public const string Partial = "Lambda developer guide: Configuring partial batch response with DynamoDB and Lambda";
    public const string PartialSqs = "Lambda developer guide: Handling errors for an SQS event source in Lambda";
    public const string Sqs = "Lambda developer guide: Using Lambda with Amazon SQS";
    public const string SqsConfigure = "Lambda developer guide: Creating and configuring an Amazon SQS event source mapping";
    public const string SqsParameters = "Lambda developer guide: Lambda parameters for Amazon SQS event source mappings";
    public const string SqsScaling = "Lambda developer guide: Configuring scaling behavior for SQS event source mappings";
    public const string SqsFiltering = "Lambda developer guide: Using event filtering with an Amazon SQS event source";
    public const string Redrive = "SQS developer guide: Using dead-letter queues in Amazon SQS";
    public const string Windows = "Lambda developer guide: Implementing stateful DynamoDB stream processing in Lambda";
    public const string Batching = "Lambda developer guide: How Lambda processes records from stream and queue-based event sources";
    public const string Filtering = "Lambda developer guide: Control which events Lambda sends to your function";
    public const string Quotas = "Lambda developer guide: Lambda quotas";
    public const string RuntimeApi = "Lambda developer guide: Using the Lambda runtime API for custom runtimes";
    public const string Timeouts = "Lambda developer guide: Configure Lambda function timeout";
    public const string Concurrency = "Lambda developer guide: Configuring reserved concurrency for a function";
    public const string Create = "Lambda API reference: CreateEventSourceMapping";
    public const string Invoke = "Lambda API reference: Invoke";
    public const string Streams = "DynamoDB developer guide: Change data capture for DynamoDB Streams";
    public const string Iterator = "DynamoDB Streams API reference: GetShardIterator";
    public const string Ttl = "DynamoDB developer guide: DynamoDB Streams and Time to Live";
}
