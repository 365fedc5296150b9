using System.Text.Json;

namespace Pipeline.Cdk.Tests;

/// <summary>cdk-nag's AwsSolutions pack over the template, where it is installed, against a list of reviewed findings.</summary>
public sealed class NagTests(Synthesis synthesis)
{
    private const string NoResource = "X-Ray's actions and describing network interfaces and subnets know no resource.";
    private const string OwnPrefix = "Every object below a prefix of this pipeline's own.";
    private const string EndOfTheLine = "It is the end of the line: an operator reads it, no program does.";

    private static readonly Dictionary<string, string> Accepted = new()
    {
        ["AwsSolutions-DDB3 OrdersApiIdempotency"] = "Its records end after two days, and the personal data in them must not live longer in a backup.",
        ["AwsSolutions-IAM5 OrdersApiRunRole Resource::*"] = NoResource,
        ["AwsSolutions-IAM5 ProcessOrdersRunRole Resource::*"] = NoResource,
        ["AwsSolutions-IAM5 LoaderRunRole Resource::*"] = NoResource,
        ["AwsSolutions-IAM5 ProcessOrdersRunRole Resource::<ChangesBucket.Arn>/orders/changes/*"] = OwnPrefix,
        ["AwsSolutions-IAM5 ProcessOrdersRunRole Resource::<ChangesBucket.Arn>/orders/quarantine/*"] = OwnPrefix,
        ["AwsSolutions-IAM5 WarehouseCopyRole Resource::<ChangesBucket.Arn>/orders/*"] = OwnPrefix,
        ["AwsSolutions-IAM5 LoaderRunRole Resource::<ChangesBucket.Arn>/orders/changes/*"] = OwnPrefix,
        ["AwsSolutions-IAM5 LoaderRunRole Resource::<ChangesBucket.Arn>/orders/discarded/*"] = OwnPrefix,
        ["AwsSolutions-IAM5 LoaderRunRole Resource::<ChangesBucket.Arn>/orders/manifests/*"] = OwnPrefix,
        ["AwsSolutions-IAM5 LoaderRunRole Resource::<ChangesBucket.Arn>/orders/quarantine/*"] = OwnPrefix,
        ["AwsSolutions-IAM5 ProcessOrdersRunRole Resource::<OrdersTable.Arn>/stream/*"] = "A stream that is switched off and on again has another name.",
        ["AwsSolutions-IAM5 LoaderRunRole Resource::arn:<AWS::Partition>:ec2:<AWS::Region>:<AWS::AccountId>:*/*"] =
            "Lambda makes the network interfaces, so their names are not known; the function's own code is denied all of it.",
        ["AwsSolutions-SQS3 ProcessOrdersFailures"] = EndOfTheLine,
        ["AwsSolutions-SQS3 AlarmsQuarantined"] = EndOfTheLine,
        ["AwsSolutions-RS4 WarehouseCluster"] = "The security group lets in the loader and nobody else; another port would hide nothing.",
        ["AwsSolutions-SMG4 OrdersApiCursorKey"] = "A new key ends every list that somebody is reading, and an old one opens nothing: it is changed by hand.",
        ["AwsSolutions-SMG4 ProcessOrdersPersonalDataKey"] = "With a new key the same person becomes another: it is changed by hand, see docs/privacy.md.",
        ["AwsSolutions-SMG4 WarehouseLoaderSecret"] =
            "Rotation takes a function from AWS's application repository, which nobody here wrote. The administrator's password is rotated by Redshift.",
    };

    [Fact]
    public async Task cdk_nag_finds_what_was_reviewed_and_nothing_else()
    {
        var folder = Repository.File("tests", "Pipeline.Cdk.Tests", "Nag");
        Assert.SkipUnless(
            Directory.Exists(Path.Combine(folder, "node_modules", "cdk-nag")), "cdk-nag is not installed: npm --prefix tests/Pipeline.Cdk.Tests/Nag ci");
        var template = Path.Combine(synthesis.Folder("nag"), "template.json");
        await File.WriteAllTextAsync(template, synthesis.Deployable.Json, TestContext.Current.CancellationToken);

        var (exitCode, output, errors) = await Tool.RunAsync("node", ["nag.mjs", template], folder);

        Assert.True(exitCode == 0, $"nag.mjs ended with {exitCode}: {errors}");
        Assert.Equal(Accepted.Keys.Order(), output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(Readable).Order());
    }

    private static string Readable(string line)
    {
        var finding = JsonDocument.Parse(line).RootElement;
        string Text(string name) => finding.GetProperty(name).GetString()!;
        return $"{Text("rule")} {TemplateView.NameOf(Text("resource"))} {TemplateView.NameOf(Text("finding"))}".TrimEnd();
    }
}
