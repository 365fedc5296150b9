using System.Diagnostics;

namespace Pipeline.LambdaEmulator.Tests;

internal static class Poll
{
    /// <summary>Waits for something that happens in another thread or process; fails after 20 seconds.</summary>
    public static async Task UntilAsync(Func<bool> condition, string? what = null)
    {
        var waited = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(waited.Elapsed < TimeSpan.FromSeconds(20), what ?? "It did not happen within 20 seconds.");
            await Task.Delay(10);
        }
    }
}
