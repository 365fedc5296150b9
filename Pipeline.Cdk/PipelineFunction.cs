using Amazon.CDK;
using Amazon.CDK.AWS.EC2;
using Amazon.CDK.AWS.IAM;
using Amazon.CDK.AWS.Lambda;
using Amazon.CDK.AWS.Logs;
using Constructs;

namespace Pipeline.Cdk;

public sealed record PipelineFunctionProps
{
    public required string Name { get; init; }
    public required string Description { get; init; }
    public required Code Code { get; init; }

    /// <summary>The executable assembly, as Lambda's .NET runtime wants it; for a web application its start script.</summary>
    public required string Handler { get; init; }
    public required int MemoryMegabytes { get; init; }
    public required Duration Timeout { get; init; }
    public int? ReservedConcurrency { get; init; }
    public required RetentionDays LogRetention { get; init; }
    public required IDictionary<string, string> Environment { get; init; }

    /// <summary>What the function may do, besides writing its log and its traces.</summary>
    public required IReadOnlyList<PolicyStatement> Rights { get; init; }
    public IVpc? Vpc { get; init; }
    public ISecurityGroup? SecurityGroup { get; init; }
    public ILayerVersion? Layer { get; init; }
    public ParamsAndSecretsLayerVersion? SecretsExtension { get; init; }
}

/// <summary>A .NET function with a log that ends, traces, and a role that holds exactly the rights given.</summary>
public sealed class PipelineFunction : Construct
{
    public Function Function { get; }

    public PipelineFunction(Construct scope, string id, PipelineFunctionProps props)
        : base(scope, id)
    {
        var logs = new LogGroup(this, "Logs", new LogGroupProps
        {
            LogGroupName = $"/aws/lambda/{props.Name}",
            Retention = props.LogRetention,
            RemovalPolicy = RemovalPolicy.DESTROY,
        });

        var role = new Role(this, "Role", new RoleProps
        {
            AssumedBy = new ServicePrincipal("lambda.amazonaws.com"),
            InlinePolicies = new Dictionary<string, PolicyDocument>
            {
                [props.Name] = new PolicyDocument(new PolicyDocumentProps
                {
                    Statements =
                    [
                        Allow(["logs:CreateLogStream", "logs:PutLogEvents"], logs.LogGroupArn),
                        // X-Ray knows no resources for these two.
                        Allow(["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*"),
                        .. props.Rights,
                    ],
                }),
            },
        });

        Function = new Function(this, "Function", new FunctionProps
        {
            FunctionName = props.Name,
            Description = props.Description,
            Runtime = new Runtime("dotnet10", RuntimeFamily.DOTNET_CORE),
            Architecture = Architecture.ARM_64,
            Handler = props.Handler,
            Code = props.Code,
            MemorySize = props.MemoryMegabytes,
            Timeout = props.Timeout,
            ReservedConcurrentExecutions = props.ReservedConcurrency,
            LogGroup = logs,
            Tracing = Tracing.ACTIVE,
            // Closed: the CDK's own grants would add rights that nobody wrote down.
            Role = role.WithoutPolicyUpdates(),
            Environment = props.Environment,
            Vpc = props.Vpc,
            SecurityGroups = props.SecurityGroup is null ? null : [props.SecurityGroup],
            Layers = props.Layer is null ? null : [props.Layer],
            ParamsAndSecrets = props.SecretsExtension,
        });
    }

    public static PolicyStatement Allow(string[] actions, params string[] resources) =>
        new(new PolicyStatementProps { Actions = actions, Resources = resources });
}
