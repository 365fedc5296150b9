namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>How an invocation ended, as the event source mapping sees it.</summary>
public abstract record InvocationOutcome
{
    private InvocationOutcome()
    {
    }

    /// <summary>The id under which the function was invoked; empty if it was not.</summary>
    public Guid RequestId { get; init; }

    /// <summary>The function answered; <paramref name="Response"/> is its JSON.</summary>
    public sealed record Answered(ReadOnlyMemory<byte> Response) : InvocationOutcome;

    /// <summary>
    /// The function was invoked and failed: it reported an error, ran into its timeout, its process died or did not
    /// start, or its answer was too large. All of them are function errors to the mapping.
    /// </summary>
    public sealed record Failed(string ErrorType, string ErrorMessage) : InvocationOutcome
    {
        /// <summary>The error's JSON as the function reported it; empty when it reported none.</summary>
        public ReadOnlyMemory<byte> Json { get; init; }
    }

    /// <summary>The function was not invoked: no concurrency was left for it.</summary>
    public sealed record Throttled : InvocationOutcome;
}
