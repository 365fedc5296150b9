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
    private readonly List<Entry> _children = [];

    /// <exception cref="DistributedApplicationException">The AppHost that wrote the record still runs.</exception>
    public void StopLeftovers()
    {
        if (!File.Exists(file))
        {
            return;
        }

        var before = JsonSerializer.Deserialize<Content>(File.ReadAllText(file)) ?? new Content(null, []);
        using (var appHost = Find(before.AppHost))
        {
            if (appHost is not null)
            {
                throw new DistributedApplicationException(
                    $"This AppHost already runs (process {appHost.Id}, since {appHost.StartTime:HH:mm:ss}). Stop it first: kill {appHost.Id}");
            }
        }

        foreach (var entry in before.Children)
        {
            using var process = Find(entry);
            if (process is not null)
            {
                log.Info($"{entry.Name} (process {entry.Id}) is left from an AppHost that was killed: stopping it.");
                ChildProcess.StopForeign(process, LeftoverGrace);
            }
        }

        File.Delete(file);
    }

    public void Add(string name, int id)
    {
        lock (_lock)
        {
            try
            {
                using var process = Process.GetProcessById(id);
                _children.Add(new Entry(name, id, process.StartTime.ToUniversalTime()));
                Save();
            }
            catch (Exception e) when (e is ArgumentException or InvalidOperationException or Win32Exception)
            {
                // It has ended already: nothing to remember.
            }
        }
    }

    public void Remove(int id)
    {
        lock (_lock)
        {
            _children.RemoveAll(entry => entry.Id == id);
            Save();
        }
    }

    public void Delete()
    {
        lock (_lock)
        {
            File.Delete(file);
        }
    }

    private void Save()
    {
        using var self = Process.GetCurrentProcess();
        var content = new Content(new Entry(ConsoleLog.Own, self.Id, self.StartTime.ToUniversalTime()), _children);
        // Renamed into place: a SIGKILL in the middle of writing must not leave half a record.
        File.WriteAllText(file + ".new", JsonSerializer.Serialize(content));
        File.Move(file + ".new", file, overwrite: true);
    }

    private static Process? Find(Entry? entry)
    {
        if (entry is null)
        {
            return null;
        }

        Process? process = null;
        try
        {
            process = Process.GetProcessById(entry.Id);
            if (!process.HasExited && (process.StartTime.ToUniversalTime() - entry.StartTime).Duration() < StartTimeTolerance)
            {
                return process;
            }
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException or Win32Exception)
        {
            // There is none, or it belongs to somebody else: not ours in either case.
        }

        process?.Dispose();
        return null;
    }

    private sealed record Content(Entry? AppHost, List<Entry> Children);

    private sealed record Entry(string Name, int Id, DateTime StartTime);
}
