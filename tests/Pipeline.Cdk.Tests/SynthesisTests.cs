using System.Runtime.Versioning;
using System.Text.Json.Nodes;

namespace Pipeline.Cdk.Tests;

public sealed class SynthesisTests(Synthesis synthesis)
{
    [Fact]
    public void The_same_source_gives_the_same_bytes() =>
        Assert.Equal(synthesis.Prod.Json, synthesis.Run(new PipelineStackProps()));

    [Fact]
    public void The_build_wrote_the_template_that_is_tested_here() =>
        Assert.Equal(synthesis.Prod.Json, File.ReadAllText(Repository.File("artifacts", "cdk.out", $"{Names.Stack}.template.json")));

    [Fact]
    public void Nothing_of_this_machine_is_in_the_template() => Assert.All(
        [AppContext.BaseDirectory, Environment.CurrentDirectory, Path.GetTempPath(), Environment.MachineName],
        trace => Assert.DoesNotContain(trace.TrimEnd(Path.DirectorySeparatorChar), synthesis.Prod.Json, StringComparison.Ordinal));

    [Fact]
    [UnsupportedOSPlatform("windows")]
    public void Published_code_changes_the_place_of_the_code_and_nothing_else()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "A start script cannot be made executable on Windows; deployments from there are refused.");

        var deployed = new TemplateView(synthesis.Run(Deployment(synthesis.Published("published"))));

        Assert.Equal(3, Differences(synthesis.Deployable, deployed).Count(d => d.EndsWith(".Code.S3Key", StringComparison.Ordinal)));
        Assert.Equal(3, Differences(synthesis.Deployable, deployed).Count());
    }

    [Fact]
    [UnsupportedOSPlatform("windows")]
    public void A_start_script_that_Lambda_could_not_run_is_refused()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "A start script cannot be made executable on Windows; deployments from there are refused.");
        var published = synthesis.Published("not-executable");
        var script = Path.Combine(published, "Pipeline.OrdersApi", OrdersApi.StartScript);
        Assert.Equal("#!/bin/sh\nexec dotnet Pipeline.OrdersApi.dll\n", File.ReadAllText(script));

        File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        Assert.Contains("chmod 755", Assert.Throws<RefusedException>(() => synthesis.Run(Deployment(published))).Message, StringComparison.Ordinal);
        File.Delete(script);
        Assert.Contains(script, Assert.Throws<RefusedException>(() => synthesis.Run(Deployment(published))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_was_published_with_the_stand_in_for_the_packages_of_AWS_is_synthesized_and_not_deployed()
    {
        var published = synthesis.Published("stand-in");
        File.WriteAllText(Path.Combine(published, "Pipeline.Processor", "Amazon.Lambda.dll"), "code");

        synthesis.Run(Deployment(published) with { IsDeployment = false });
        var error = Assert.Throws<RefusedException>(() => synthesis.Run(Deployment(published)));
        Assert.Contains("artifacts/package-set", error.Message, StringComparison.Ordinal);
    }

    private static PipelineStackProps Deployment(string published) => new()
    {
        IsDeployment = true,
        PublishedFunctions = published,
        Issuer = new JwtIssuer("https://login.example.com/", "orders"),
        AlarmEmails = ["operations@example.com"],
    };

    [Fact]
    public void A_function_that_was_not_published_is_named_with_the_command_that_publishes_it()
    {
        var empty = synthesis.Folder("empty");

        var error = Assert.Throws<RefusedException>(() => synthesis.Run(Deployment(empty)));

        Assert.Contains(empty, error.Message, StringComparison.Ordinal);
        Assert.Contains("dotnet publish Pipeline.OrdersApi -o", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Development_differs_from_production_in_what_is_kept_and_for_how_long() => Assert.Equal(
        [
            "OrdersTable.DeletionPolicy: Retain -> Delete",
            "OrdersTable.DeletionProtectionEnabled: true -> false",
            "OrdersTable.UpdateReplacePolicy: Retain -> Delete",
            "OrdersApiIdempotency.DeletionPolicy: Retain -> Delete",
            "OrdersApiIdempotency.DeletionProtectionEnabled: true -> false",
            "OrdersApiIdempotency.UpdateReplacePolicy: Retain -> Delete",
            "OrdersApiRunLogs.RetentionInDays: 90 -> 7",
            "OrdersApiAccessLogs.RetentionInDays: 90 -> 7",
            "ChangesAccessLogs.DeletionPolicy: RetainExceptOnCreate -> Delete",
            "ChangesAccessLogs.UpdateReplacePolicy: Retain -> Delete",
            "ChangesBucket.DeletionPolicy: RetainExceptOnCreate -> Delete",
            "ChangesBucket.UpdateReplacePolicy: Retain -> Delete",
            "ProcessOrdersPersonalDataKey.DeletionPolicy: RetainExceptOnCreate -> Delete",
            "ProcessOrdersPersonalDataKey.UpdateReplacePolicy: Retain -> Delete",
            "ProcessOrdersRunLogs.RetentionInDays: 90 -> 7",
            // An interface endpoint costs by the hour and zone.
            "NetworkVpcSecretsManager.SubnetIds.1: ${NetworkVpcIsolatedSubnet2Subnet} -> ",
            "NetworkFlowLogs.RetentionInDays: 90 -> 7",
            "WarehouseCluster.DeletionPolicy: Snapshot -> Delete",
            "WarehouseCluster.AutomatedSnapshotRetentionPeriod: 14 -> 1",
            "WarehouseCluster.UpdateReplacePolicy: Snapshot -> Delete",
            "Warehouseconnectionlog.RetentionInDays: 90 -> 7",
            "Warehouseuserlog.RetentionInDays: 90 -> 7",
            "Warehouseuseractivitylog.RetentionInDays: 90 -> 7",
            "LoaderRunLogs.RetentionInDays: 90 -> 7",
        ],
        Differences(synthesis.Prod, synthesis.Dev, withValues: true));

    [Fact]
    public void With_an_issuer_of_tokens_callers_show_one_instead_of_signing_and_nothing_else_is_different() => Assert.Equal(
        [
            "AlarmsTopicoperationsexamplecom.Endpoint:  -> operations@example.com",
            "AlarmsTopicoperationsexamplecom.Protocol:  -> email",
            "AlarmsTopicoperationsexamplecom.TopicArn:  -> ${AlarmsTopic}",
            "AlarmsTopicoperationsexamplecom.Type:  -> AWS::SNS::Subscription",
            "OrdersApiAuthorizer.ApiId:  -> ${OrdersApi}",
            "OrdersApiAuthorizer.AuthorizerType:  -> JWT",
            "OrdersApiAuthorizer.IdentitySource.0:  -> $request.header.Authorization",
            "OrdersApiAuthorizer.JwtConfiguration.Audience.0:  -> orders",
            "OrdersApiAuthorizer.JwtConfiguration.Issuer:  -> https://login.example.com/",
            "OrdersApiAuthorizer.Name:  -> tokens",
            "OrdersApiAuthorizer.Type:  -> AWS::ApiGatewayV2::Authorizer",
            "OrdersApiRoute.AuthorizationType: AWS_IAM -> JWT",
            "OrdersApiRoute.AuthorizerId:  -> ${OrdersApiAuthorizer}",
            "OrdersApiRunFunction.Environment.Variables.Authentication__Schemes__Bearer__Authority:  -> https://login.example.com/",
            "OrdersApiRunFunction.Environment.Variables.Authentication__Schemes__Bearer__ValidAudiences__0:  -> orders",
        ],
        Differences(synthesis.Prod, synthesis.Deployable, withValues: true).Order(StringComparer.Ordinal));

    [Theory]
    [InlineData(Purpose.Prod, true)]
    [InlineData(Purpose.Dev, false)]
    public void A_production_stack_is_protected_from_being_deleted(Purpose purpose, bool isProtected) => Assert.Equal(
        isProtected,
        (bool?)synthesis.Manifest(new PipelineStackProps { Environment = purpose })["artifacts"]![Names.Stack]!["properties"]!["terminationProtection"] ?? false);

    [Fact]
    public void Settings_find_their_way_into_the_template()
    {
        var template = new TemplateView(synthesis.Run(new PipelineStackProps
        {
            ProcessConcurrency = 7,
            ApiRequestsPerSecond = 30,
            WarehouseNodeType = "ra3.xlplus",
            WarehouseNodes = 2,
            AlarmEmails = ["one@example.com", "two@example.com"],
        }));

        Assert.Equal(7, (int)template["ProcessOrdersRunFunction"]["ReservedConcurrentExecutions"]!);
        Assert.Equal(30, (int)template["OrdersApiStage"]["DefaultRouteSettings"]!["ThrottlingRateLimit"]!);
        var cluster = TemplateView.Lines(template["WarehouseCluster"]).ToList();
        Assert.All(["NodeType=ra3.xlplus", "ClusterType=multi-node", "NumberOfNodes=2"], line => Assert.Contains(line, cluster));
        Assert.Equal(
            ["one@example.com", "two@example.com"],
            template.All("AWS::SNS::Subscription").Select(s => (string)s.Properties["Endpoint"]!));
    }

    /// <summary>Where two templates differ: <c>Name.Path</c>, or <c>Name.Path: one -> other</c>.</summary>
    private static IEnumerable<string> Differences(TemplateView one, TemplateView other, bool withValues = false)
    {
        var (left, right) = (Leaves(one).ToDictionary(), Leaves(other).ToDictionary());
        return left.Keys.Union(right.Keys)
            .Where(path => left.GetValueOrDefault(path) != right.GetValueOrDefault(path))
            .Select(path => withValues ? $"{path}: {left.GetValueOrDefault(path)} -> {right.GetValueOrDefault(path)}" : path);
    }

    private static IEnumerable<KeyValuePair<string, string>> Leaves(TemplateView template) =>
        from part in template.Root
        where part.Value is JsonObject
        from item in part.Value!.AsObject()
        from leaf in Leaves(TemplateView.NameOf(item.Key), item.Value!)
        select KeyValuePair.Create(leaf.Key.Replace(".Properties.", ".", StringComparison.Ordinal), leaf.Value);

    private static IEnumerable<KeyValuePair<string, string>> Leaves(string path, JsonNode value) => value switch
    {
        JsonObject o when o.Count != 1 || !(o.ContainsKey("Ref") || o.First().Key.StartsWith("Fn::", StringComparison.Ordinal)) =>
            o.Order(Comparer<KeyValuePair<string, JsonNode?>>.Create((a, b) => string.CompareOrdinal(a.Key, b.Key)))
                .SelectMany(member => Leaves($"{path}.{member.Key}", member.Value!)),
        JsonArray a => a.SelectMany((item, index) => Leaves($"{path}.{index}", item!)),
        _ => [KeyValuePair.Create(path, TemplateView.Render(value))],
    };
}
