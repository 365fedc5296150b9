using System.Text.Json.Nodes;

namespace Pipeline.Cdk.Tests;

public sealed class SettingsTests
{
    [Fact]
    public void Nothing_set_means_production_with_the_documented_sizes() =>
        Assert.Equivalent(new PipelineStackProps(), FromContext(), strict: true);

    [Fact]
    public void Everything_can_be_set()
    {
        var props = FromContext(
            ("environment", "dev"), ("published", "../artifacts/publish"), ("processConcurrency", "5"), ("apiRequestsPerSecond", "50"),
            ("warehouseNodeType", "ra3.xlplus"), ("warehouseNodes", "2"), ("alarmEmails", "one@example.com, two@example.com"),
            ("jwtIssuer", "https://login.example.com/"), ("jwtAudience", "orders"), ("deploying", "true"));

        Assert.Equivalent(
            new PipelineStackProps
            {
                Environment = Purpose.Dev,
                PublishedFunctions = "../artifacts/publish",
                ProcessConcurrency = 5,
                ApiRequestsPerSecond = 50,
                WarehouseNodeType = "ra3.xlplus",
                WarehouseNodes = 2,
                AlarmEmails = ["one@example.com", "two@example.com"],
                Issuer = new JwtIssuer("https://login.example.com/", "orders"),
                IsDeployment = true,
            },
            props,
            strict: true);
    }

    [Theory]
    [InlineData("environment", "staging", "one of dev, prod")]
    [InlineData("environment", "0", "one of dev, prod")]
    [InlineData("processConcurrency", "0", "a whole number from 1 to 1000")]
    [InlineData("processConcurrency", "many", "a whole number from 1 to 1000")]
    [InlineData("apiRequestsPerSecond", "1.5", "a whole number from 1 to 10000")]
    [InlineData("warehouseNodes", "17", "a whole number from 1 to 16 with nodes of ra3.large")]
    [InlineData("warehouseNodeType", "dc2.large", "one of ra3.large, ra3.xlplus, ra3.4xlarge, ra3.16xlarge, rg.large, rg.xlarge, rg.4xlarge, rg.12xlarge")]
    [InlineData("warehouseNodeType", "ra3.xlarge", "one of ra3.large, ra3.xlplus, ra3.4xlarge, ra3.16xlarge, rg.large, rg.xlarge, rg.4xlarge, rg.12xlarge")]
    [InlineData("alarmEmails", "nobody", "e-mail addresses with commas between them, each of them once")]
    [InlineData("deploying", "yes", "true or false")]
    [InlineData("jwtIssuer", "http://login.example.com", "an https URL, the 'iss' of the tokens")]
    public void A_setting_that_cannot_be_is_refused_with_its_name_and_what_it_must_be(string name, string value, string expected)
    {
        var error = Assert.Throws<RefusedException>(() => FromContext((name, value)));

        Assert.Equal($"Context value '{name}' is '{value}', but must be {expected}. Set it in Pipeline.Cdk/cdk.json or with --context {name}=…", error.Message);
    }

    [Fact]
    public void A_node_type_that_comes_in_pairs_is_refused_with_the_single_node_that_is_the_default() => Assert.StartsWith(
        "Context value 'warehouseNodes' is '1', but must be a whole number from 2 to 64 with nodes of ra3.4xlarge.",
        Assert.Throws<RefusedException>(() => FromContext(("warehouseNodeType", "ra3.4xlarge"))).Message,
        StringComparison.Ordinal);

    [Fact]
    public void An_address_that_is_there_twice_is_refused() => Assert.StartsWith(
        "Context value 'alarmEmails' is 'One@example.com'",
        Assert.Throws<RefusedException>(() => FromContext(("alarmEmails", "one@example.com,two@example.com,One@example.com"))).Message,
        StringComparison.Ordinal);

    [Theory]
    [InlineData("enviroment", "environment")]
    [InlineData("Environment", "environment")]
    [InlineData("alarm-emails", "alarmEmails")]
    [InlineData("warehouseNode", "warehouseNodes")]
    [InlineData("jwtIsuer", "jwtIssuer")]
    public void A_misspelt_setting_is_refused_with_the_nearest_that_there_is(string name, string nearest) => Assert.StartsWith(
        $"Context value '{name}' is no setting of this pipeline; the nearest is '{nearest}'. There are alarmEmails, ",
        Assert.Throws<RefusedException>(() => FromContext((name, "dev"))).Message,
        StringComparison.Ordinal);

    [Theory]
    [InlineData("@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy")]
    [InlineData("aws:cdk:enable-asset-metadata")]
    [InlineData("availability-zones:account=111111111111:region=us-east-1")]
    [InlineData("acknowledged-issue-numbers")]
    [InlineData("cli-telemetry")]
    public void What_the_CDK_puts_into_the_context_is_let_be(string name) =>
        Assert.Equivalent(new PipelineStackProps(), FromContext((name, "true")), strict: true);

    [Fact]
    public void A_deployment_without_an_issuer_is_refused_and_everything_else_is_not()
    {
        Assert.StartsWith(
            "Context value 'jwtIssuer' is ''",
            Assert.Throws<RefusedException>(() => FromContext(("published", "../artifacts/publish"), ("deploying", "true"))).Message,
            StringComparison.Ordinal);
        Assert.Null(FromContext(("published", "../artifacts/publish")).Issuer);
    }

    [Theory]
    [InlineData("jwtIssuer", "https://login.example.com", "jwtAudience")]
    [InlineData("jwtAudience", "orders", "jwtIssuer")]
    public void Half_an_issuer_is_refused(string given, string value, string missing) =>
        Assert.Contains($"'{missing}'", Assert.Throws<RefusedException>(() => FromContext((given, value))).Message, StringComparison.Ordinal);

    private static PipelineStackProps FromContext(params (string Name, string Value)[] context) =>
        PipelineStackProps.FromContext(new JsonObject(context.Select(c => KeyValuePair.Create(c.Name, (JsonNode?)c.Value))));
}
