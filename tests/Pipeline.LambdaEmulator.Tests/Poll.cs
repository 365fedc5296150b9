using System.Diagnostics;

namespace Pipeline.LambdaEmulator.Tests;

internal static class Poll
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);

    /// <summary>Waits for something that happens in another thread or process; fails after the deadline.</summary>
    public static async Task UntilAsync(Func<bool> condition, Func<string>? otherwise = null)
    {
        var waited = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(waited.Elapsed < Deadline, otherwise?.Invoke() ?? $"It did not happen within {Deadline}.");
            await Task.Delay(10);
        }
    }
}
