using System.Diagnostics;

namespace Pipeline.LambdaEmulator.Tests;

internal static class Poll
{
    // A second is usual; build servers run several test projects at once.
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(90);

    /// <summary>Waits for something that happens in another thread or process; fails after the deadline.</summary>
    public static async Task UntilAsync(Func<bool> condition, Func<string>? otherwise = null)
    {
        var waited = Stopwatch.StartNew();
        while (!condition())
        {
            if (waited.Elapsed > Deadline)
            {
                Assert.Fail(otherwise?.Invoke() ?? $"It did not happen within {Deadline}.");
            }

            await Task.Delay(10);
        }
    }
}
