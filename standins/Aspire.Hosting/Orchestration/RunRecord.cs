using System.ComponentModel;
using System.Diagnostics;
using System.Text.Json;

namespace Aspire.Hosting.Orchestration;

/// <summary>
/// The processes that run now, on disk: an AppHost that was killed with SIGKILL could not stop them, so the next one
/// does. A process counts as the recorded one when its id and its start time agree.
/// </summary>
internal sealed class RunRecord(string file, ConsoleLog log)
{
    // The start time comes from the boot time plus clock ticks, and is rounded differently from call to call.
    private static readonly TimeSpan StartTimeTolerance = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan LeftoverGrace = TimeSpan.FromSeconds(5);

    private readonly Lock _lock = new();
    private readonly Dictionary<int, Entry> _children = [];

    /// <exception cref="DistributedApplicationException">The AppHost that wrote the record still runs.</exception>
    public void StopLeftovers()
    {
        foreach (var entry in File.Exists(file) ? JsonSerializer.Deserialize<Entry[]>(File.ReadAllText(file))! : [])
        {
            using var process = Find(entry.Id);
            if (process is null || (StartTime(process) - entry.StartTime).Duration() > StartTimeTolerance)
            {
                continue;
            }

            if (entry.Name == ConsoleLog.Own)
            {
                throw new DistributedApplicationException(
                    $"This AppHost already runs (process {entry.Id}, since {entry.StartTime.ToLocalTime():HH:mm:ss}). Stop it first: kill {entry.Id}");
            }

            log.Info($"{entry.Name} (process {entry.Id}) is left from an AppHost that was killed: stopping it.");
            ChildProcess.StopForeign(process, LeftoverGrace);
        }

        File.Delete(file);
    }

    public void Add(string name, int id)
    {
        // None: it has ended already, and there is nothing to remember.
        using var process = Find(id);
        if (process is not null)
        {
            Change(() => _children[id] = new Entry(name, id, StartTime(process)));
        }
    }

    public void Remove(int id) => Change(() => _children.Remove(id));

    private void Change(Action change)
    {
        lock (_lock)
        {
            change();
            if (_children.Count == 0)
            {
                File.Delete(file);
                return;
            }

            using var self = Process.GetCurrentProcess();
            Entry[] all = [new(ConsoleLog.Own, self.Id, StartTime(self)), .. _children.Values];
            // Renamed into place: a SIGKILL in the middle of writing must not leave half a record.
            File.WriteAllText(file + ".new", JsonSerializer.Serialize(all));
            File.Move(file + ".new", file, overwrite: true);
        }
    }

    private static Process? Find(int id)
    {
        try
        {
            return Process.GetProcessById(id);
        }
        catch (ArgumentException)
        {
            return null;
        }
    }

    /// <summary>Long ago for a process that has ended meanwhile or belongs to somebody else: never the recorded one.</summary>
    private static DateTime StartTime(Process process)
    {
        try
        {
            return process.StartTime.ToUniversalTime();
        }
        catch (Exception e) when (e is InvalidOperationException or Win32Exception)
        {
            return DateTime.MinValue;
        }
    }

    private sealed record Entry(string Name, int Id, DateTime StartTime);
}
