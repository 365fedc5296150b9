using System.Globalization;

namespace Pipeline.Bench;

/// <summary>
/// Who used the processors: the time of this process and of all that it started, by program. It is read where Linux tells it;
/// elsewhere it is empty.
/// </summary>
internal static class ProcessorUse
{
    /// <summary>Of /proc's times; the same on every architecture that .NET runs on (proc_pid_stat(5), sysconf(3)).</summary>
    private const double TicksPerSecond = 100;

    /// <summary>Its name here.</summary>
    public const string DynamoDbLocal = "DynamoDB Local";

    /// <param name="names">Of processes by id; what is not there is called by what it runs.</param>
    /// <returns>Seconds by name.</returns>
    public static IReadOnlyDictionary<string, double> Read(IReadOnlyDictionary<int, string> names)
    {
        var seconds = new Dictionary<string, double>(StringComparer.Ordinal);
        if (!OperatingSystem.IsLinux())
        {
            return seconds;
        }

        var processes = Directory.GetDirectories("/proc").Select(ReadOne).OfType<Used>().ToDictionary(process => process.Id);
        foreach (var process in processes.Values.Where(IsOurs))
        {
            var name = process.Id == Environment.ProcessId ? "the writer" : names.GetValueOrDefault(process.Id) ?? process.Program;
            seconds[name] = seconds.GetValueOrDefault(name) + process.Seconds;
        }

        return seconds;

        bool IsOurs(Used process) =>
            process.Id == Environment.ProcessId || (processes.TryGetValue(process.Parent, out var parent) && IsOurs(parent));
    }

    /// <summary>As shares of all processors over a time, the largest first; the rest was idle, or somebody else's.</summary>
    public static string Shares(IReadOnlyDictionary<string, double> before, IReadOnlyDictionary<string, double> after, TimeSpan elapsed)
    {
        if (after.Count == 0)
        {
            return "not known on this system";
        }

        var shares = after
            .Select(used => (Name: used.Key, Percent: 100 * (used.Value - before.GetValueOrDefault(used.Key)) / elapsed.TotalSeconds / Environment.ProcessorCount))
            .OrderByDescending(used => used.Percent)
            .ToList();
        return string.Join(", ", shares.Append(("idle or others'", 100 - shares.Sum(used => used.Percent)))
            .Select(used => string.Create(CultureInfo.InvariantCulture, $"{used.Item1} {used.Item2:F0} %")));
    }

    private static Used? ReadOne(string folder)
    {
        if (!int.TryParse(Path.GetFileName(folder), CultureInfo.InvariantCulture, out var id))
        {
            return null;
        }

        try
        {
            // The name is in parentheses and may hold anything; the fields behind it are numbered from 3.
            var stat = File.ReadAllText(Path.Combine(folder, "stat"));
            var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            var command = File.ReadAllText(Path.Combine(folder, "cmdline"));
            return new Used(id, int.Parse(fields[1], CultureInfo.InvariantCulture), ProgramOf(command), (Ticks(14) + Ticks(15)) / TicksPerSecond);

            long Ticks(int field) => long.Parse(fields[field - 3], CultureInfo.InvariantCulture);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It has ended meanwhile, or is somebody else's.
            return null;
        }
    }

    private static string ProgramOf(string command) =>
        command.Contains("DynamoDBLocal", StringComparison.Ordinal) ? DynamoDbLocal
        : command.Contains("postgres", StringComparison.Ordinal) ? "PostgreSQL"
        : command.Contains("s3-server", StringComparison.Ordinal) ? "the S3 server"
        : "the rest";

    private sealed record Used(int Id, int Parent, string Program, double Seconds);
}
