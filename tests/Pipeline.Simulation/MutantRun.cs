using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Spectre.Console;

namespace Pipeline.Simulation;

/// <summary>Which simulation has to find a mutant.</summary>
internal enum MutantMode
{
    Memory,
    Postgres,
    PostgresWithoutKeys,
}

/// <param name="Name">Short.</param>
/// <param name="File">From the root of the repository; its folder is the project that is built.</param>
/// <param name="Old">Stands in the file exactly once.</param>
/// <param name="New">Takes its place.</param>
/// <param name="Breaks">What goes wrong with it.</param>
/// <param name="Mode">Where it shows.</param>
internal sealed record Mutant(string Name, string File, string Old, string New, string Breaks, MutantMode Mode = MutantMode.Memory);

/// <summary>
/// Tests the tests: breaks a copy of the production code on purpose, one fault after the other, and runs the simulation
/// until it finds it. A mutant that survives is a hole in the simulation.
/// </summary>
internal static partial class MutantRun
{
    /// <summary>A mutant that lives through so many seeds has survived.</summary>
    private const int SeedsMax = 10_000;

    private const string Killed = "killed";

    /// <summary>Not copied: what is built, fetched or versioned.</summary>
    private static readonly string[] Left = ["artifacts", "node_modules", ".git", "cdk.out", "bin", "obj"];

    public static async Task<int> RunAsync(string? only, IAnsiConsole console, CancellationToken cancellationToken)
    {
        var root = Root();
        var mutants = Mutants.All.Where(m => only is null || m.Name.Contains(only, StringComparison.OrdinalIgnoreCase)).ToList();

        // Before anything is built: a mutant that cannot be applied any more is an error of the list.
        var stale = Stale(root, mutants);
        foreach (var problem in stale)
        {
            console.WriteLine(problem);
        }

        if (stale.Count > 0)
        {
            return 1;
        }

        var copy = Directory.CreateTempSubdirectory("mutants-").FullName;
        try
        {
            console.WriteLine($"Building a copy in {copy}");
            Copy(root, copy);
            await DotnetAsync(copy, ["build", "-c", "Release", "tests/Pipeline.Simulation", "-p:RunAnalyzers=false"], cancellationToken);
            var program = Directory.GetFiles(Path.Combine(copy, "artifacts"), "Pipeline.Simulation.dll", SearchOption.AllDirectories)
                .Single(f => f.Contains($"{Path.DirectorySeparatorChar}bin{Path.DirectorySeparatorChar}", StringComparison.Ordinal));
            var unchanged = await SimulateAsync(program, MutantMode.Memory, from: 1, count: 100, cancellationToken);
            if (unchanged.FoundBy is not null)
            {
                console.WriteLine($"The unchanged code fails already: {unchanged.What}");
                return 1;
            }

            var table = new Table().Border(TableBorder.Simple).AddColumns("mutant", "breaks", "warehouse", "result", "seeds", "seconds", "found as");
            var killed = 0;
            foreach (var mutant in mutants)
            {
                var started = Stopwatch.GetTimestamp();
                var (result, seeds, what) = await ResultAsync(mutant, copy, program, cancellationToken);
                killed += result == Killed ? 1 : 0;
                console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{result} {mutant.Name} ({seeds} seeds, {Stopwatch.GetElapsedTime(started).TotalSeconds:F0} s): {what}"));
                table.AddRow(new[]
                {
                    mutant.Name, mutant.Breaks, mutant.Mode.ToString(), result, seeds.ToString("N0", CultureInfo.InvariantCulture),
                    Stopwatch.GetElapsedTime(started).TotalSeconds.ToString("F0", CultureInfo.InvariantCulture), what.Length > 70 ? what[..70] + "…" : what,
                }.Select(text => new Text(text)));
            }

            console.Write(table);
            console.WriteLine($"{killed} of {mutants.Count} mutants are killed.");
            return killed == mutants.Count ? 0 : 1;
        }
        finally
        {
            Directory.Delete(copy, recursive: true);
        }
    }

    private static async Task<(string Result, int Seeds, string What)> ResultAsync(Mutant mutant, string copy, string program, CancellationToken cancellationToken)
    {
        try
        {
            var (foundBy, seeds, what) = await RunAsync(mutant, copy, program, cancellationToken);
            if (foundBy is not { } seed)
            {
                return ("SURVIVED", seeds, what);
            }

            // What the unchanged program violates as well is not the mutant's doing, and says nothing about it.
            var unchanged = await SimulateAsync(program, mutant.Mode, from: seed, count: 1, cancellationToken);
            return unchanged.FoundBy is null
                ? (Killed, seeds, what)
                : ("NOT JUDGED", seeds, $"without the mutant seed {seed} fails, too: {unchanged.What}");
        }
        catch (InvalidOperationException e)
        {
            // An error of the list, such as one that does not compile: the others have something to tell all the same.
            return ("NOT RUN", 0, e.Message);
        }
    }

    /// <summary>
    /// Only the assembly of the changed file is built and put in the place of the one that the simulation was built with: a
    /// mutant changes what code does, not what it looks like to others.
    /// </summary>
    private static async Task<(ulong? FoundBy, int Seeds, string What)> RunAsync(Mutant mutant, string copy, string program, CancellationToken cancellationToken)
    {
        var file = Path.Combine(copy, mutant.File);
        var original = await File.ReadAllTextAsync(file, cancellationToken);
        var project = mutant.File.Split('/')[0];
        var deployed = Path.Combine(Path.GetDirectoryName(program)!, $"{project}.dll");
        var kept = deployed + ".unchanged";
        File.Copy(deployed, kept, overwrite: true);
        try
        {
            await File.WriteAllTextAsync(file, original.Replace(mutant.Old, mutant.New, StringComparison.Ordinal), cancellationToken);
            await DotnetAsync(
                copy,
                [
                    "build", "-c", "Release", project, "--no-restore", "-p:BuildProjectReferences=false", "-p:RunAnalyzers=false",
                    "-p:TreatWarningsAsErrors=false", "-p:GenerateDocumentationFile=false",
                ],
                cancellationToken);
            var built = Directory.GetFiles(Path.Combine(copy, "artifacts"), $"{project}.dll", SearchOption.AllDirectories)
                .Single(f => f.Contains(Path.Combine("bin", project, "release"), StringComparison.OrdinalIgnoreCase));
            File.Copy(built, deployed, overwrite: true);
            return await SimulateAsync(program, mutant.Mode, from: 1, SeedsMax, cancellationToken);
        }
        finally
        {
            await File.WriteAllTextAsync(file, original, CancellationToken.None);
            File.Move(kept, deployed, overwrite: true);
        }
    }

    /// <returns>The seed that violates something, after how many seeds that was, and what it violates.</returns>
    private static async Task<(ulong? FoundBy, int Seeds, string What)> SimulateAsync(
        string program, MutantMode mode, ulong from, int count, CancellationToken cancellationToken)
    {
        List<string> arguments =
        [
            program, "--until-violation", "--from", from.ToString(CultureInfo.InvariantCulture), "--seeds", count.ToString(CultureInfo.InvariantCulture),
        ];
        if (mode != MutantMode.Memory)
        {
            arguments.AddRange(["--warehouse", "postgres"]);
        }

        if (mode == MutantMode.PostgresWithoutKeys)
        {
            arguments.Add("--without-keys");
        }

        var (exitCode, output) = await StartAsync(Path.GetDirectoryName(program)!, arguments, cancellationToken);
        if (exitCode == 0)
        {
            return (null, count, "");
        }

        if (FoundAs().Match(output) is { Success: true } found)
        {
            return (SeedOf(found), int.Parse(found.Groups["seeds"].Value, CultureInfo.InvariantCulture), found.Groups["what"].Value.Trim());
        }

        // A mutant that makes a run turn in a circle is found as such.
        return Circles().Match(output) is { Success: true } circling
            ? (SeedOf(circling), 1, "a schedule does not end")
            : throw new InvalidOperationException($"The simulation ended with {exitCode}: {output}");
    }

    private static ulong SeedOf(Match match) => ulong.Parse(match.Groups["seed"].Value, CultureInfo.InvariantCulture);

    private static async Task DotnetAsync(string folder, IReadOnlyList<string> arguments, CancellationToken cancellationToken)
    {
        var (exitCode, output) = await StartAsync(folder, arguments, cancellationToken);
        if (exitCode != 0)
        {
            throw new InvalidOperationException($"dotnet {string.Join(' ', arguments)} failed:\n{output}");
        }
    }

    private static async Task<(int ExitCode, string Output)> StartAsync(string folder, IReadOnlyList<string> arguments, CancellationToken cancellationToken)
    {
        var start = new ProcessStartInfo("dotnet", arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };

        // A build server would hold the copy after this is over.
        start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        start.Environment["DOTNET_CLI_USE_MSBUILD_SERVER"] = "0";
        using var process = System.Diagnostics.Process.Start(start)!;
        try
        {
            var output = process.StandardOutput.ReadToEndAsync(cancellationToken);
            var error = process.StandardError.ReadToEndAsync(cancellationToken);
            await process.WaitForExitAsync(cancellationToken);
            return (process.ExitCode, await output + await error);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw;
        }
    }

    /// <summary>The mutants whose text is not, or not only once, in the code as it is now.</summary>
    public static IReadOnlyList<string> Stale(string root, IEnumerable<Mutant> mutants) =>
    [
        .. mutants
            .Where(m => File.ReadAllText(Path.Combine(root, m.File)).Split(m.Old).Length != 2)
            .Select(m => $"{m.Name}: its text does not stand exactly once in {m.File}; adapt it to the code as it is now."),
    ];

    /// <summary>The folder of the repository that this program was built in.</summary>
    public static string Root()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Pipeline.sln")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} holds Pipeline.sln: mutants are made of the source.");
    }

    private static void Copy(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (var file in Directory.GetFiles(from))
        {
            File.Copy(file, Path.Combine(to, Path.GetFileName(file)));
        }

        foreach (var folder in Directory.GetDirectories(from).Where(f => !Left.Contains(Path.GetFileName(f))))
        {
            Copy(folder, Path.Combine(to, Path.GetFileName(folder)));
        }

        // Which packages this machine can restore is found out once.
        var packageSet = Path.Combine(from, "artifacts", "package-set");
        if (File.Exists(packageSet))
        {
            Directory.CreateDirectory(Path.Combine(to, "artifacts"));
            File.Copy(packageSet, Path.Combine(to, "artifacts", "package-set"));
        }
    }

    [GeneratedRegex(@"violated after (?<seeds>\d+) seeds: seed (?<seed>\d+): (?<what>[^\n]*)")]
    private static partial Regex FoundAs();

    [GeneratedRegex(@"seed (?<seed>\d+) does not end: some code of it runs in a circle")]
    private static partial Regex Circles();
}
