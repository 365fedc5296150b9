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
        var recorded = File.Exists(file) ? JsonSerializer.Deserialize<Entry[]>(File.ReadAllText(file))! : [];
        var alive = recorded.Where(entry => (StartTime(entry.Id) - entry.StartTime).Duration() < StartTimeTolerance).ToList();
        if (alive.Find(entry => entry.Name == ConsoleLog.Own) is { } appHost)
        {
            throw new DistributedApplicationException(
                $"This AppHost already runs (process {appHost.Id}, since {appHost.StartTime.ToLocalTime():HH:mm:ss}). Stop it first: kill {appHost.Id}");
        }

        // All at once: each may take a while.
        Parallel.ForEach(alive, entry =>
        {
            log.Info($"{entry.Name} (process {entry.Id}) is left from an AppHost that was killed: stopping it.");
            ChildProcess.StopForeign(entry.Id, LeftoverGrace);
        });
        File.Delete(file);
    }

    public void Add(string name, int id)
    {
        var startTime = StartTime(id);
        Change(() => _children[id] = new Entry(name, id, startTime));
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

            Entry[] all = [new(ConsoleLog.Own, Environment.ProcessId, StartTime(Environment.ProcessId)), .. _children.Values];
            // Renamed into place: a SIGKILL in the middle of writing must not leave half a record.
            File.WriteAllText(file + ".new", JsonSerializer.Serialize(all));
            File.Move(file + ".new", file, overwrite: true);
        }
    }

    /// <summary>The distant future when there is no such process or it is somebody else's: not the recorded one.</summary>
    private static DateTime StartTime(int id)
    {
        try
        {
            using var process = Process.GetProcessById(id);
            return process.StartTime.ToUniversalTime();
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException or Win32Exception)
        {
            return DateTime.MaxValue;
        }
    }

    private sealed record Entry(string Name, int Id, DateTime StartTime);
}
