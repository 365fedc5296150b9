using System.Reflection;
using System.Text.Json;

namespace Pipeline.AppHost.Tests;

/// <summary>What LocalStack's CloudFormation gets of the pipeline's template.</summary>
public sealed class LocalSliceTests
{
    [Fact]
    public void The_slice_has_exactly_the_tables_buckets_and_queues_of_the_synthesized_template()
    {
        var folder = typeof(LocalSliceTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "CdkOut").Value!;
        var template = File.ReadAllText(Path.Combine(folder, "OrderPipeline.template.json"));

        var slice = Parse(LocalSlice.Of(template));

        var resources = Parse(template).GetProperty("Resources").EnumerateObject()
            .Where(resource => resource.Value.GetProperty("Type").GetString() is "AWS::DynamoDB::Table" or "AWS::S3::Bucket" or "AWS::SQS::Queue")
            .ToDictionary(resource => resource.Name, resource => resource.Value.GetRawText());
        Assert.Equal(resources.Keys.Order(), slice.GetProperty("Resources").EnumerateObject().Select(resource => resource.Name).Order());
        Assert.All(slice.GetProperty("Resources").EnumerateObject(), resource =>
            Assert.True(JsonElement.DeepEquals(Parse(resources[resource.Name]), resource.Value)));
        // What the AppHost asks the stack for.
        Assert.Contains("TableName", slice.GetProperty("Outputs").EnumerateObject().Select(output => output.Name));
        Assert.Contains("BucketName", slice.GetProperty("Outputs").EnumerateObject().Select(output => output.Name));
    }

    [Fact]
    public void Outputs_of_what_is_not_local_are_left_out()
    {
        var slice = Parse(LocalSlice.Of("""
            {
              "Resources": {
                "Table": { "Type": "AWS::DynamoDB::Table" },
                "Role": { "Type": "AWS::IAM::Role", "DependsOn": "Table" }
              },
              "Outputs": {
                "TableName": { "Value": { "Ref": "Table" } },
                "RoleArn": { "Value": { "Fn::GetAtt": ["Role", "Arn"] } },
                "Both": { "Value": { "Fn::Sub": "${Table} ${Role.Arn}" } }
              }
            }
            """));

        Assert.Equal(["Table"], slice.GetProperty("Resources").EnumerateObject().Select(resource => resource.Name));
        Assert.Equal(["TableName"], slice.GetProperty("Outputs").EnumerateObject().Select(output => output.Name));
    }

    [Theory]
    [InlineData("""{ "Fn::GetAtt": ["Key", "Arn"] }""")]
    [InlineData("""{ "Fn::GetAtt": "Key.Arn" }""")]
    [InlineData("""{ "Fn::Join": ["", ["a", { "Ref": "Key" }]] }""")]
    [InlineData("""{ "Fn::Sub": "arn/${Key}" }""")]
    [InlineData("""{ "Fn::Sub": ["arn/${K}", { "K": { "Ref": "Key" } }] }""")]
    public void A_bucket_that_needs_something_from_elsewhere_is_refused_by_name(string value)
    {
        var template = $$"""
            {
              "Resources": {
                "Bucket": { "Type": "AWS::S3::Bucket", "Properties": { "KeyArn": {{value}} } },
                "Key": { "Type": "AWS::KMS::Key" }
              }
            }
            """;

        var refused = Assert.Throws<InvalidDataException>(() => LocalSlice.Of(template));
        Assert.Equal("Bucket refers to Key (AWS::KMS::Key), which does not exist locally.", refused.Message);
    }

    private static JsonElement Parse(string json) => JsonDocument.Parse(json).RootElement;
}
