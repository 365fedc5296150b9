using System.CommandLine;
using Microsoft.AspNetCore.Connections;
using Pipeline.LambdaEmulator.Stack;

namespace Pipeline.LambdaEmulator;

/// <summary>What the command line and the environment say.</summary>
public sealed record EmulatorOptions
{
    /// <summary>The account id in ARNs and pseudo parameters: that of DynamoDB Local and of most other emulators.</summary>
    public const string Account = "000000000000";

    public required string TemplatePath { get; init; }

    public required string StateFolder { get; init; }

    public required bool Provision { get; init; }

    public required string Region { get; init; }

    /// <summary>The attribute of an item with the W3C traceparent of the request that wrote it.</summary>
    public required string TraceAttribute { get; init; }

    /// <summary>Where DynamoDB Streams is.</summary>
    public required Uri StreamsEndpoint { get; init; }

    /// <summary>The command line; <paramref name="run"/> gets the options once they are complete.</summary>
    public static RootCommand Command(Func<EmulatorOptions, Task<int>> run)
    {
        var template = new Option<FileInfo>("--template")
        {
            Description = "The CloudFormation template (JSON) with the functions and event source mappings to run. It may be a template of "
                + "nothing else: functions need FunctionName (Timeout is 3 s if there is none); a mapping's EventSourceArn may be "
                + "arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/* for the table's current stream.",
            Required = true,
        };
        template.AcceptExistingOnly();
        var state = new Option<DirectoryInfo>("--state")
        {
            Description = "The folder for the checkpoints. It is created if missing; delete it to start anew.",
            Required = true,
        };
        var provision = new Option<bool>("--provision")
        {
            Description = "Create the template's tables, buckets and queues where they are missing.",
        };
        var traceAttribute = new Option<string>("--trace-attribute")
        {
            Description = "The string attribute of an item with the W3C traceparent of the request that wrote it: a batch's span is "
                + "linked to the traces of its records. Streams carry no trace of their own.",
            DefaultValueFactory = _ => "trace_parent",
        };
        var command = new RootCommand(
            "Runs AWS Lambda functions locally behind faithful event source mappings for DynamoDB Streams and SQS.\n\n"
            + "A function is any process with a Lambda runtime client; give it AWS_LAMBDA_RUNTIME_API=HOST:PORT/FUNCTION.\n\n"
            + "Environment: ASPNETCORE_URLS (where to listen; default http://127.0.0.1:5090), AWS_REGION, AWS_ACCESS_KEY_ID, "
            + "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL_DYNAMODB_STREAMS (default: that of DynamoDB), "
            + "AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL_SQS, OTEL_EXPORTER_OTLP_ENDPOINT (telemetry is exported only if it is set).\n\n"
            + "GET /health, GET /event-source-mappings and POST /2015-03-31/functions/NAME/invocations are there to look at it and to try a function.");
        command.Options.Add(template);
        command.Options.Add(state);
        command.Options.Add(provision);
        command.Options.Add(traceAttribute);
        command.SetAction(async (parsed, _) =>
        {
            try
            {
                return await run(new EmulatorOptions
                {
                    TemplatePath = parsed.GetRequiredValue(template).FullName,
                    StateFolder = parsed.GetRequiredValue(state).FullName,
                    Provision = parsed.GetValue(provision),
                    TraceAttribute = parsed.GetRequiredValue(traceAttribute),
                    Region = Required("AWS_REGION", "the region of your functions, for example us-east-1"),
                    StreamsEndpoint = StreamsEndpointFromEnvironment(),
                });
            }
            catch (Exception e) when (e is TemplateException or IOException { InnerException: AddressInUseException })
            {
                Console.Error.WriteLine(e.Message);
                return 1;
            }
        });
        return command;
    }

    /// <summary>The stack's name: that of the template's file, without what the CDK appends.</summary>
    public string Stack => Path.GetFileName(TemplatePath).Split('.')[0];

    /// <summary>Refuses to run against AWS itself, where Lambda does this job.</summary>
    /// <exception cref="TemplateException">The plan needs a service without a local endpoint.</exception>
    public void RequireEndpoints(StackPlan plan)
    {
        _ = Required("AWS_ACCESS_KEY_ID", "the access key of the local servers; letters and digits for DynamoDB Local");
        _ = Required("AWS_SECRET_ACCESS_KEY", "the secret of the local servers; letters and digits for DynamoDB Local");
        Endpoint("DYNAMODB");
        if ((Provision && plan.Buckets.Count > 0) || plan.Mappings.Any(mapping => mapping.OnFailure is OnFailurePlan.S3))
        {
            Endpoint("S3");
        }

        if ((Provision && plan.Queues.Count > 0) || plan.QueueMappings.Count > 0 || plan.Mappings.Any(mapping => mapping.OnFailure is OnFailurePlan.Sqs))
        {
            Endpoint("SQS");
        }
    }

    private static Uri StreamsEndpointFromEnvironment()
    {
        var name = "AWS_ENDPOINT_URL_DYNAMODB_STREAMS";
        var text = Environment.GetEnvironmentVariable(name) is { Length: > 0 } given ? given : Endpoint("DYNAMODB");
        return Uri.TryCreate(text, UriKind.Absolute, out var uri) ? uri
            : throw new TemplateException($"{name} is {text}, which is not an absolute URL such as http://127.0.0.1:18000.");
    }

    private static string Endpoint(string service) =>
        Environment.GetEnvironmentVariable("AWS_ENDPOINT_URL") is { Length: > 0 } all
        && Environment.GetEnvironmentVariable($"AWS_ENDPOINT_URL_{service}") is not { Length: > 0 }
            ? all
            : Required($"AWS_ENDPOINT_URL_{service}", $"the address of the local {service} server, for example http://127.0.0.1:18000");

    private static string Required(string name, string meaning) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value
        ? value
        : throw new TemplateException($"The environment variable {name} is not set. It has to be {meaning}.");
}
