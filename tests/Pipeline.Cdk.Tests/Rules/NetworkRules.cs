using System.Text.Json.Nodes;

namespace Pipeline.Cdk.Tests.Rules;

internal static class NetworkRules
{
    private const string Loader = "NetworkLoaderGroup";
    private const string Warehouse = "NetworkWarehouseGroup";

    public static IEnumerable<Rule> All { get; } =
    [
        new("There are two subnets in two zones, and no way to the internet",
            template =>
            {
                Assert.Equal(2, template.All("AWS::EC2::Subnet").Select(s => s.Properties["AvailabilityZone"]!.ToJsonString()).Distinct().Count());
                Assert.Equal(2, template.All("AWS::EC2::Subnet").Count());
                template.AllHave("AWS::EC2::Subnet", """{ "MapPublicIpOnLaunch": false }""");
                Assert.DoesNotContain(template.Everything, r => r.Type is
                    "AWS::EC2::InternetGateway" or "AWS::EC2::NatGateway" or "AWS::EC2::Route" or "AWS::EC2::VPCPeeringConnection");
            },
            new Mutant("both subnets in one zone", "NetworkVpcIsolatedSubnet2Subnet",
                subnet => subnet["AvailabilityZone"] = subnet.Root["Resources"]!["NetworkVpcIsolatedSubnet1Subnet0400477E"]!["Properties"]!["AvailabilityZone"]!.DeepClone()),
            new Mutant("public addresses", "NetworkVpcIsolatedSubnet1Subnet", subnet => subnet["MapPublicIpOnLaunch"] = true),
            new Mutant("an internet gateway", "NetworkVpcDynamoDB", endpoint => endpoint.Parent!["Type"] = "AWS::EC2::InternetGateway")),

        new("AWS is reached through three endpoints, and they let through what is needed",
            template =>
            {
                Assert.Equal(
                    ["com.amazonaws.${AWS::Region}.s3 (Gateway)", "com.amazonaws.${AWS::Region}.dynamodb (Gateway)", "com.amazonaws.${AWS::Region}.secretsmanager (Interface)"],
                    template.All("AWS::EC2::VPCEndpoint").Select(e => $"{TemplateView.Render(e.Properties["ServiceName"]!)} ({e.Properties["VpcEndpointType"]})"));
                const string ours = " by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}";
                Assert.Equal(
                    [
                        $"s3:ListBucket on ${{ChangesBucket.Arn}}{ours}",
                        $"s3:GetObject on ${{ChangesBucket.Arn}}/orders/*{ours}",
                        $"s3:PutObject on ${{ChangesBucket.Arn}}/{Names.ManifestsPrefix}*{ours}",
                        $"s3:PutObject on ${{ChangesBucket.Arn}}/{Names.QuarantinePrefix}*{ours}",
                        $"s3:DeleteObject on ${{ChangesBucket.Arn}}/{Names.QuarantinePrefix}*{ours}",
                    ],
                    TemplateView.Statements(template["NetworkVpcS3"]["PolicyDocument"]));
                Assert.Equal(
                    [
                        $"dynamodb:DescribeTable on ${{OrdersTable.Arn}}{ours}",
                        $"dynamodb:DescribeTable on ${{OrdersTable.Arn}}/*{ours}",
                        $"dynamodb:GetItem on ${{OrdersTable.Arn}}{ours}",
                        $"dynamodb:GetItem on ${{OrdersTable.Arn}}/*{ours}",
                        $"dynamodb:Query on ${{OrdersTable.Arn}}{ours}",
                        $"dynamodb:Query on ${{OrdersTable.Arn}}/*{ours}",
                        $"dynamodb:Scan on ${{OrdersTable.Arn}}{ours}",
                        $"dynamodb:Scan on ${{OrdersTable.Arn}}/*{ours}",
                    ],
                    TemplateView.Statements(template["NetworkVpcDynamoDB"]["PolicyDocument"]));
                Assert.Equal(
                    [$"secretsmanager:GetSecretValue on ${{WarehouseLoaderSecret}}{ours}"],
                    TemplateView.Statements(template["NetworkVpcSecretsManager"]["PolicyDocument"]));
            },
            new Mutant("an endpoint to every bucket of everybody", "NetworkVpcS3", endpoint => endpoint.Remove("PolicyDocument")),
            new Mutant("an endpoint to every secret", "NetworkVpcSecretsManager", endpoint => endpoint.Remove("PolicyDocument")),
            new Mutant("change files written from the network", "NetworkVpcS3", endpoint => endpoint["PolicyDocument"]!["Statement"]![2]!["Resource"]![0] = "*"),
            new Mutant("other accounts through our endpoint", "NetworkVpcS3", endpoint => endpoint["PolicyDocument"]!["Statement"]![0]!.AsObject().Remove("Condition"))),

        new("Only the loader reaches the warehouse, and only for SQL",
            template =>
            {
                Assert.Equal(
                    [
                        "tcp 5439 from ${NetworkLoaderGroup.GroupId} to ${NetworkWarehouseGroup.GroupId}",
                        "tcp 443 from ${NetworkLoaderGroup.GroupId} to ${NetworkSecretsGroup.GroupId}",
                    ],
                    template.All("AWS::EC2::SecurityGroupIngress").Select(i => Way(i.Properties, "SourceSecurityGroupId", "GroupId")));
                Assert.Equal(
                    [
                        "tcp 5439 from ${NetworkLoaderGroup.GroupId} to ${NetworkWarehouseGroup.GroupId}",
                        "tcp 443 from ${NetworkLoaderGroup.GroupId} to ${NetworkSecretsGroup.GroupId}",
                    ],
                    template.All("AWS::EC2::SecurityGroupEgress").Select(e => Way(e.Properties, "GroupId", "DestinationSecurityGroupId")));
                // Egress that stands in a group also takes away the rule "everything may go out", which AWS adds otherwise.
                Assert.All(template.All("AWS::EC2::SecurityGroup"), group => Assert.Null(group.Properties["SecurityGroupIngress"]));
                Assert.Equal(
                    [
                        $"{Loader} tcp 443 to 0.0.0.0/0",
                        $"{Warehouse} tcp 443 to 0.0.0.0/0",
                        "NetworkSecretsGroup icmp 86 to 255.255.255.255/32",
                    ],
                    from g in template.All("AWS::EC2::SecurityGroup")
                    from e in g.Properties["SecurityGroupEgress"]!.AsArray()
                    select $"{g.Name} {e["IpProtocol"]} {e["ToPort"]} to {e["CidrIp"]}");
            },
            new Mutant("the warehouse open to the network", Warehouse, group => group["SecurityGroupIngress"] = new JsonArray(new JsonObject { ["CidrIp"] = "10.0.0.0/8" })),
            new Mutant("everything may go out", Loader, group => group["SecurityGroupEgress"]![0]!["ToPort"] = 65535)),

        new("Every flow through the network is logged",
            template =>
            {
                Assert.Equal(
                    ["${NetworkFlowLogs}", "ALL", "${NetworkVpc}"],
                    new[] { "LogGroupName", "TrafficType", "ResourceId" }.Select(name => TemplateView.Render(template["NetworkVpcFlowsFlowLog"][name]!)));
                Assert.Equal(["{Service=vpc-flow-logs.amazonaws.com} if {StringEquals={aws:SourceAccount=${AWS::AccountId}}}"], template.TakersOf("NetworkFlowLogsRole"));
                Assert.Equal(
                    [
                        "logs:CreateLogStream on ${NetworkFlowLogs.Arn}",
                        "logs:DescribeLogStreams on ${NetworkFlowLogs.Arn}",
                        "logs:PutLogEvents on ${NetworkFlowLogs.Arn}",
                    ],
                    template.RightsOf("NetworkFlowLogsRole"));
            },
            new Mutant("refused flows only", "NetworkVpcFlowsFlowLog", flows => flows["TrafficType"] = "REJECT"),
            new Mutant("flows into any log", "NetworkFlowLogsRole", role => Mutant.Statement(role, 0)["Resource"] = "*")),
    ];

    private static string Way(JsonObject rule, string from, string to) =>
        $"{rule["IpProtocol"]} {(rule["FromPort"]!.ToString() == rule["ToPort"]!.ToString() ? rule["ToPort"] : "several")} " +
        $"from {TemplateView.Render(rule[from]!)} to {TemplateView.Render(rule[to]!)}";
}
