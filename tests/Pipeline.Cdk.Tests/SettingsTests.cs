using Amazon.CDK;

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
    [InlineData("warehouseNodes", "129", "a whole number from 1 to 128")]
    [InlineData("warehouseNodeType", "dc2.large", "a node type of Redshift such as ra3.large or ra3.xlplus")]
    [InlineData("alarmEmails", "nobody", "e-mail addresses with commas between them")]
    [InlineData("deploying", "yes", "true or false")]
    [InlineData("jwtIssuer", "http://login.example.com", "an https URL, the 'iss' of the tokens")]
    public void A_setting_that_cannot_be_is_refused_with_its_name_and_what_it_must_be(string name, string value, string expected)
    {
        var error = Assert.Throws<ArgumentException>(() => FromContext((name, value)));

        Assert.Equal($"Context value '{name}' is '{value}', but must be {expected}. Set it in Pipeline.Cdk/cdk.json or with --context {name}=…", error.Message);
    }

    [Fact]
    public void A_deployment_without_an_issuer_is_refused_and_everything_else_is_not()
    {
        Assert.StartsWith(
            "Context value 'jwtIssuer' is ''",
            Assert.Throws<ArgumentException>(() => FromContext(("published", "../artifacts/publish"), ("deploying", "true"))).Message,
            StringComparison.Ordinal);
        Assert.Null(FromContext(("published", "../artifacts/publish")).Issuer);
    }

    [Theory]
    [InlineData("jwtIssuer", "https://login.example.com", "jwtAudience")]
    [InlineData("jwtAudience", "orders", "jwtIssuer")]
    public void Half_an_issuer_is_refused(string given, string value, string missing) =>
        Assert.Contains($"'{missing}'", Assert.Throws<ArgumentException>(() => FromContext((given, value))).Message, StringComparison.Ordinal);

    private static PipelineStackProps FromContext(params (string Name, string Value)[] context) => PipelineStackProps.FromContext(
        new App(new AppProps { Context = context.ToDictionary(c => c.Name, c => (object)c.Value) }).Node);
}
