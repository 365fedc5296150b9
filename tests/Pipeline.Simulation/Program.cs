using System.CommandLine;
using System.Globalization;
using Spectre.Console;

namespace Pipeline.Simulation;

internal static class Program
{
    private const int Violated = 1;
    private const int Idle = 2;

    /// <summary>With fewer seeds than this a rare fault may be missing by chance.</summary>
    private const ulong SeedsForCoverage = 10_000;
    private const int FailuresShown = 5;

    public static async Task<int> Main(string[] args)
    {
        var seed = new Option<ulong?>("--seed") { Description = "Replay one schedule and print its trace and the hash of it.", HelpName = "S" };
        var seeds = new Option<ulong?>("--seeds") { Description = "Run this many schedules.", HelpName = "N" };
        var from = new Option<ulong>("--from") { Description = "The first seed of --seeds.", HelpName = "S", DefaultValueFactory = _ => 1 };
        var threads = new Option<int>("--threads") { Description = "Schedules at once, each on one thread.", HelpName = "T", DefaultValueFactory = _ => Environment.ProcessorCount };
        var shrink = new Option<bool>("--shrink") { Description = "With --seed: replay the smallest case that fails in the same way." };
        var untilViolation = new Option<bool>("--until-violation") { Description = "With --seeds: stop at the first violation and print nothing but it, unshrunk." };
        var warehouse = new Option<string>("--warehouse")
        {
            Description = "memory: the meaning of the load in C#; postgres: the production SQL on a PostgreSQL that is started for it.",
            DefaultValueFactory = _ => "memory",
        };
        warehouse.AcceptOnlyFromAmong("memory", "postgres");
        var withoutKeys = new Option<bool>("--without-keys") { Description = "With --warehouse postgres: drop every unique and primary key, as Redshift enforces none." };
        var mutants = new Option<bool>("--mutants") { Description = "Break a copy of the production code in every way of the list and show that each is found." };
        var only = new Option<string?>("--only") { Description = "With --mutants: those whose name contains this.", HelpName = "NAME" };
        var root = new RootCommand(
            """
            Simulate the whole pipeline: seeded schedules of writes, faults and crashes, on one thread and with a clock of their
            own, with the invariants checked against an oracle (docs/simulation.md).

            Exit codes: 0 all hold (all mutants are killed); 1 an invariant is violated (a mutant survives); 2 something was
            never exercised.
            """)
        {
            seed, seeds, from, threads, shrink, untilViolation, warehouse, withoutKeys, mutants, only,
        };
        root.Validators.Add(result =>
        {
            if ((result.GetValue(seed) is not null ? 1 : 0) + (result.GetValue(seeds) is not null ? 1 : 0) + (result.GetValue(mutants) ? 1 : 0) != 1)
            {
                result.AddError("Give one of --seed S, --seeds N and --mutants.");
            }
        });
        root.SetAction(async (parsed, cancellationToken) =>
        {
            var console = AnsiConsole.Console;
            if (Console.IsOutputRedirected)
            {
                // A file or a pipe has no width; the library's guess of 80 would break the lines.
                console.Profile.Width = 240;
            }

            if (parsed.GetValue(mutants))
            {
                return await MutantRun.RunAsync(parsed.GetValue(only), console, cancellationToken);
            }

            var workers = parsed.GetValue(seed) is null ? parsed.GetValue(threads) : 1;
            await using var postgres = parsed.GetValue(warehouse) == "postgres"
                ? await PostgresSimulation.StartAsync(workers, withKeys: !parsed.GetValue(withoutKeys), cancellationToken)
                : null;
            ISimulatedWarehouse WarehouseOf(int worker) => postgres?.Fresh(worker) ?? new MemoryWarehouse();

            if (parsed.GetValue(seed) is { } one)
            {
                return Replay(one, parsed.GetValue(shrink), () => WarehouseOf(0));
            }

            var (first, count) = (parsed.GetValue(from), parsed.GetValue(seeds)!.Value);
            return parsed.GetValue(untilViolation)
                ? UntilViolation(first, count, workers, WarehouseOf)
                : RunMany(first, count, workers, WarehouseOf, console);
        });
        return await root.Parse(args).InvokeAsync();
    }

    private static int Replay(ulong seed, bool shrink, Func<ISimulatedWarehouse> warehouseOf)
    {
        var schedule = Schedule.Of(seed);
        if (shrink && Run.Of(schedule, warehouseOf(), trace: null) is { Violation: not null } failing)
        {
            schedule = new Shrinker(warehouseOf).Shrink(failing).Schedule;
        }

        var outcome = Run.Of(schedule, warehouseOf(), Console.Out);
        Console.Out.WriteLine($"violation: {outcome.Violation ?? "none"}");
        Console.Out.WriteLine($"trace hash: {outcome.TraceHash:x16}");
        return outcome.Violation is null ? 0 : Violated;
    }

    private static int UntilViolation(ulong from, ulong count, int threads, Func<int, ISimulatedWarehouse> warehouseOf)
    {
        var result = new Campaign(Schedule.Of, warehouseOf).Run(from, count, threads, failuresMax: 1, _ => { });
        if (result.Failures.Count == 0)
        {
            return 0;
        }

        Console.Out.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"violated after {result.SeedsToFailure} seeds: seed {result.Failures[0].Schedule.Seed}: {result.Failures[0].Violation}"));
        return Violated;
    }

    private static int RunMany(ulong from, ulong count, int threads, Func<int, ISimulatedWarehouse> warehouseOf, IAnsiConsole console)
    {
        var campaign = new Campaign(Schedule.Of, warehouseOf);
        CampaignResult? result = null;
        if (console.Profile.Capabilities.Interactive)
        {
            console.Progress()
                .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
                .Start(progress =>
                {
                    var bar = progress.AddTask("schedules", maxValue: count);
                    result = campaign.Run(from, count, threads, FailuresShown, elapsed =>
                    {
                        bar.Value = campaign.Done;
                        bar.Description = Markup.Escape(Progress(campaign.Done, campaign.Simulated, elapsed, campaign.Failed));
                    });
                });
        }
        else
        {
            var next = TimeSpan.FromSeconds(5);
            result = campaign.Run(from, count, threads, FailuresShown, elapsed =>
            {
                if (elapsed >= next)
                {
                    console.WriteLine(Progress(campaign.Done, campaign.Simulated, elapsed, campaign.Failed));
                    next = elapsed + TimeSpan.FromSeconds(5);
                }
            });
        }

        return Print(result!, count, warehouseOf, console);
    }

    private static int Print(CampaignResult result, ulong count, Func<int, ISimulatedWarehouse> warehouseOf, IAnsiConsole console)
    {
        var faults = new Table().Border(TableBorder.Simple).AddColumn("calls and their faults");
        foreach (var fault in Enum.GetNames<Fault>().Prepend("calls"))
        {
            faults.AddColumn(new TableColumn(fault).RightAligned());
        }

        foreach (var port in Enum.GetNames<Port>())
        {
            faults.AddRow([port, Number(port), .. Enum.GetNames<Fault>().Select(fault => Number($"{port}: {fault}"))]);
        }

        var others = new Table().Border(TableBorder.Simple).AddColumn("what else happened").AddColumn(new TableColumn("times").RightAligned());
        foreach (var (name, times) in result.Exercised.Where(e => e.Key.Contains(':', StringComparison.Ordinal) && !Enum.IsDefined(typeof(Port), e.Key.Split(':')[0])).OrderBy(e => e.Key, StringComparer.Ordinal))
        {
            others.AddRow(name, times.ToString("N0", CultureInfo.InvariantCulture));
        }

        console.Write(faults);
        console.Write(others);
        console.WriteLine(Progress(result.Schedules, result.Simulated, result.Elapsed, result.Failures.Count));

        foreach (var failure in result.Failures)
        {
            console.WriteLine($"seed {failure.Schedule.Seed}: {failure.Violation}");
        }

        if (result.Failures.Count > 0)
        {
            var small = new Shrinker(() => warehouseOf(0)).Shrink(result.Failures[0]);
            console.WriteLine($"The smallest case of seed {small.Schedule.Seed} (replay it with --seed {small.Schedule.Seed} --shrink): {small.Violation}");
            foreach (var what in small.Schedule.Operations.Select(o => o.ToString()).Concat(small.Schedule.Faults!.Select(f => f.ToString())))
            {
                console.WriteLine($"  {what}");
            }

            return Violated;
        }

        var never = result.NeverExercised.ToList();
        if (never.Count > 0)
        {
            console.WriteLine($"Never exercised{(count < SeedsForCoverage ? " (no fault of so short a run)" : "")}: {string.Join(", ", never)}");
            if (count >= SeedsForCoverage)
            {
                return Idle;
            }
        }

        return 0;

        string Number(string name) => result.Exercised.TryGetValue(name, out var times) ? times.ToString("N0", CultureInfo.InvariantCulture) : "";
    }

    private static string Progress(ulong done, TimeSpan simulated, TimeSpan elapsed, long failed) => string.Create(
        CultureInfo.InvariantCulture,
        $"{done:N0} schedules, {done / elapsed.TotalSeconds:N0}/s; {simulated.TotalHours:N1} simulated hours, {simulated.TotalSeconds / elapsed.TotalSeconds:N0} simulated seconds per second; {failed} violations");
}
