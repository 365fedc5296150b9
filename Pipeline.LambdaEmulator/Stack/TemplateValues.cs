using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Pipeline.LambdaEmulator.Stack;

/// <summary>
/// Computes the intrinsic functions of a CloudFormation template that names and settings are made of: Ref,
/// Fn::GetAtt, Fn::Join, Fn::Sub (CloudFormation user guide, "Intrinsic function reference").
/// </summary>
public sealed partial class TemplateValues(JsonObject template, string stack, string account, string region)
{
    private readonly JsonObject _resources = template[nameof(Resources)] as JsonObject
        ?? throw new TemplateException("The file is not a CloudFormation template in JSON: it has no object \"Resources\".");

    private readonly JsonObject? _parameters = template["Parameters"] as JsonObject;

    public IEnumerable<(string LogicalId, string Type, JsonObject Properties)> Resources =>
        _resources.Select(resource => (resource.Key, TypeOf(resource.Key), resource.Value!["Properties"] as JsonObject ?? []));

    /// <summary>The value with every intrinsic function computed.</summary>
    public JsonNode? Resolve(JsonNode? value, string where)
    {
        switch (value)
        {
            case JsonArray array:
                return new JsonArray([.. array.Select((item, index) => Resolve(item, $"{where}[{index}]")?.DeepClone())]);
            case JsonObject { Count: 1 } function when Intrinsic(function) is { } name:
                return Compute(name, function[name]!, where);
            case JsonObject node:
                return new JsonObject(node.Select(member =>
                    KeyValuePair.Create(member.Key, Resolve(member.Value, $"{where}.{member.Key}")?.DeepClone())));
            default:
                return value;
        }
    }

    /// <summary>The physical name of a table, bucket, queue or function: as given, or made of stack and logical id.</summary>
    public string NameOf(string logicalId, string property)
    {
        var name = Resolve(_resources[logicalId]!["Properties"]?[property], $"{logicalId}.{property}");
        return name?.ToString() ?? $"{stack}-{logicalId}";
    }

    /// <summary>A bucket's name has to be in lower case.</summary>
    public string BucketNameOf(string logicalId) => NameOf(logicalId, "BucketName") is var name && name == $"{stack}-{logicalId}"
        ? string.Create(name.Length, name, (to, from) => from.AsSpan().ToLowerInvariant(to))
        : name;

    private static string? Intrinsic(JsonObject node)
    {
        var name = node.First().Key;
        return name == "Ref" || name.StartsWith("Fn::", StringComparison.Ordinal) ? name : null;
    }

    private string Compute(string function, JsonNode argument, string where) => function switch
    {
        "Ref" => Ref(argument.ToString(), where),
        "Fn::GetAtt" when argument is JsonArray { Count: 2 } path => Attribute(path[0]!.ToString(), path[1]!.ToString(), where),
        "Fn::GetAtt" when argument.ToString().Split('.', 2) is [var id, var attribute] => Attribute(id, attribute, where),
        "Fn::Join" when argument is JsonArray { Count: 2 } join && join[1] is JsonArray parts =>
            string.Join(join[0]!.ToString(), parts.Select(part => Resolve(part, where))),
        "Fn::Sub" when argument is JsonArray { Count: 2 } sub && sub[1] is JsonObject variables => Sub(sub[0]!.ToString(), variables, where),
        "Fn::Sub" when argument is JsonValue => Sub(argument.ToString(), [], where),
        _ => throw new TemplateException(
            $"{where} uses {function} in a way that the emulator does not compute. It knows Ref, Fn::GetAtt, Fn::Join and Fn::Sub."),
    };

    private string Sub(string text, JsonObject variables, string where) => Placeholder().Replace(text, match =>
    {
        var name = match.Groups["name"].Value;
        return match.Groups["literal"].Success ? $"${{{name}}}"
            : variables[name] is { } variable ? Resolve(variable, where)!.ToString()
            : name.Split('.', 2) is [var id, var attribute] ? Attribute(id, attribute, where)
            : Ref(name, where);
    });

    private string Ref(string name, string where) => name switch
    {
        "AWS::AccountId" => account,
        "AWS::Region" => region,
        "AWS::Partition" => "aws",
        "AWS::StackName" => stack,
        "AWS::URLSuffix" => "amazonaws.com",
        _ when _parameters?[name] is JsonObject parameter => parameter["Default"]?.ToString()
            ?? throw new TemplateException($"{where} needs the parameter {name}, which has no default. The emulator takes no parameters."),
        _ => TypeOf(name, where) switch
        {
            ResourceTypes.Table => NameOf(name, "TableName"),
            ResourceTypes.Bucket => BucketNameOf(name),
            ResourceTypes.Queue => $"https://sqs.{region}.amazonaws.com/{account}/{NameOf(name, "QueueName")}",
            ResourceTypes.Function => NameOf(name, "FunctionName"),
            var type => throw new TemplateException($"{where} refers to {name}, a resource of type {type} that is not emulated."),
        },
    };

    private string Attribute(string logicalId, string attribute, string where) => (TypeOf(logicalId, where), attribute) switch
    {
        (ResourceTypes.Table, "Arn") => Arn("dynamodb", $"table/{NameOf(logicalId, "TableName")}"),
        // The label of a stream is only known when the table exists.
        (ResourceTypes.Table, "StreamArn") => Arn("dynamodb", $"table/{NameOf(logicalId, "TableName")}/stream/*"),
        (ResourceTypes.Bucket, "Arn") => $"arn:aws:s3:::{BucketNameOf(logicalId)}",
        (ResourceTypes.Queue, "Arn") => Arn("sqs", NameOf(logicalId, "QueueName")),
        (ResourceTypes.Queue, "QueueName") => NameOf(logicalId, "QueueName"),
        (ResourceTypes.Queue, "QueueUrl") => Ref(logicalId, where),
        (ResourceTypes.Function, "Arn") => Arn("lambda", $"function:{NameOf(logicalId, "FunctionName")}"),
        var (type, _) => throw new TemplateException($"{where} needs the attribute {attribute} of {logicalId} ({type}), which is not emulated."),
    };

    private string Arn(string service, string resource) => $"arn:aws:{service}:{region}:{account}:{resource}";

    private string TypeOf(string logicalId, string? where = null) => _resources[logicalId]?["Type"]?.ToString()
        ?? throw new TemplateException($"{where ?? "The template"} refers to {logicalId}, which is no resource of it with a type.");

    [GeneratedRegex(@"\$\{(?<literal>!)?(?<name>[^}]+)\}")]
    private static partial Regex Placeholder();
}

/// <summary>The resource types of which something is done locally.</summary>
public static class ResourceTypes
{
    public const string Table = "AWS::DynamoDB::Table";
    public const string Bucket = "AWS::S3::Bucket";
    public const string Queue = "AWS::SQS::Queue";
    public const string Function = "AWS::Lambda::Function";
    public const string Mapping = "AWS::Lambda::EventSourceMapping";
}
