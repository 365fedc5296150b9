using Amazon.CDK;
using Amazon.CDK.AWS.IAM;
using Amazon.CDK.AWS.Logs;
using Amazon.CDK.AWS.Redshift;
using Amazon.CDK.AWS.S3;
using Amazon.CDK.AWS.SecretsManager;
using Constructs;

namespace Pipeline.Cdk;

public sealed record WarehouseProps
{
    public required Network Network { get; init; }
    public required Bucket Changes { get; init; }
    public required string NodeType { get; init; }
    public required int Nodes { get; init; }
    public required bool Keep { get; init; }
    public required RetentionDays LogRetention { get; init; }
}

/// <summary>
/// The Redshift cluster, provisioned: Serverless needs subnets in three zones. Its administrator's password is made
/// and rotated by Redshift; the loader has a user of its own, which docs/deploy.md creates.
/// </summary>
public sealed class Warehouse : Construct
{
    public const string Identifier = "order-pipeline";
    public const string Database = "warehouse";
    public const string LoaderUser = "loader";
    public const int Port = 5439;

    public CfnCluster Cluster { get; }

    /// <summary>What the cluster reads the bucket with, when the loader says COPY.</summary>
    public Role CopyRole { get; }

    /// <summary>User name, password, host, port and database of the loader's user.</summary>
    public Secret LoaderSecret { get; }

    public Warehouse(Construct scope, string id, WarehouseProps props)
        : base(scope, id)
    {
        CopyRole = new Role(this, "CopyRole", new RoleProps
        {
            Description = "The warehouse reads change files.",
            // Not every user of the cluster may borrow this role: the loader's only.
            AssumedBy = new ServicePrincipal("redshift.amazonaws.com").WithConditions(new Dictionary<string, object>
            {
                ["StringEquals"] = new Dictionary<string, object>
                {
                    ["sts:ExternalId"] = $"arn:{Aws.PARTITION}:redshift:{Aws.REGION}:{Aws.ACCOUNT_ID}:dbuser:{Identifier}/{LoaderUser}",
                },
            }),
            InlinePolicies = new Dictionary<string, PolicyDocument>
            {
                ["read-orders"] = new PolicyDocument(new PolicyDocumentProps
                {
                    Statements =
                    [
                        PipelineFunction.Allow(["s3:GetObject"], props.Changes.ArnForObjects("orders/*")),
                        new PolicyStatement(new PolicyStatementProps
                        {
                            Actions = ["s3:ListBucket"],
                            Resources = [props.Changes.BucketArn],
                            Conditions = new Dictionary<string, object>
                            {
                                ["StringLike"] = new Dictionary<string, object> { ["s3:prefix"] = "orders/*" },
                            },
                        }),
                    ],
                }),
            },
        });

        var subnets = new CfnClusterSubnetGroup(this, "Subnets", new CfnClusterSubnetGroupProps
        {
            Description = "The two isolated subnets.",
            SubnetIds = props.Network.Vpc.SelectSubnets().SubnetIds,
        });

        var parameters = new CfnClusterParameterGroup(this, "Parameters", new CfnClusterParameterGroupProps
        {
            Description = "TLS only, statements audited.",
            ParameterGroupFamily = "redshift-1.0",
            Parameters = new object[]
            {
                Parameter("require_ssl", "true"),
                Parameter("enable_user_activity_logging", "true"),
            },
        });

        Cluster = new CfnCluster(this, "Cluster", new CfnClusterProps
        {
            ClusterIdentifier = Identifier,
            ClusterType = props.Nodes == 1 ? "single-node" : "multi-node",
            NumberOfNodes = props.Nodes == 1 ? null : props.Nodes,
            NodeType = props.NodeType,
            DbName = Database,
            Port = Port,
            MasterUsername = "warehouse_admin",
            ManageMasterPassword = true,
            Encrypted = true,
            EnhancedVpcRouting = true,
            PubliclyAccessible = false,
            AllowVersionUpgrade = true,
            // Sunday night in Brazil, where the orders come from.
            PreferredMaintenanceWindow = "mon:06:00-mon:06:30",
            AutomatedSnapshotRetentionPeriod = props.Keep ? 14 : 1,
            ClusterSubnetGroupName = subnets.Ref,
            ClusterParameterGroupName = parameters.Ref,
            VpcSecurityGroupIds = [props.Network.Warehouse.SecurityGroupId],
            IamRoles = [CopyRole.RoleArn],
            LoggingProperties = new CfnCluster.LoggingPropertiesProperty
            {
                LogDestinationType = "cloudwatch",
                LogExports = AuditLogs,
            },
        });
        Cluster.ApplyRemovalPolicy(props.Keep ? RemovalPolicy.SNAPSHOT : RemovalPolicy.DESTROY);

        // Redshift would create these itself, and they would never end.
        foreach (var log in AuditLogs)
        {
            Cluster.Node.AddDependency(new LogGroup(this, log, new LogGroupProps
            {
                LogGroupName = $"/aws/redshift/cluster/{Identifier}/{log}",
                Retention = props.LogRetention,
                RemovalPolicy = RemovalPolicy.DESTROY,
            }));
        }

        LoaderSecret = new Secret(this, "LoaderSecret", new SecretProps
        {
            SecretName = "order-pipeline/warehouse-loader",
            Description = "The loader's user of the warehouse.",
            GenerateSecretString = new SecretStringGenerator
            {
                SecretStringTemplate = $$"""{"username":"{{LoaderUser}}"}""",
                GenerateStringKey = "password",
                PasswordLength = 48,
                // Redshift refuses quotes, slashes, @ and blanks; letters and digits need no escaping anywhere.
                ExcludePunctuation = true,
            },
            RemovalPolicy = RemovalPolicy.DESTROY,
        });
        _ = new CfnSecretTargetAttachment(this, "LoaderSecretTarget", new CfnSecretTargetAttachmentProps
        {
            SecretId = LoaderSecret.SecretArn,
            TargetType = "AWS::Redshift::Cluster",
            TargetId = Cluster.Ref,
        });
    }

    private static readonly string[] AuditLogs = ["connectionlog", "userlog", "useractivitylog"];

    private static CfnClusterParameterGroup.ParameterProperty Parameter(string name, string value) =>
        new() { ParameterName = name, ParameterValue = value };
}
