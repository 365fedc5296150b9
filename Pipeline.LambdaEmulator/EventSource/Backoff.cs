namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>
/// How long a failed batch waits. AWS documents that stream retries back off exponentially, not the numbers. These
/// are quick enough to watch on a laptop and slow enough that a function that fails at once does not burn a core.
/// No jitter: one shard's retries meet nobody else's, and tests are repeatable.
/// </summary>
public static class Backoff
{
    private static readonly TimeSpan First = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan Max = TimeSpan.FromSeconds(10);

    /// <param name="failures">Failures in a row, from 1.</param>
    public static TimeSpan After(int failures) =>
        failures > 6 ? Max : TimeSpan.FromTicks(Math.Min(Max.Ticks, First.Ticks << (failures - 1)));
}
