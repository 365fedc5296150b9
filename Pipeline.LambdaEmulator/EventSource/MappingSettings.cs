using System.Globalization;

namespace Pipeline.LambdaEmulator.EventSource;

public enum StartingPosition
{
    /// <summary>The oldest record that the stream still holds.</summary>
    TrimHorizon,

    /// <summary>What is written after the mapping was seen for the first time.</summary>
    Latest,
}

/// <summary>
/// How Lambda reads a stream. Names, defaults and ranges: Lambda API reference, "CreateEventSourceMapping", and
/// Lambda developer guide, "Lambda parameters for Amazon DynamoDB event source mappings".
/// </summary>
public sealed record MappingSettings
{
    /// <summary>Records that one invocation gets at most: 1 to 10,000.</summary>
    public int BatchSize { get; init; } = 100;

    /// <summary>How long records are gathered before a batch that is not full is sent: 0 to 300 seconds.</summary>
    public TimeSpan BatchingWindow { get; init; } = TimeSpan.Zero;

    public required StartingPosition StartingPosition { get; init; }

    /// <summary>Batches of one shard in flight at once, 1 to 10; the changes of one item stay in order.</summary>
    public int ParallelizationFactor { get; init; } = 1;

    /// <summary>How often a failed batch is tried again, 0 to 10,000; null: until its records expire.</summary>
    public int? RetryAttemptsMax { get; init; }

    /// <summary>The age from which a record is not sent any more, 60 s to 7 days; null: until it expires.</summary>
    public TimeSpan? RecordAgeMax { get; init; }

    public bool BisectOnError { get; init; }

    public bool ReportBatchItemFailures { get; init; }

    /// <summary>Which records the function gets; null: all.</summary>
    public FilterCriteria? Filter { get; init; }

    /// <exception cref="ArgumentException">A setting is out of its range; the message names it, its value and the range.</exception>
    public MappingSettings Validated()
    {
        Require("BatchSize", BatchSize, 1, 10_000);
        Require("MaximumBatchingWindowInSeconds", BatchingWindow.TotalSeconds, 0, 300);
        Require("ParallelizationFactor", ParallelizationFactor, 1, 10);
        if (RetryAttemptsMax is { } attempts)
        {
            Require("MaximumRetryAttempts", attempts, 0, 10_000, " or -1, which means until the records expire");
        }

        if (RecordAgeMax is { } age)
        {
            Require("MaximumRecordAgeInSeconds", age.TotalSeconds, 60, 604_800, " or -1, which means until the records expire");
        }

        return this;
    }

    private static void Require(string name, double value, double min, double max, string also = "")
    {
        if (value < min || value > max)
        {
            throw new ArgumentException(string.Create(
                CultureInfo.InvariantCulture, $"{name} is {value}, but Lambda takes {min} to {max}{also}."));
        }
    }
}
