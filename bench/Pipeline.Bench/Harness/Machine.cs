using System.Runtime.InteropServices;

namespace Pipeline.Bench;

/// <summary>Where a run took place: figures of two machines are not to be compared, only their ratios.</summary>
internal sealed record Machine
{
    public required string Processor { get; init; }
    public required int Cores { get; init; }
    public required long MemoryBytes { get; init; }
    public required string System { get; init; }
    public required string Runtime { get; init; }
    public required string LoadBefore { get; init; }

    public static Machine Describe() => new()
    {
        Processor = ProcessorName(),
        Cores = Environment.ProcessorCount,
        MemoryBytes = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes,
        System = RuntimeInformation.OSDescription,
        Runtime = RuntimeInformation.FrameworkDescription,
        LoadBefore = Load(),
    };

    /// <summary>The load average of the last minute, where the system tells one: figures of a busy machine say little.</summary>
    public static string Load() => File.Exists("/proc/loadavg") ? File.ReadAllText("/proc/loadavg").Split(' ')[0] : "unknown";

    private static string ProcessorName()
    {
        const string Name = "model name";
        var line = File.Exists("/proc/cpuinfo")
            ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith(Name, StringComparison.Ordinal))
            : null;
        return line?[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim() ?? RuntimeInformation.ProcessArchitecture.ToString();
    }
}
