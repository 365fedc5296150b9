using System.Diagnostics;
using System.Globalization;
using System.Text;
using Npgsql;

namespace Pipeline.IntegrationTests;

/// <summary>
/// SIGKILL at random instants, again and again, while orders are created, changed and removed. A process that was killed is
/// started again at once as it was started before, and that is all that anybody does: the table and the warehouse must end equal,
/// with every accepted write in the history exactly once.
/// </summary>
[Collection(nameof(WholePipeline))]
public class KillTests(PipelineFixture pipeline)
{
    /// <summary>Each victim once; PIPELINE_KILLS is for a long run by hand.</summary>
    private const int KillsByDefault = 5;

    private const int Seed = 20261124;

    /// <summary>The pause before a kill is between nothing and this: several batches and loads long.</summary>
    private const int PauseMaxMs = 2_000;

    /// <summary>One kill in so many is followed by one of another process before the first is up again.</summary>
    private const int AnotherOneIn = 5;
    private const int AnotherWithinMs = 1_000;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Processes_that_are_killed_at_random_instants_lose_and_double_nothing()
    {
        var kills = int.Parse(Environment.GetEnvironmentVariable("PIPELINE_KILLS") ?? $"{KillsByDefault}", CultureInfo.InvariantCulture);
        var random = new Random(Seed);
        var before = await pipeline.ChangesAsync(Cancelled);
        var rounds = new List<(Victim[] Killed, TimeSpan Recovery)>();
        var watch = Stopwatch.StartNew();

        using var enough = new CancellationTokenSource();
        var load = LoadAsync(enough.Token);
        try
        {
            foreach (var victims in Rounds(Victims(), kills, random))
            {
                await Task.Delay(random.Next(PauseMaxMs), Cancelled);
                Assert.False(load.IsCompleted, $"The load ended before the kills did: {load.Exception}");
                AssertNoneEndedByItself();
                rounds.Add((victims, await KillAsync(victims, random)));
                Tell($"{rounds.Sum(round => round.Killed.Length)} of {kills}: {string.Join(" and ", victims.Select(v => v.Name))}, recovered in {rounds[^1].Recovery.TotalSeconds:0.00} s");
            }
        }
        finally
        {
            await enough.CancelAsync();
            await load.ContinueWith(_ => { }, TaskScheduler.Default);
        }

        // Each round wrote one order more, to see when it arrives.
        var written = await load + rounds.Count;
        await pipeline.AwaitEqualAsync(before + written, Cancelled);
        AssertNoneEndedByItself();
        Tell($"{kills} kills in {watch.Elapsed.TotalSeconds:0} s; {written} accepted writes, each in the history once; reconcile: equal\n{Table(rounds)}");
    }

    /// <summary>Before each kill, too: a process that is gone already would be "killed" and started again.</summary>
    private void AssertNoneEndedByItself() =>
        Assert.All(pipeline.Processes, process => Assert.True(process.Value.IsRunning, $"{process.Key} ended by itself:\n{process.Value.Log}"));

    /// <summary>Every process that the pipeline consists of, and the warehouse's server.</summary>
    private List<Victim> Victims()
    {
        List<Victim> victims = [.. pipeline.Processes.Select(process => new Victim(process.Key, process.Value.KillAsync, process.Value.StartAsync))];
        if (pipeline.WarehouseServer is { } server)
        {
            victims.Add(new Victim("postgresql", server.KillAsync, server.RestartAsync));
        }

        return victims;
    }

    /// <summary>The victims of each round, one or two; over all rounds each has its turn as often as any other.</summary>
    private static IEnumerable<Victim[]> Rounds(List<Victim> victims, int kills, Random random)
    {
        var turns = Enumerable.Range(0, (kills / victims.Count) + 1).SelectMany(_ => Shuffled()).Take(kills).ToList();
        for (var turn = 0; turn < kills;)
        {
            var another = turn + 1 < kills && turns[turn] != turns[turn + 1] && random.Next(AnotherOneIn) == 0;
            yield return another ? [turns[turn], turns[turn + 1]] : [turns[turn]];
            turn += another ? 2 : 1;
        }

        Victim[] Shuffled()
        {
            Victim[] shuffled = [.. victims];
            random.Shuffle(shuffled);
            return shuffled;
        }
    }

    /// <returns>The time from the last of the kills until the warehouse shows an order that was written after it.</returns>
    private async Task<TimeSpan> KillAsync(Victim[] victims, Random random)
    {
        var starts = new List<Task>();
        var apiStarts = Task.CompletedTask;
        var sinceKill = new Stopwatch();
        foreach (var victim in victims)
        {
            if (starts.Count > 0)
            {
                await Task.Delay(random.Next(AnotherWithinMs), Cancelled);
            }

            await victim.KillAsync();
            sinceKill.Restart();
            starts.Add(victim.StartAsync(Cancelled));
            apiStarts = victim.Name == "orders-api" ? starts[^1] : apiStarts;
        }

        await apiStarts;
        var orderId = await pipeline.CreateOrderAsync(Cancelled, $"after-kill-{Guid.NewGuid():N}");
        await Eventually.TrueAsync(
            () => IsInWarehouseAsync(orderId),
            PipelineFixture.CatchUpDeadline,
            () => $"an order that was written after {string.Join(" and ", victims.Select(v => v.Name))} had been killed is in the warehouse:\n"
                + string.Join('\n', pipeline.Processes.Select(process => $"--- {process.Key} wrote last:\n{process.Value.Log}")),
            Cancelled);
        var recovery = sinceKill.Elapsed;
        await Task.WhenAll(starts);
        return recovery;
    }

    private async Task<bool> IsInWarehouseAsync(string orderId)
    {
        try
        {
            return await pipeline.ScalarAsync<long>("select count(*) from orders where order_id = $1", Cancelled, orderId) == 1;
        }
        catch (NpgsqlException)
        {
            // The warehouse itself is away; the caller's deadline bounds how long.
            return false;
        }
    }

    /// <summary>Whole lives of orders, until it is enough; what was begun is brought to its end.</summary>
    /// <returns>How many writes the API accepted.</returns>
    private async Task<long> LoadAsync(CancellationToken enough)
    {
        long accepted = 0;
        for (var run = 1; !enough.IsCancellationRequested; run++)
        {
            // Four at a time: the pipeline, most of the time without one of its parts, must be able to catch up.
            accepted += (await pipeline.SeedAsync(["--generate", "300", "--seed", $"{4000 + run}", "--concurrency", "4"], Cancelled)).AcceptedWrites;
        }

        return accepted;
    }

    private static string Table(List<(Victim[] Killed, TimeSpan Recovery)> rounds)
    {
        var table = new StringBuilder("killed              kills   recovery in seconds: p50    p95    max\n");
        foreach (var group in rounds.GroupBy(round => round.Killed.Length == 1 ? round.Killed[0].Name : "two of them").OrderBy(group => group.Key, StringComparer.Ordinal))
        {
            Line(group.Key, [.. group]);
        }

        Line("all", rounds);
        return table.ToString();

        void Line(string name, List<(Victim[] Killed, TimeSpan Recovery)> some)
        {
            var seconds = some.Select(round => round.Recovery.TotalSeconds).Order().ToList();
            table.AppendLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{name,-20}{some.Sum(round => round.Killed.Length),5}{Percentile(50),27:0.00}{Percentile(95),7:0.00}{seconds[^1],7:0.00}"));

            // The smallest value that at least so many percent of them do not exceed.
            double Percentile(int percent) => seconds[(((seconds.Count * percent) + 99) / 100) - 1];
        }
    }

    private static void Tell(FormattableString text) => TestContext.Current.TestOutputHelper?.WriteLine(text.ToString(CultureInfo.InvariantCulture));

    private sealed record Victim(string Name, Func<Task> KillAsync, Func<CancellationToken, Task> StartAsync);
}
