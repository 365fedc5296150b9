namespace Pipeline.Cdk.Tests.Rules;

internal static class WarehouseRules
{
    private const string Cluster = "WarehouseCluster";
    private const string Role = "WarehouseCopyRole";
    private const string Secret = "WarehouseLoaderSecret";

    public static IEnumerable<Rule> All { get; } =
    [
        new("The cluster is encrypted, private and logged, takes TLS only, and its administrator's password is Redshift's own",
            template =>
            {
                template.Is(
                    Cluster,
                    "AllowVersionUpgrade=true",
                    "AutomatedSnapshotRetentionPeriod=14",
                    "ClusterIdentifier=order-pipeline",
                    "ClusterParameterGroupName=${WarehouseParameters}",
                    "ClusterSubnetGroupName=${WarehouseSubnets}",
                    "ClusterType=single-node",
                    "DBName=warehouse",
                    "Encrypted=true",
                    "EnhancedVpcRouting=true",
                    "IamRoles=[${WarehouseCopyRole.Arn}]",
                    "LoggingProperties={LogDestinationType=cloudwatch, LogExports=[connectionlog, userlog, useractivitylog]}",
                    "ManageMasterPassword=true",
                    "MasterUsername=warehouse_admin",
                    "NodeType=ra3.large",
                    "Port=5439",
                    "PreferredMaintenanceWindow=mon:06:00-mon:06:30",
                    "PubliclyAccessible=false",
                    "VpcSecurityGroupIds=[${NetworkWarehouseGroup.GroupId}]",
                    "DependsOn=[Warehouseconnectionlog, Warehouseuseractivitylog, Warehouseuserlog]",
                    "UpdateReplacePolicy=Snapshot",
                    "DeletionPolicy=Snapshot");
                template.Is(
                    "WarehouseParameters",
                    "ParameterGroupFamily=redshift-1.0",
                    "Parameters=[{ParameterName=require_ssl, ParameterValue=true}, {ParameterName=enable_user_activity_logging, ParameterValue=true}]");
                template.Is(
                    "WarehouseSubnets",
                    "SubnetIds=[${NetworkVpcIsolatedSubnet1Subnet}, ${NetworkVpcIsolatedSubnet2Subnet}]");
            },
            new Mutant("no encryption", Cluster, cluster => cluster["Encrypted"] = false),
            new Mutant("open to the internet", Cluster, cluster => cluster["PubliclyAccessible"] = true),
            new Mutant("an address on the internet", Cluster, cluster => cluster["ElasticIp"] = "203.0.113.1"),
            new Mutant("COPY over the internet", Cluster, cluster => cluster.Remove("EnhancedVpcRouting")),
            new Mutant("a password in the template", Cluster, cluster => cluster["MasterUserPassword"] = "Password1"),
            new Mutant("no audit logs", Cluster, cluster => cluster.Remove("LoggingProperties")),
            new Mutant("another security group", Cluster, cluster => cluster.Remove("VpcSecurityGroupIds")),
            new Mutant("a dc2 node", Cluster, cluster => cluster["NodeType"] = "dc2.large"),
            new Mutant("plain connections", "WarehouseParameters", group => group["Parameters"]![0]!["ParameterValue"] = "false"),
            new Mutant("the default parameters", Cluster, cluster => cluster.Remove("ClusterParameterGroupName")),
            new Mutant("in the account's default network", Cluster, cluster => cluster.Remove("ClusterSubnetGroupName")),
            new Mutant("no last snapshot", Cluster, cluster => cluster.Parent!["DeletionPolicy"] = "Delete"),
            new Mutant("a day of snapshots", Cluster, cluster => cluster["AutomatedSnapshotRetentionPeriod"] = 1)),

        new("The cluster has one role, for one user, to read orders in one bucket",
            template =>
            {
                Assert.Equal(
                    [
                        "s3:GetObject on ${ChangesBucket.Arn}/orders/*",
                        "s3:ListBucket on ${ChangesBucket.Arn} if {StringLike={s3:prefix=orders/*}}",
                    ],
                    template.RightsOf(Role));
            },
            new Mutant("every bucket", Role, role => Mutant.Statement(role, 0)["Resource"] = "arn:aws:s3:::*"),
            new Mutant("the whole bucket listed", Role, role => Mutant.Statement(role, 1).Remove("Condition"))),

        new("The loader's password is generated, and goes nowhere but into its secret",
            template =>
            {
                template.Is(
                    Secret,
                    """GenerateSecretString={ExcludePunctuation=true, GenerateStringKey=password, PasswordLength=48, SecretStringTemplate={"username":"loader"}}""",
                    "Name=order-pipeline/warehouse-loader",
                    "UpdateReplacePolicy=Delete",
                    "DeletionPolicy=Delete");
                template.Is(
                    "WarehouseLoaderSecretTarget",
                    "SecretId=${WarehouseLoaderSecret}",
                    "TargetId=${WarehouseCluster}",
                    "TargetType=AWS::Redshift::Cluster");
                // The API's own key for page cursors is put into its settings; of secrets that open something none is.
                Assert.All(
                    template.Everything.Where(r => r.Name != "OrdersApiRunFunction"),
                    r => Assert.DoesNotContain("{{resolve:", TemplateView.Render(r.Properties), StringComparison.Ordinal));
            },
            new Mutant("a password that is written down", Secret, secret =>
            {
                secret.Remove("GenerateSecretString");
                secret["SecretString"] = "secret";
            }),
            new Mutant("encrypted with somebody else's key", Secret, secret => secret["KmsKeyId"] = "arn:aws:kms:us-east-1:111111111111:key/1"),
            new Mutant("the password put into the environment", "LoaderRunFunction",
                function => function["Environment"]!["Variables"]!["Password"] = "{{resolve:secretsmanager:order-pipeline/warehouse-loader:SecretString:password}}")),
    ];
}
