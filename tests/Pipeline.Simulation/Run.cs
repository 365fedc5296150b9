namespace Pipeline.Simulation;

/// <summary>What became of one schedule.</summary>
/// <param name="Schedule">With the faults that were injected.</param>
/// <param name="Violation">Null: all invariants hold.</param>
/// <param name="TraceHash">Of all that happened.</param>
/// <param name="Simulated">Time that passed in it.</param>
/// <param name="Exercised">What was done how often.</param>
internal sealed record Outcome(Schedule Schedule, string? Violation, ulong TraceHash, TimeSpan Simulated, IReadOnlyDictionary<string, long> Exercised);

/// <summary>One schedule from its start to rest.</summary>
internal static class Run
{
    /// <summary>
    /// After the faults have ceased: more than the longest chain of waits there is (a function's 60 s, a lock's 60 s, an idle
    /// session's 60 s, a pause of 150 s, waits before a retry of at most 20 s, a full sweep after at most 90 s).
    /// </summary>
    private static readonly TimeSpan RestWithin = TimeSpan.FromMinutes(15);

    /// <summary>After all has arrived: time enough for what should not happen any more, such as a second load of the same.</summary>
    private static readonly TimeSpan StaysAtRest = TimeSpan.FromSeconds(45);

    public static Outcome Of(Schedule schedule, ISimulatedWarehouse warehouse, TextWriter? trace)
    {
        var world = new World(schedule.Seed, trace);
        var started = world.Now;
        var oracle = new Oracle(world);
        OrderPipeline? pipeline = null;
        pipeline = new OrderPipeline(world, schedule, warehouse, process => oracle.Committed(pipeline!, process));

        world.RunUntil(started + schedule.Settings.RandomPhase);
        pipeline.EndFaults();
        world.Note("faults cease");
        var ceased = world.Now;
        var deadline = ceased + RestWithin;
        var restSince = world.Now;
        do
        {
            var writes = pipeline.Table.Writes.Count;
            world.RunUntil(world.Now + TimeSpan.FromSeconds(5));
            var missing = Oracle.Missing(pipeline);

            // Also a write may come late, long after its client has given up.
            if (missing is not null || writes != pipeline.Table.Writes.Count)
            {
                restSince = world.Now;
            }

            // The operator sees that something is parked whose cause is mended.
            if (missing is not null && (world.Now - ceased).TotalSeconds % 60 < 5)
            {
                pipeline.Redrive();
            }

            if (missing is not null && world.Now > deadline)
            {
                world.Violate($"it did not come to rest within {RestWithin.TotalMinutes} minutes: {missing}");
            }
        }
        while (world.Violation is null && world.Now - restSince < StaysAtRest);

        if (world.Violation is null)
        {
            oracle.Check(pipeline);
        }

        if (world.Violation is null)
        {
            var live = warehouse.Read();
            oracle.CheckRebuilt(pipeline, live, Rebuild(schedule, pipeline.Bucket, warehouse.Anew(), world));
        }

        return new Outcome(schedule with { Faults = pipeline.Injected }, world.Violation, world.TraceHash, world.Now - started, world.Exercised);
    }

    /// <summary>What a loader makes of the bucket alone, in a warehouse that is empty.</summary>
    private static WarehouseContent Rebuild(Schedule schedule, Bucket bucket, ISimulatedWarehouse warehouse, World live)
    {
        var world = new World(schedule.Seed, trace: null);
        var quiet = schedule.Settings with
        {
            FaultRate = 0,
            Environments = 0,
            Loaders = 1,
            Loader = new Loader.LoaderOptions { BucketName = "bucket" },
        };
        var pipeline = new OrderPipeline(world, new Schedule(schedule.Seed, quiet, [], Faults: []), warehouse, _ => { }, bucket);
        pipeline.EndFaults();
        world.RunUntil(world.Now + TimeSpan.FromSeconds(10));
        if ((world.Violation ?? warehouse.Faults().FirstOrDefault()) is { } violation)
        {
            live.Violate($"I4: rebuilt from the bucket: {violation}");
        }

        return warehouse.Read();
    }
}
