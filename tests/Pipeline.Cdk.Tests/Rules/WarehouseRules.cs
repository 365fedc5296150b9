namespace Pipeline.Cdk.Tests.Rules;

internal static class WarehouseRules
{
    private const string Cluster = "WarehouseCluster";
    private const string Role = "WarehouseCopyRole";
    private const string Secret = "WarehouseLoaderSecret";

    public static IEnumerable<Rule> All { get; } =
    [
        new("The cluster is encrypted, private, and its administrator's password is Redshift's own",
            template =>
            {
                template.Has("AWS::Redshift::Cluster",
                    """
                    {
                      "ClusterIdentifier": "order-pipeline",
                      "DBName": "warehouse",
                      "Port": 5439,
                      "Encrypted": true,
                      "EnhancedVpcRouting": true,
                      "PubliclyAccessible": false,
                      "ManageMasterPassword": true,
                      "LoggingProperties": { "LogDestinationType": "cloudwatch", "LogExports": ["connectionlog", "userlog", "useractivitylog"] }
                    }
                    """);
                Assert.Null(template[Cluster]["MasterUserPassword"]);
                Assert.Equal("[${NetworkWarehouseGroup.GroupId}]", TemplateView.Render(template[Cluster]["VpcSecurityGroupIds"]!));
            },
            new Mutant("no encryption", Cluster, cluster => cluster["Encrypted"] = false),
            new Mutant("open to the internet", Cluster, cluster => cluster["PubliclyAccessible"] = true),
            new Mutant("COPY over the internet", Cluster, cluster => cluster.Remove("EnhancedVpcRouting")),
            new Mutant("a password in the template", Cluster, cluster => cluster["MasterUserPassword"] = "Password1"),
            new Mutant("no audit logs", Cluster, cluster => cluster.Remove("LoggingProperties")),
            new Mutant("another security group", Cluster, cluster => cluster.Remove("VpcSecurityGroupIds"))),

        new("The cluster has one node of a kind that is not at its end",
            template => template.Has("AWS::Redshift::Cluster", """{ "NodeType": "ra3.large", "ClusterType": "single-node" }"""),
            new Mutant("a dc2 node", Cluster, cluster => cluster["NodeType"] = "dc2.large")),

        new("The cluster takes TLS only, and logs every statement",
            template =>
            {
                Assert.Equal("${WarehouseParameters}", TemplateView.Render(template[Cluster]["ClusterParameterGroupName"]!));
                Assert.Equal(
                    ["require_ssl=true", "enable_user_activity_logging=true"],
                    template["WarehouseParameters"]["Parameters"]!.AsArray().Select(p => $"{p!["ParameterName"]}={p["ParameterValue"]}"));
            },
            new Mutant("plain connections", "WarehouseParameters", group => group["Parameters"]![0]!["ParameterValue"] = "false"),
            new Mutant("the default parameters", Cluster, cluster => cluster.Remove("ClusterParameterGroupName"))),

        new("The cluster lies in the two subnets",
            template => Assert.Equal(
                ["${WarehouseSubnets}", "[${NetworkVpcIsolatedSubnet1Subnet}, ${NetworkVpcIsolatedSubnet2Subnet}]"],
                [TemplateView.Render(template[Cluster]["ClusterSubnetGroupName"]!), TemplateView.Render(template["WarehouseSubnets"]["SubnetIds"]!)]),
            new Mutant("in the account's default network", Cluster, cluster => cluster.Remove("ClusterSubnetGroupName"))),

        new("The cluster has one role, for one user, to read orders in one bucket",
            template =>
            {
                Assert.Equal("[${WarehouseCopyRole.Arn}]", TemplateView.Render(template[Cluster]["IamRoles"]!));
                Assert.Equal(
                    ["{Service=redshift.amazonaws.com} if {StringEquals={sts:ExternalId=arn:${AWS::Partition}:redshift:${AWS::Region}:${AWS::AccountId}:dbuser:order-pipeline/loader}}"],
                    template.TakersOf(Role));
                Assert.Equal(
                    [
                        "s3:GetObject on ${ChangesBucket.Arn}/orders/*",
                        "s3:ListBucket on ${ChangesBucket.Arn} if {StringLike={s3:prefix=orders/*}}",
                    ],
                    template.RightsOf(Role));
            },
            new Mutant("every bucket", Role, role => Mutant.Statement(role, 0)["Resource"] = "arn:aws:s3:::*"),
            new Mutant("the whole bucket listed", Role, role => Mutant.Statement(role, 1).Remove("Condition")),
            new Mutant("every user of every cluster", Role, role => role["AssumeRolePolicyDocument"]!["Statement"]![0]!.AsObject().Remove("Condition"))),

        new("The loader's password is generated, and goes nowhere but into its secret",
            template =>
            {
                template.Has("AWS::SecretsManager::Secret",
                    """
                    {
                      "Name": "order-pipeline/warehouse-loader",
                      "GenerateSecretString": {
                        "SecretStringTemplate": "{\"username\":\"loader\"}", "GenerateStringKey": "password", "PasswordLength": 48, "ExcludePunctuation": true
                      }
                    }
                    """);
                Assert.Equal(
                    ["SecretId=${WarehouseLoaderSecret}", "TargetId=${WarehouseCluster}", "TargetType=AWS::Redshift::Cluster"],
                    TemplateView.Lines(template["WarehouseLoaderSecretTarget"]));
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
            new Mutant("the password put into the environment", "LoaderRunFunction",
                function => function["Environment"]!["Variables"]!["Password"] = "{{resolve:secretsmanager:order-pipeline/warehouse-loader:SecretString:password}}")),

        new("A last snapshot outlives the cluster",
            template =>
            {
                template.AllAre("Snapshot", "Snapshot", "AWS::Redshift::Cluster");
                template.Has("AWS::Redshift::Cluster", """{ "AutomatedSnapshotRetentionPeriod": 14 }""");
            },
            new Mutant("no last snapshot", Cluster, cluster => cluster.Parent!["DeletionPolicy"] = "Delete"),
            new Mutant("a day of snapshots", Cluster, cluster => cluster["AutomatedSnapshotRetentionPeriod"] = 1))
        {
            OfProdOnly = true,
        },
    ];
}
