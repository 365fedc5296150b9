using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Stack;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>The ranges of the settings.</summary>
public sealed class SettingsTests
{
    [Theory]
    [InlineData(0, "BatchSize is 0, but Lambda takes 1 to 10000.")]
    [InlineData(10_001, "BatchSize is 10001, but Lambda takes 1 to 10000.")]
    [Rule(Pages.Create, "BatchSize: 1 to 10,000.", Choice = "The page also says that a size above 10 needs a window of 1 s or more, and that the default for streams is 100 with a window of 0; a stream gets what is set.")]
    public void A_batch_size_out_of_range_is_refused(int value, string message) =>
        Refused(message, ScriptedShard.Defaults with { BatchSize = value });

    [Theory]
    [InlineData(-1, "MaximumBatchingWindowInSeconds is -1, but Lambda takes 0 to 300.")]
    [InlineData(301, "MaximumBatchingWindowInSeconds is 301, but Lambda takes 0 to 300.")]
    [Rule(Pages.Create, "MaximumBatchingWindowInSeconds: 0 to 300.")]
    public void A_window_out_of_range_is_refused(int seconds, string message) =>
        Refused(message, ScriptedShard.Defaults with { BatchingWindow = TimeSpan.FromSeconds(seconds) });

    [Theory]
    [InlineData(0, "ParallelizationFactor is 0, but Lambda takes 1 to 10.")]
    [InlineData(11, "ParallelizationFactor is 11, but Lambda takes 1 to 10.")]
    [Rule(Pages.Create, "ParallelizationFactor: 1 to 10.")]
    public void A_parallelization_factor_out_of_range_is_refused(int value, string message) =>
        Refused(message, ScriptedShard.Defaults with { ParallelizationFactor = value });

    [Theory]
    [InlineData(-2, "MaximumRetryAttempts is -2, but Lambda takes 0 to 10000 or -1, which means until the records expire.")]
    [InlineData(10_001, "MaximumRetryAttempts is 10001, but Lambda takes 0 to 10000 or -1, which means until the records expire.")]
    [Rule(Pages.Create, "MaximumRetryAttempts: -1 to 10,000.")]
    public void Retry_attempts_out_of_range_are_refused(int value, string message) =>
        Refused(message, ScriptedShard.Defaults with { RetryAttemptsMax = value });

    [Theory]
    [InlineData(59, "MaximumRecordAgeInSeconds is 59, but Lambda takes 60 to 604800 or -1, which means until the records expire.")]
    [InlineData(604_801, "MaximumRecordAgeInSeconds is 604801, but Lambda takes 60 to 604800 or -1, which means until the records expire.")]
    [Rule(Pages.Create, "MaximumRecordAgeInSeconds: -1, or 60 to 604,800.")]
    public void A_record_age_out_of_range_is_refused(int seconds, string message) =>
        Refused(message, ScriptedShard.Defaults with { RecordAgeMax = TimeSpan.FromSeconds(seconds) });

    [Theory]
    [InlineData("TumblingWindowInSeconds", "30")]
    [InlineData("StartingPositionTimestamp", "1767268800")]
    [InlineData("ProvisionedPollerConfig", "{}")]
    [Rule(Pages.Windows, "With TumblingWindowInSeconds a function keeps a state over the invocations of a window.", Choice = "Not emulated: DynamoDB Local cuts the times that decide a record's window to the minute, so a local run would show other windows than AWS. The emulator refuses a template with this or any other setting that it does not know, and names it.")]
    public void A_setting_that_is_not_emulated_ends_the_emulator_with_its_name(string setting, string value)
    {
        var template = $$"""
            {
              "Resources": {
                "F": { "Type": "AWS::Lambda::Function", "Properties": { "FunctionName": "f" } },
                "M": {
                  "Type": "AWS::Lambda::EventSourceMapping",
                  "Properties": {
                    "FunctionName": "f",
                    "EventSourceArn": "arn:aws:dynamodb:us-east-1:000000000000:table/T/stream/*",
                    "StartingPosition": "TRIM_HORIZON",
                    "{{setting}}": {{value}}
                  }
                }
              }
            }
            """;
        var refusal = Assert.Throws<TemplateException>(() => TemplateReader.Read(template, "Shop", "000000000000", "us-east-1"));
        Assert.Equal(
            $"M.{setting} is not supported by the emulator. Supported: BatchSize, BisectBatchOnFunctionError, DestinationConfig, Enabled, EventSourceArn, FilterCriteria, FunctionName, FunctionResponseTypes, MaximumBatchingWindowInSeconds, MaximumRecordAgeInSeconds, MaximumRetryAttempts, ParallelizationFactor, StartingPosition, Tags.",
            refusal.Message);
    }

    private static void Refused(string message, MappingSettings settings) =>
        Assert.Equal(message, Assert.Throws<ArgumentException>(settings.Validated).Message);
}
