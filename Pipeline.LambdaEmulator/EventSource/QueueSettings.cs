using System.Globalization;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>
/// How Lambda reads a queue. Names, defaults and ranges: Lambda API reference, "CreateEventSourceMapping", and Lambda
/// developer guide, "Lambda parameters for Amazon SQS event source mappings".
/// </summary>
public sealed record QueueSettings
{
    /// <summary>Messages that one invocation gets at most: 1 to 10,000; for a FIFO queue 1 to 10.</summary>
    public int BatchSize { get; init; } = 10;

    /// <summary>How long messages are gathered before a batch that is not full is sent: 0 to 300 seconds; 0 for a FIFO queue.</summary>
    public TimeSpan BatchingWindow { get; init; } = TimeSpan.Zero;

    public bool ReportBatchItemFailures { get; init; }

    /// <summary>Which messages the function gets; null: all. The others are deleted.</summary>
    public FilterCriteria? Filter { get; init; }

    /// <summary>ScalingConfig.MaximumConcurrency, 2 to 1,000: batches in flight at once; null: not limited by the mapping.</summary>
    public int? ConcurrencyMax { get; init; }

    /// <summary>A FIFO queue: its messages have groups, and a group's messages stay in order.</summary>
    public bool IsFifo { get; init; }

    /// <exception cref="ArgumentException">A setting is out of its range; the message names it, its value and the range.</exception>
    public QueueSettings Validated()
    {
        var batchSizeMax = IsFifo ? 10 : 10_000;
        if (BatchSize < 1 || BatchSize > batchSizeMax)
        {
            throw Refused($"BatchSize is {BatchSize}, but Lambda takes 1 to {batchSizeMax} for a {(IsFifo ? "FIFO" : "standard")} queue.");
        }

        var window = BatchingWindow.TotalSeconds;
        if (window is < 0 or > 300)
        {
            throw Refused($"MaximumBatchingWindowInSeconds is {window}, but Lambda takes 0 to 300.");
        }

        if (IsFifo && window > 0)
        {
            throw Refused($"MaximumBatchingWindowInSeconds is {window}, but Lambda takes no batching window for a FIFO queue. Leave it out.");
        }

        if (BatchSize > 10 && window < 1)
        {
            throw Refused($"BatchSize is {BatchSize}, but above 10 Lambda wants MaximumBatchingWindowInSeconds of at least 1.");
        }

        if (ConcurrencyMax is < 2 or > 1000)
        {
            throw Refused($"ScalingConfig.MaximumConcurrency is {ConcurrencyMax}, but Lambda takes 2 to 1000.");
        }

        return this;
    }

    /// <summary>
    /// What the queue has to fulfil. Lambda developer guide, "Creating and configuring an Amazon SQS event source mapping":
    /// Lambda refuses a mapping whose function may run for longer than the queue hides a message.
    /// </summary>
    /// <returns>What is wrong; null if nothing is.</returns>
    public string? Misfit(TimeSpan visibilityTimeout, TimeSpan functionTimeout) =>
        visibilityTimeout < functionTimeout
            ? Text($"Queue visibility timeout: {visibilityTimeout.TotalSeconds} seconds is less than Function timeout: {functionTimeout.TotalSeconds} seconds.")
        : visibilityTimeout <= BatchingWindow
            ? Text($"Queue visibility timeout: {visibilityTimeout.TotalSeconds} seconds is not more than MaximumBatchingWindowInSeconds, {BatchingWindow.TotalSeconds}: messages would be visible again before they are sent.")
        : null;

    private static ArgumentException Refused(FormattableString message) => new(Text(message));

    private static string Text(FormattableString message) => message.ToString(CultureInfo.InvariantCulture);
}
