using System.Diagnostics;

namespace Pipeline.Bench;

/// <summary>What was measured over and over: never one number alone.</summary>
internal sealed record Sample(IReadOnlyList<double> Values)
{
    private readonly double[] _sorted = [.. Values.Order()];

    public double Median => At(0.5);
    public double LowerQuartile => At(0.25);
    public double UpperQuartile => At(0.75);
    public double Min => _sorted[0];
    public double Max => _sorted[^1];

    /// <summary>One figure of something that is not repeated, such as a run of ten minutes.</summary>
    public static Sample Of(double value) => new([value]);

    /// <summary>The value that this share of them does not exceed, interpolated between two neighbours.</summary>
    /// <param name="share">From 0 to 1.</param>
    public double At(double share)
    {
        var rank = share * (_sorted.Length - 1);
        var below = (int)rank;
        return below + 1 < _sorted.Length
            ? _sorted[below] + ((rank - below) * (_sorted[below + 1] - _sorted[below]))
            : _sorted[below];
    }
}

/// <summary>Ours and what it is held against, measured in turns.</summary>
internal sealed record Pairs(Sample Ours, Sample Against);

/// <summary>
/// Strictly interleaved rounds: ours, against, against, ours, ours, … so that a machine that is slower for some seconds is
/// slower for both, and neither always comes after the other.
/// </summary>
internal static class Rounds
{
    /// <summary>Fewer would say little about a noisy machine.</summary>
    public const int Min = 10;

    /// <param name="rounds">How many pairs are kept.</param>
    /// <param name="ours">Gives one measurement.</param>
    /// <param name="against">Gives one measurement in the same unit.</param>
    /// <param name="done">Told the share of the rounds that is done.</param>
    /// <param name="cancellationToken">Ends it between two measurements.</param>
    /// <param name="warmUps">
    /// Pairs that are run first and not kept, for code that is not compiled yet and caches that are empty. A server process needs more of
    /// them than code of this one: what it is asked often is compiled again, for some ten thousand requests.
    /// </param>
    public static async Task<Pairs> RunAsync(
        int rounds, Func<Task<double>> ours, Func<Task<double>> against, Action<double> done, CancellationToken cancellationToken, int warmUps = 1)
    {
        var (oursValues, againstValues) = (new List<double>(rounds), new List<double>(rounds));
        for (var round = 1 - warmUps; round <= rounds; round++)
        {
            var oursFirst = round % 2 == 0;
            var first = await (oursFirst ? ours : against)();
            cancellationToken.ThrowIfCancellationRequested();
            var second = await (oursFirst ? against : ours)();
            cancellationToken.ThrowIfCancellationRequested();
            if (round > 0)
            {
                oursValues.Add(oursFirst ? first : second);
                againstValues.Add(oursFirst ? second : first);
            }

            done((round + warmUps) / (double)(rounds + warmUps));
        }

        return new Pairs(new Sample(oursValues), new Sample(againstValues));
    }

    /// <summary>How long something takes, in milliseconds. What earlier ones left to collect is collected before.</summary>
    public static async Task<double> MillisecondsAsync(Func<Task> work)
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        var started = Stopwatch.GetTimestamp();
        await work();
        return Stopwatch.GetElapsedTime(started).TotalMilliseconds;
    }

    /// <summary>What something allocates, in bytes over all threads: nothing else may run in this process meanwhile.</summary>
    public static async Task<double> AllocatedBytesAsync(Func<Task> work)
    {
        var before = GC.GetTotalAllocatedBytes(precise: true);
        await work();
        return GC.GetTotalAllocatedBytes(precise: true) - before;
    }
}
