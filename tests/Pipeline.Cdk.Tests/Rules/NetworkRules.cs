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
                template.Are(
                    "AWS::EC2::VPC",
                    "NetworkVpc: CidrBlock=10.20.0.0/24, EnableDnsHostnames=true, EnableDnsSupport=true, InstanceTenancy=default");
                template.Are(
                    "AWS::EC2::Subnet",
                    "NetworkVpcIsolatedSubnet1Subnet: AvailabilityZone={Fn::Select=[0, {Fn::GetAZs=}]}, CidrBlock=10.20.0.0/26, MapPublicIpOnLaunch=false, VpcId=${NetworkVpc}",
                    "NetworkVpcIsolatedSubnet2Subnet: AvailabilityZone={Fn::Select=[1, {Fn::GetAZs=}]}, CidrBlock=10.20.0.64/26, MapPublicIpOnLaunch=false, VpcId=${NetworkVpc}");
                template.Are(
                    "AWS::EC2::RouteTable",
                    "NetworkVpcIsolatedSubnet1RouteTable: VpcId=${NetworkVpc}",
                    "NetworkVpcIsolatedSubnet2RouteTable: VpcId=${NetworkVpc}");
                template.Are(
                    "AWS::EC2::SubnetRouteTableAssociation",
                    "NetworkVpcIsolatedSubnet1RouteTableAssociation: RouteTableId=${NetworkVpcIsolatedSubnet1RouteTable}, SubnetId=${NetworkVpcIsolatedSubnet1Subnet}",
                    "NetworkVpcIsolatedSubnet2RouteTableAssociation: RouteTableId=${NetworkVpcIsolatedSubnet2RouteTable}, SubnetId=${NetworkVpcIsolatedSubnet2Subnet}");
                Assert.DoesNotContain(template.Everything, r => r.Type is
                    "AWS::EC2::InternetGateway" or "AWS::EC2::NatGateway" or "AWS::EC2::Route" or "AWS::EC2::VPCPeeringConnection");
            },
            new Mutant("both subnets in one zone", "NetworkVpcIsolatedSubnet2Subnet", subnet => subnet["AvailabilityZone"]!["Fn::Select"]![0] = 0),
            new Mutant("public addresses", "NetworkVpcIsolatedSubnet1Subnet", subnet => subnet["MapPublicIpOnLaunch"] = true),
            new Mutant("names that are not resolved", "NetworkVpc", vpc => vpc["EnableDnsSupport"] = false),
            new Mutant("an internet gateway", "NetworkVpcDynamoDB", endpoint => endpoint.Parent!["Type"] = "AWS::EC2::InternetGateway")),

        new("AWS is reached through three endpoints, and they let through what is needed",
            template => template.Are(
                "AWS::EC2::VPCEndpoint",
                "NetworkVpcS3: PolicyDocument: s3:ListBucket on ${ChangesBucket.Arn} by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PolicyDocument: s3:GetObject on ${ChangesBucket.Arn}/orders/* by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PolicyDocument: s3:PutObject on ${ChangesBucket.Arn}/orders/manifests/* by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PolicyDocument: s3:PutObject on ${ChangesBucket.Arn}/orders/quarantine/* by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PolicyDocument: s3:DeleteObject on ${ChangesBucket.Arn}/orders/quarantine/* by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, RouteTableIds=[${NetworkVpcIsolatedSubnet1RouteTable}, ${NetworkVpcIsolatedSubnet2RouteTable}], ServiceName=com.amazonaws.${AWS::Region}.s3, VpcEndpointType=Gateway, VpcId=${NetworkVpc}",
                "NetworkVpcDynamoDB: PolicyDocument: dynamodb:DescribeTable on ${OrdersTable.Arn} by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PolicyDocument: dynamodb:DescribeTable on ${OrdersTable.Arn}/* by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PolicyDocument: dynamodb:GetItem on ${OrdersTable.Arn} by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PolicyDocument: dynamodb:GetItem on ${OrdersTable.Arn}/* by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PolicyDocument: dynamodb:Query on ${OrdersTable.Arn} by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PolicyDocument: dynamodb:Query on ${OrdersTable.Arn}/* by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PolicyDocument: dynamodb:Scan on ${OrdersTable.Arn} by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PolicyDocument: dynamodb:Scan on ${OrdersTable.Arn}/* by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, RouteTableIds=[${NetworkVpcIsolatedSubnet1RouteTable}, ${NetworkVpcIsolatedSubnet2RouteTable}], ServiceName=com.amazonaws.${AWS::Region}.dynamodb, VpcEndpointType=Gateway, VpcId=${NetworkVpc}",
                "NetworkVpcSecretsManager: PolicyDocument: secretsmanager:GetSecretValue on ${WarehouseLoaderSecret} by {AWS=*} if {StringEquals={aws:PrincipalAccount=${AWS::AccountId}}}, PrivateDnsEnabled=true, SecurityGroupIds=[${NetworkSecretsGroup.GroupId}], ServiceName=com.amazonaws.${AWS::Region}.secretsmanager, SubnetIds=[${NetworkVpcIsolatedSubnet1Subnet}, ${NetworkVpcIsolatedSubnet2Subnet}], VpcEndpointType=Interface, VpcId=${NetworkVpc}"),
            new Mutant("an endpoint to every bucket of everybody", "NetworkVpcS3", endpoint => endpoint.Remove("PolicyDocument")),
            new Mutant("an endpoint that no route leads to", "NetworkVpcS3", endpoint => endpoint.Remove("RouteTableIds")),
            new Mutant("an endpoint to every secret", "NetworkVpcSecretsManager", endpoint => endpoint.Remove("PolicyDocument")),
            new Mutant("an endpoint that has no name in the network", "NetworkVpcSecretsManager", endpoint => endpoint["PrivateDnsEnabled"] = false),
            new Mutant("an endpoint in the default security group", "NetworkVpcSecretsManager", endpoint => endpoint.Remove("SecurityGroupIds")),
            new Mutant("change files written from the network", "NetworkVpcS3", endpoint => endpoint["PolicyDocument"]!["Statement"]![2]!["Resource"]![0] = "*"),
            new Mutant("other accounts through our endpoint", "NetworkVpcS3", endpoint => endpoint["PolicyDocument"]!["Statement"]![0]!.AsObject().Remove("Condition"))),

        new("Only the loader reaches the warehouse, and only for SQL",
            template =>
            {
                // Egress that stands in a group also takes away the rule "everything may go out", which AWS adds otherwise.
                template.Are(
                    "AWS::EC2::SecurityGroup",
                    "NetworkLoaderGroup: SecurityGroupEgress=[{CidrIp=0.0.0.0/0, Description=S3 through its gateway endpoint, FromPort=443, IpProtocol=tcp, ToPort=443}], VpcId=${NetworkVpc}",
                    "NetworkWarehouseGroup: SecurityGroupEgress=[{CidrIp=0.0.0.0/0, Description=S3 through its gateway endpoint, FromPort=443, IpProtocol=tcp, ToPort=443}], VpcId=${NetworkVpc}",
                    "NetworkSecretsGroup: SecurityGroupEgress=[{CidrIp=255.255.255.255/32, Description=Disallow all traffic, FromPort=252, IpProtocol=icmp, ToPort=86}], VpcId=${NetworkVpc}");
                template.Are(
                    "AWS::EC2::SecurityGroupEgress",
                    "NetworkLoaderGrouptoOrderPipelineNetworkWarehouseGroup1F07C2A05439: DestinationSecurityGroupId=${NetworkWarehouseGroup.GroupId}, FromPort=5439, GroupId=${NetworkLoaderGroup.GroupId}, IpProtocol=tcp, ToPort=5439",
                    "NetworkLoaderGrouptoOrderPipelineNetworkSecretsGroup06C9AE73443: DestinationSecurityGroupId=${NetworkSecretsGroup.GroupId}, FromPort=443, GroupId=${NetworkLoaderGroup.GroupId}, IpProtocol=tcp, ToPort=443");
                template.Are(
                    "AWS::EC2::SecurityGroupIngress",
                    "NetworkWarehouseGroupfromOrderPipelineNetworkLoaderGroup03E9563B5439: FromPort=5439, GroupId=${NetworkWarehouseGroup.GroupId}, IpProtocol=tcp, SourceSecurityGroupId=${NetworkLoaderGroup.GroupId}, ToPort=5439",
                    "NetworkSecretsGroupfromOrderPipelineNetworkLoaderGroup03E9563B443: FromPort=443, GroupId=${NetworkSecretsGroup.GroupId}, IpProtocol=tcp, SourceSecurityGroupId=${NetworkLoaderGroup.GroupId}, ToPort=443");
            },
            new Mutant("the warehouse open to the network", Warehouse, group => group["SecurityGroupIngress"] = new JsonArray(new JsonObject { ["CidrIp"] = "10.0.0.0/8" })),
            new Mutant("every port below HTTPS", Warehouse, group => group["SecurityGroupEgress"]![0]!["FromPort"] = 0),
            new Mutant("everything may go out", Loader, group => group["SecurityGroupEgress"]![0]!["ToPort"] = 65535)),

        new("Every flow through the network is logged",
            template =>
            {
                template.Is(
                    "NetworkVpcFlowsFlowLog",
                    "DeliverLogsPermissionArn=${NetworkFlowLogsRole.Arn}",
                    "LogDestinationType=cloud-watch-logs",
                    "LogGroupName=${NetworkFlowLogs}",
                    "ResourceId=${NetworkVpc}",
                    "ResourceType=VPC",
                    "TrafficType=ALL");
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
}
