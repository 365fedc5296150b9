using System.CommandLine;
using System.Diagnostics;
using System.Reflection;
using Pipeline.Ops;
using Pipeline.Ops.Seed;

namespace Pipeline.Bench;

/// <summary>Runs stages one after the other, shows how far they are, and writes the report.</summary>
internal static class BenchRun
{
    private const int AllReached = 0;
    private const int GoalMissed = 1;
    private const int NotMeasured = 2;

    private static readonly Option<bool> Quick = new("--quick")
    {
        Description = "Less of everything: under three minutes for all stages.",
        Recursive = true,
    };

    private static readonly Option<int> Seed = new("--seed")
    {
        Description = "Of the generated orders.",
        DefaultValueFactory = _ => 1,
        Recursive = true,
    };

    private static readonly Option<DirectoryInfo?> Olist = new("--olist")
    {
        Description = "Folder with the CSV files of the Olist data set: real orders in the place of generated ones. OLIST_DIR when left out, or ../shared/data/olist if it is there.",
        Recursive = true,
    };

    private static readonly Option<DirectoryInfo?> Output = new("--output")
    {
        Description = "Folder of the report. artifacts/bench of the repository when left out.",
        Recursive = true,
    };

    private static readonly Option<int?> Orders = new("--orders")
    {
        Description = "Compared by the stage reconcile. 100000 when left out, 2000 in a quick run; a million take half an hour.",
        Recursive = true,
    };

    public static RootCommand Command(IReadOnlyList<Stage> stages, params IEnumerable<Command> others)
    {
        var root = new RootCommand(
            """
            Measures every stage of the pipeline against its limit or against a baseline, and writes a report. Without a verb: all stages.
            Build with -c Release, and let nothing else run: the report names the load average.
            Exit codes: 0 every goal is reached, 1 one is missed, 2 something could not be measured.
            """)
        {
            Options = { Quick, Seed, Olist, Output, Orders },
        };
        root.SetAction((parsed, ct) => RunAsync(stages, "report", parsed, ct));
        foreach (var stage in stages)
        {
            var verb = new Command(stage.Verb, stage.Description);
            verb.SetAction((parsed, ct) => RunAsync([stage], stage.Verb, parsed, ct));
            root.Add(verb);
        }

        foreach (var other in others)
        {
            root.Add(other);
        }

        return root;
    }

    private static async Task<int> RunAsync(IReadOnlyList<Stage> stages, string name, ParseResult parsed, CancellationToken cancellationToken)
    {
        if (typeof(BenchRun).Assembly.GetCustomAttribute<DebuggableAttribute>()?.IsJITOptimizerDisabled == true)
        {
            await Console.Error.WriteLineAsync("This is a Debug build, whose figures say nothing: run it with -c Release.");
            return NotMeasured;
        }

        var machine = Machine.Describe();
        var isQuick = parsed.GetValue(Quick);
        var failures = new List<Failure>();
        var building = await BuildAsync(stages, failures, cancellationToken);
        var startedAt = DateTimeOffset.UtcNow;
        var watch = Stopwatch.StartNew();
        var folder = Directory.CreateTempSubdirectory("bench-").FullName;
        Report report;
        try
        {
            Inputs inputs;
            try
            {
                inputs = Inputs.Of(parsed.GetValue(Seed), OlistFolder(parsed.GetValue(Olist)?.FullName));
            }
            catch (SeedInputException e)
            {
                await Console.Error.WriteLineAsync(e.Message);
                return NotMeasured;
            }

            await using var context = new StageContext(inputs, isQuick, parsed.GetValue(Orders) ?? (isQuick ? 2_000 : 100_000), folder);
            var done = 0.0;
            var current = stages[0];
            var work = Task.Run(
                async () =>
                {
                    foreach (var stage in stages.Where(stage => failures.All(failure => failure.Stage != stage.Verb)))
                    {
                        current = stage;
                        context.Progress("starting", 0);
                        try
                        {
                            await stage.RunAsync(context, cancellationToken);
                        }
                        catch (Exception e) when (e is not OperationCanceledException || !cancellationToken.IsCancellationRequested)
                        {
                            await FailAsync(failures, stage, e);
                        }

                        done += Weight(stage);
                    }

                    return true;
                },
                cancellationToken);
            await Terminal.WatchAsync(
                Terminal.Create(forPeopleOnly: true),
                work,
                () => (long)(1000 * (done + (Weight(current) * context.Share))),
                () => (long)(1000 * stages.Sum(Weight)),
                () => $"{current.Verb}: {context.Doing}");
            report = new Report
            {
                Machine = machine,
                Input = inputs.Description,
                IsQuick = isQuick,
                StartedAt = startedAt,
                Building = building,
                Duration = watch.Elapsed,
                LoadAfter = Machine.Load(),
                Rows = context.Rows,
                Curves = context.Curves,
                Failures = failures,
            };
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        Console.WriteLine(report.ToMarkdown());
        var written = await report.WriteAsync(parsed.GetValue(Output)?.FullName ?? Path.Combine(Repository.Root, "artifacts", "bench"), name);
        await Console.Error.WriteLineAsync($"Written to {written} and beside it as JSON.");
        return failures.Count > 0 ? NotMeasured : report.Rows.All(row => row.IsReached) ? AllReached : GoalMissed;

        double Weight(Stage stage) => isQuick ? stage.QuickSeconds : stage.FullSeconds;
    }

    private static async Task<TimeSpan> BuildAsync(IReadOnlyList<Stage> stages, List<Failure> failures, CancellationToken cancellationToken)
    {
        var watch = Stopwatch.StartNew();
        foreach (var stage in stages.Where(stage => stage.BuildAsync is not null))
        {
            await Console.Error.WriteLineAsync($"{stage.Verb}: publishing its program");
            try
            {
                await stage.BuildAsync!(cancellationToken);
            }
            catch (Exception e) when (e is not OperationCanceledException || !cancellationToken.IsCancellationRequested)
            {
                await FailAsync(failures, stage, e);
            }
        }

        return watch.Elapsed;
    }

    /// <summary>The other stages still have something to tell; the report says what this one failed with.</summary>
    private static async Task FailAsync(List<Failure> failures, Stage stage, Exception e)
    {
        await Console.Error.WriteLineAsync($"{stage.Verb}: {e}");
        failures.Add(new Failure(stage.Verb, e.Message));
    }

    private static string? OlistFolder(string? given)
    {
        if (given is not null)
        {
            return given;
        }

        var usual = Path.Combine(Repository.Root, "..", "shared", "data", "olist");
        return Environment.GetEnvironmentVariable("OLIST_DIR") ?? (Directory.Exists(usual) ? usual : null);
    }
}

internal static class Repository
{
    /// <summary>The folder that holds Pipeline.sln.</summary>
    public static string Root { get; } = Find();

    private static string Find()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory.FullName, "Pipeline.sln")))
        {
            directory = directory.Parent ?? throw new InvalidOperationException("The benchmarks run from below the folder that holds Pipeline.sln.");
        }

        return directory.FullName;
    }
}
