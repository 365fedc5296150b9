using System.Diagnostics;
using Pipeline.Core;
using Pipeline.Loader;

namespace Pipeline.Simulation.Tests;

public class SimulationTests
{
    /// <summary>The program itself runs as many as it is asked for: docs/simulation.md.</summary>
    [Fact]
    public void A_hundred_schedules_with_all_faults_keep_all_invariants()
    {
        var result = RunMany(Schedule.Of, 100);

        Assert.Empty(result.Failures.Select(f => $"seed {f.Schedule.Seed}: {f.Violation}"));
        Assert.Equal(100UL, result.Schedules);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_production_SQL_keeps_all_invariants(bool withKeys)
    {
        await using var postgres = await PostgresSimulation.StartAsync(workers: 1, withKeys, TestContext.Current.CancellationToken);
        var result = new Campaign(Schedule.Of, postgres.Fresh).Run(1, 5, threads: 1, failuresMax: 3, _ => { });

        Assert.Empty(result.Failures.Select(f => $"seed {f.Schedule.Seed}: {f.Violation}"));
        Assert.Equal(5UL, result.Schedules);
    }

    [Fact]
    public void Every_mutant_can_be_applied()
    {
        Assert.True(Mutants.All.Count >= 20);
        Assert.Equal(Mutants.All.Count, Mutants.All.Select(m => m.Name).Distinct().Count());
        Assert.Empty(MutantRun.Stale(MutantRun.Root(), Mutants.All));
    }

    [Theory]
    [InlineData(3)]
    [InlineData(138)]
    [InlineData(1581)]
    public void The_same_seed_does_the_same_twice(ulong seed)
    {
        var first = RunOne(Schedule.Of(seed));
        var second = RunOne(Schedule.Of(seed));

        Assert.Equal(first.TraceHash, second.TraceHash);
        Assert.NotEqual(first.TraceHash, RunOne(Schedule.Of(seed + 1)).TraceHash);
    }

    [Fact]
    public async Task Another_process_does_the_same_with_the_same_seed()
    {
        var expected = RunOne(Schedule.Of(42));

        using var process = System.Diagnostics.Process.Start(new ProcessStartInfo(
            Environment.ProcessPath is { } host && Path.GetFileNameWithoutExtension(host) == "dotnet" ? host : "dotnet",
            ["exec", typeof(World).Assembly.Location, "--seed", "42"])
        {
            RedirectStandardOutput = true,
        })!;
        var output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(0, process.ExitCode);
        Assert.Equal($"trace hash: {expected.TraceHash:x16}", output.TrimEnd().Split('\n')[^1].TrimEnd());
    }

    [Fact]
    public void Running_a_schedule_with_the_faults_that_it_had_is_the_same_run()
    {
        // Not every schedule meets one.
        var drawn = Enumerable.Range(1, 100).Select(seed => RunOne(Schedule.Of((ulong)seed))).First(run => run.Schedule.Faults!.Count > 0);

        Assert.Equal(drawn.TraceHash, RunOne(drawn.Schedule).TraceHash);
    }

    [Fact]
    public void An_idle_simulation_is_not_taken_for_a_passed_one()
    {
        var idle = RunMany(seed => Schedule.Of(seed) with { Faults = [], Operations = [] }, 50);

        // Nothing is violated where nothing happens, and that is said.
        Assert.Empty(idle.Failures);
        Assert.Contains("write: Insert", idle.NeverExercised);
        Assert.Contains("Commit: KilledAfter", idle.NeverExercised);
        Assert.Contains("shard: split", idle.NeverExercised);
    }

    [Theory]
    [InlineData(typeof(ForgetsTheHistory), "I")]
    [InlineData(typeof(CommitsNothing), "it")]
    internal void A_broken_warehouse_is_found_and_its_case_shrinks(Type broken, string symptom)
    {
        ISimulatedWarehouse Broken() => (ISimulatedWarehouse)Activator.CreateInstance(broken)!;
        var result = new Campaign(Schedule.Of, _ => Broken()).Run(1, 200, threads: 1, failuresMax: 1, _ => { });

        var failure = Assert.Single(result.Failures);
        Assert.StartsWith(symptom, failure.Violation, StringComparison.Ordinal);
        var small = new Shrinker(Broken, runsMax: 60).Shrink(failure);
        Assert.StartsWith(symptom, small.Violation, StringComparison.Ordinal);
        Assert.True(
            small.Schedule.Operations.Count < failure.Schedule.Operations.Count, $"{small.Schedule.Operations.Count} of {failure.Schedule.Operations.Count} operations are left");
        Assert.Equal(small.TraceHash, Run.Of(small.Schedule, Broken(), trace: null).TraceHash);
    }

    private static Outcome RunOne(Schedule schedule) => Run.Of(schedule, new MemoryWarehouse(), trace: null);

    private static CampaignResult RunMany(Func<ulong, Schedule> scheduleOf, ulong count) =>
        new Campaign(scheduleOf, _ => new MemoryWarehouse()).Run(1, count, Environment.ProcessorCount, failuresMax: 3, _ => { });

    /// <summary>Loads what is new, as if nothing had ever been known.</summary>
    internal sealed class ForgetsTheHistory() : Decorated(load => new Load(load))
    {
        private sealed class Load(IWarehouseLoad inner) : DecoratedLoad(inner)
        {
            private int _rows;

            public override Task StageAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken)
            {
                _rows = changes.Count;
                return base.StageAsync(changes, waiting, cancellationToken);
            }

            public override Task<IReadOnlyList<int>> DropKnownAsync(CancellationToken cancellationToken) =>
                Task.FromResult<IReadOnlyList<int>>([.. Enumerable.Range(0, _rows)]);
        }
    }

    /// <summary>Says that it has committed.</summary>
    internal sealed class CommitsNothing() : Decorated(load => new Load(load))
    {
        private sealed class Load(IWarehouseLoad inner) : DecoratedLoad(inner)
        {
            public override Task CommitAsync(CancellationToken cancellationToken) => Task.CompletedTask;
        }
    }

    internal abstract class Decorated(Func<IWarehouseLoad, IWarehouseLoad> decorate) : ISimulatedWarehouse
    {
        private readonly MemoryWarehouse _inner = new();

        public WarehouseContent Read() => _inner.Read();

        public IEnumerable<string> Faults() => [];

        public void Settle()
        {
        }

        public ISimulatedWarehouse Anew() => new MemoryWarehouse();

        public Task ForgetLedgerAsync(IReadOnlyList<string> keys, CancellationToken cancellationToken) => _inner.ForgetLedgerAsync(keys, cancellationToken);

        public Task<IReadOnlySet<(string Key, string ETag)>> LoadedAsync(string firstKey, string lastKey, CancellationToken cancellationToken) =>
            _inner.LoadedAsync(firstKey, lastKey, cancellationToken);

        public Task<IReadOnlyList<FailedFile>> FailuresAsync(int max, CancellationToken cancellationToken) => _inner.FailuresAsync(max, cancellationToken);

        public Task<int> RecordFailureAsync(ObjectInfo file, string reason, DateTimeOffset at, CancellationToken cancellationToken) =>
            _inner.RecordFailureAsync(file, reason, at, cancellationToken);

        public Task ForgetFailureAsync(string key, CancellationToken cancellationToken) => _inner.ForgetFailureAsync(key, cancellationToken);

        public Task<long> CountWaitingAsync(CancellationToken cancellationToken) => _inner.CountWaitingAsync(cancellationToken);

        public Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken) =>
            _inner.ReleasableAsync(parked, max, cancellationToken);

        public Task ForgetWaitingAsync(Change change, CancellationToken cancellationToken) => _inner.ForgetWaitingAsync(change, cancellationToken);

        public async Task<IWarehouseLoad> BeginAsync(CancellationToken cancellationToken) => decorate(await _inner.BeginAsync(cancellationToken));
    }

    internal abstract class DecoratedLoad(IWarehouseLoad inner) : IWarehouseLoad
    {
        public Task<IReadOnlyList<ParkedChange>> SettledAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken) =>
            inner.SettledAsync(parked, cancellationToken);

        public virtual Task StageAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken) =>
            inner.StageAsync(changes, waiting, cancellationToken);

        public Task HoldBackAsync(CancellationToken cancellationToken) => inner.HoldBackAsync(cancellationToken);

        public virtual Task<IReadOnlyList<int>> DropKnownAsync(CancellationToken cancellationToken) => inner.DropKnownAsync(cancellationToken);

        public Task InsertHistoryAsync(CancellationToken cancellationToken) => inner.InsertHistoryAsync(cancellationToken);

        public Task MergeCurrentAsync(CancellationToken cancellationToken) => inner.MergeCurrentAsync(cancellationToken);

        public Task RecordLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken) => inner.RecordLedgerAsync(files, cancellationToken);

        public virtual Task CommitAsync(CancellationToken cancellationToken) => inner.CommitAsync(cancellationToken);

        public ValueTask DisposeAsync() => inner.DisposeAsync();
    }
}
