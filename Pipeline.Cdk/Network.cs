using Amazon.CDK;
using Amazon.CDK.AWS.DynamoDB;
using Amazon.CDK.AWS.EC2;
using Amazon.CDK.AWS.IAM;
using Amazon.CDK.AWS.Logs;
using Amazon.CDK.AWS.S3;
using Amazon.CDK.AWS.SecretsManager;
using Constructs;

namespace Pipeline.Cdk;

public sealed record NetworkProps
{
    public required Bucket Changes { get; init; }
    public required Table Orders { get; init; }
    public required RetentionDays LogRetention { get; init; }

    /// <summary>An interface endpoint costs by the hour and zone: both zones in production, one is enough otherwise.</summary>
    public required bool EndpointInEveryZone { get; init; }
}

/// <summary>
/// Two subnets in two zones without a way to or from the internet, for the warehouse and its loader. What they need
/// of AWS comes through endpoints: S3 and DynamoDB by route, Secrets Manager by address.
/// </summary>
public sealed class Network : Construct
{
    private readonly InterfaceVpcEndpoint _secrets;

    public Vpc Vpc { get; }
    public SecurityGroup Loader { get; }
    public SecurityGroup Warehouse { get; }

    public Network(Construct scope, string id, NetworkProps props)
        : base(scope, id)
    {
        Vpc = new Vpc(this, "Vpc", new VpcProps
        {
            IpAddresses = IpAddresses.Cidr("10.20.0.0/24"),
            MaxAzs = 2,
            NatGateways = 0,
            SubnetConfiguration = [new SubnetConfiguration { Name = "Isolated", SubnetType = SubnetType.PRIVATE_ISOLATED, CidrMask = 26 }],
            // Emptying the default group takes a custom resource; nothing here uses that group.
            RestrictDefaultSecurityGroup = false,
        });

        // Named groups that deny by default: each line below opens one way.
        Loader = Group("Loader", "The loader function");
        Warehouse = Group("Warehouse", "The Redshift cluster");
        var secrets = Group("Secrets", "The endpoint of Secrets Manager");
        Loader.AddEgressRule(Warehouse, Port.Tcp(Cdk.Warehouse.Port), "SQL");
        Warehouse.AddIngressRule(Loader, Port.Tcp(Cdk.Warehouse.Port), "SQL");
        Loader.AddEgressRule(secrets, Port.Tcp(443), "The password");
        secrets.AddIngressRule(Loader, Port.Tcp(443), "The password");
        // S3 has no security group. The routes of these subnets lead to the endpoints below and nowhere else.
        Loader.AddEgressRule(Peer.AnyIpv4(), Port.Tcp(443), "S3 through its gateway endpoint");
        Warehouse.AddEgressRule(Peer.AnyIpv4(), Port.Tcp(443), "S3 through its gateway endpoint");

        var s3 = Vpc.AddGatewayEndpoint("S3", new GatewayVpcEndpointOptions { Service = GatewayVpcEndpointAwsService.S3 });
        s3.AddToPolicy(Through(["s3:ListBucket"], props.Changes.BucketArn));
        s3.AddToPolicy(Through(["s3:GetObject"], props.Changes.ArnForObjects("orders/*")));
        s3.AddToPolicy(Through(["s3:PutObject"], props.Changes.ArnForObjects($"{Names.ManifestsPrefix}*"), props.Changes.ArnForObjects($"{Names.QuarantinePrefix}*")));
        s3.AddToPolicy(Through(["s3:DeleteObject"], props.Changes.ArnForObjects($"{Names.QuarantinePrefix}*")));
        // For reading the table from in here, to compare it with the warehouse.
        Vpc.AddGatewayEndpoint("DynamoDB", new GatewayVpcEndpointOptions { Service = GatewayVpcEndpointAwsService.DYNAMODB })
            .AddToPolicy(Through(["dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan"], props.Orders.TableArn, $"{props.Orders.TableArn}/*"));
        _secrets = Vpc.AddInterfaceEndpoint("SecretsManager", new InterfaceVpcEndpointOptions
        {
            Service = InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
            PrivateDnsEnabled = true,
            SecurityGroups = [secrets],
            Open = false,
            Subnets = new SubnetSelection { Subnets = props.EndpointInEveryZone ? Vpc.IsolatedSubnets : [Vpc.IsolatedSubnets[0]] },
        });

        var flowLogs = new LogGroup(this, "FlowLogs", new LogGroupProps
        {
            LogGroupName = "/order-pipeline/network-flows",
            Retention = props.LogRetention,
            RemovalPolicy = RemovalPolicy.DESTROY,
        });
        var flowLogsRole = new Role(this, "FlowLogsRole", new RoleProps
        {
            AssumedBy = new ServicePrincipal("vpc-flow-logs.amazonaws.com").WithConditions(new Dictionary<string, object>
            {
                ["StringEquals"] = new Dictionary<string, object> { ["aws:SourceAccount"] = Aws.ACCOUNT_ID },
            }),
            InlinePolicies = new Dictionary<string, PolicyDocument>
            {
                ["write-flows"] = new PolicyDocument(new PolicyDocumentProps
                {
                    Statements =
                    [
                        PipelineFunction.Allow(["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"], flowLogs.LogGroupArn),
                    ],
                }),
            },
        });
        Vpc.AddFlowLog("Flows", new FlowLogOptions
        {
            TrafficType = FlowLogTrafficType.ALL,
            Destination = FlowLogDestination.ToCloudWatchLogs(flowLogs, flowLogsRole.WithoutPolicyUpdates()),
        });
    }

    /// <summary>The secret can be read from within the network; no other one can.</summary>
    public void LetThrough(ISecret secret) => _secrets.AddToPolicy(Through(["secretsmanager:GetSecretValue"], secret.SecretArn));

    private SecurityGroup Group(string id, string description) => new(this, $"{id}Group", new SecurityGroupProps
    {
        Vpc = Vpc,
        Description = description,
        AllowAllOutbound = false,
    });

    // An endpoint's policy bounds what goes through it, whoever asks; the callers' own roles still apply.
    private static PolicyStatement Through(string[] actions, params string[] resources) => new(new PolicyStatementProps
    {
        Principals = [new AnyPrincipal()],
        Actions = actions,
        Resources = resources,
        Conditions = new Dictionary<string, object>
        {
            ["StringEquals"] = new Dictionary<string, object> { ["aws:PrincipalAccount"] = Aws.ACCOUNT_ID },
        },
    });
}
