using System.Diagnostics;

namespace Pipeline.Simulation;

/// <summary>What many schedules came to.</summary>
internal sealed record CampaignResult
{
    public required ulong Schedules { get; init; }
    public required TimeSpan Elapsed { get; init; }
    public required TimeSpan Simulated { get; init; }
    public required IReadOnlyDictionary<string, long> Exercised { get; init; }

    /// <summary>The failing runs, the lowest seed first.</summary>
    public required IReadOnlyList<Outcome> Failures { get; init; }

    /// <summary>Seeds that ran before the first failure was found, itself included; 0: there was none.</summary>
    public required ulong SeedsToFailure { get; init; }

    /// <summary>What should have happened at least once and did not.</summary>
    public IEnumerable<string> NeverExercised => Exercise.Expected.Where(name => !Exercised.ContainsKey(name));
}

/// <summary>Runs schedules side by side, each on one thread.</summary>
/// <param name="scheduleOf">From the seed.</param>
/// <param name="warehouseOf">An empty warehouse for a run of the given worker.</param>
internal sealed class Campaign(Func<ulong, Schedule> scheduleOf, Func<int, ISimulatedWarehouse> warehouseOf)
{
    /// <summary>A run takes milliseconds; one that takes this long turns in a circle without ever waiting.</summary>
    private static readonly TimeSpan RunTimeMax = TimeSpan.FromMinutes(2);

    private long _next;
    private long _done;
    private long _simulatedTicks;
    private long _failed;

    public ulong Done => (ulong)Volatile.Read(ref _done);

    public long Failed => Volatile.Read(ref _failed);

    public TimeSpan Simulated => new(Volatile.Read(ref _simulatedTicks));

    /// <param name="from">The first seed.</param>
    /// <param name="count">How many.</param>
    /// <param name="threads">At once.</param>
    /// <param name="failuresMax">After so many it stops.</param>
    /// <param name="watch">Called now and then; the argument is the time since the start.</param>
    /// <exception cref="TimeoutException">A run does not end; the message names its seed.</exception>
    public CampaignResult Run(ulong from, ulong count, int threads, int failuresMax, Action<TimeSpan> watch)
    {
        var clock = Stopwatch.StartNew();
        var exercised = new Dictionary<string, long>(StringComparer.Ordinal);
        var failures = new List<Outcome>();
        var running = new (ulong Seed, long Since)[threads];
        ulong untilFailure = 0;
        Exception? broken = null;
        var workers = Enumerable.Range(0, threads).Select(worker => new Thread(() => Work(worker)) { IsBackground = true }).ToList();
        workers.ForEach(worker => worker.Start());
        while (workers.Exists(worker => !worker.Join(TimeSpan.FromMilliseconds(200))))
        {
            watch(clock.Elapsed);
            foreach (var (seed, since) in running)
            {
                if (since != 0 && Stopwatch.GetElapsedTime(since) > RunTimeMax)
                {
                    throw new TimeoutException($"The schedule of seed {seed} does not end: some code of it runs in a circle.");
                }
            }
        }

        watch(clock.Elapsed);
        if (broken is not null)
        {
            throw new InvalidOperationException($"The simulation itself failed: {broken.Message}", broken);
        }

        return new CampaignResult
        {
            Schedules = Done,
            Elapsed = clock.Elapsed,
            Simulated = Simulated,
            Exercised = exercised,
            Failures = [.. failures.OrderBy(f => f.Schedule.Seed)],
            SeedsToFailure = untilFailure,
        };

        void Work(int worker)
        {
            try
            {
                while (Failed < failuresMax && broken is null && (ulong)Interlocked.Increment(ref _next) - 1 is var number && number < count)
                {
                    var schedule = scheduleOf(from + number);
                    running[worker] = (schedule.Seed, Stopwatch.GetTimestamp());
                    var outcome = Simulation.Run.Of(schedule, warehouseOf(worker), trace: null);
                    running[worker] = default;
                    Interlocked.Add(ref _simulatedTicks, outcome.Simulated.Ticks);
                    lock (exercised)
                    {
                        _done++;
                        foreach (var (name, times) in outcome.Exercised)
                        {
                            exercised[name] = exercised.GetValueOrDefault(name) + times;
                        }

                        if (outcome.Violation is not null)
                        {
                            _failed++;
                            failures.Add(outcome);
                            untilFailure = untilFailure == 0 ? number + 1 : Math.Min(untilFailure, number + 1);
                        }
                    }
                }
            }
            catch (Exception e)
            {
                broken = e;
                running[worker] = default;
            }
        }
    }
}

/// <summary>Names of what a simulation does, as the summary shows them.</summary>
internal static class Exercise
{
    /// <summary>All of this has to happen in a long run: whoever changes the simulation so that it does not is told.</summary>
    public static IReadOnlyList<string> Expected { get; } =
    [
        .. Enum.GetNames<Port>(),
        .. Faults.All.Select(f => $"{f.Port}: {f.Fault}"),
        .. Enum.GetNames<OperationKind>().Select(name => $"operation: {name}"),
        "write: Insert", "write: Modify", "write: Remove",
        "client: acknowledged", "client: acknowledged after a lost answer", "client: conflict", "client: refused", "client: gave up",
        "shard: split", "shard: rolled over", "shard: closed empty", "shard: closed with records", "shard: records trimmed", "shard: trimmed away",
        "function: one pass", "function: record by record", "function: stored", "function: reported a failure", "answer: taken", "answer: too late",
        "object: change file", "object: change file written again", "object: parked", "object: copied",
        "load: something new", "load: nothing new", "load: file failed", "load: client gone", "load: ended by the server as idle",
        "begin: waited for another load", "begin: gave up waiting for the lock", "stage: refused",
        "shown: a later version", "shown: a later life", "shown: an earlier life", "shown: as before",
        "process: stopped in good order",
        "waiting: free", "waiting: not free yet", "load: has to wait",
        "object: parked by the loader, or once more", "object: discarded", "object: redriven", "object: left the quarantine",
        "redrive: Written", "redrive: StillUndecodable", "redrive: Discarded", "redrive: Gone", "discard: Discarded", "discard: AlreadyDiscarded",
        "object: compacted", "object: merged into another", "compaction: done", "compaction: failed",
        "operator: done", "operator: failed", "backfill: done", "backfill: failed",
        "at rest: a backfill alone tells of an order", "at rest: a backfilled order is discarded",
    ];
}
