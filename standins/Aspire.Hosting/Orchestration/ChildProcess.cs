using System.Collections;
using System.ComponentModel;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Aspire.Hosting.Orchestration;

/// <summary>A process in a group of its own, so that it can be stopped together with everything that it started.</summary>
internal sealed partial class ChildProcess : IDisposable
{
    private const int SigKill = 9;
    private const int SigTerm = 15;

    // A grandchild that outlives its parent may hold the pipes open; the last lines are there long before.
    private static readonly TimeSpan OutputDrain = TimeSpan.FromSeconds(1);

    // setsid(1) makes the group without a process in between. Where it is missing (macOS) children share the group
    // of the AppHost: Ctrl-C reaches them from the terminal too, and the tree is killed instead of the group.
    private static readonly string? SetSid = OperatingSystem.IsLinux() && File.Exists("/usr/bin/setsid") ? "/usr/bin/setsid" : null;

    private readonly Process _process = new() { EnableRaisingEvents = true };

    private ChildProcess()
    {
    }

    public int Id { get; private set; }

    /// <summary>Completes with the exit code (128 + n after signal n) when the process is gone and its output read.</summary>
    public Task<int> Exited { get; private set; } = Task.FromResult(0);

    /// <summary><paramref name="onLine"/> gets each line and whether it came from standard error.</summary>
    /// <exception cref="DistributedApplicationException">The program is missing or may not be executed.</exception>
    public static ChildProcess Start(
        string fileName, IEnumerable<string> arguments, string workingDirectory,
        IReadOnlyDictionary<string, string> environment, Action<string, bool> onLine)
    {
        var program = Find(fileName, workingDirectory)
            ?? throw new DistributedApplicationException($"The program `{fileName}` was not found (working directory {workingDirectory}).");
        string[] commandLine = SetSid is null ? [program, .. arguments] : [SetSid, program, .. arguments];
        var start = new ProcessStartInfo(commandLine[0], commandLine[1..])
        {
            WorkingDirectory = workingDirectory,
            // A child that asks questions would wait for the AppHost's terminal.
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment.Clear();
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        var child = new ChildProcess();
        var process = child._process;
        process.StartInfo = start;
        var gone = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        process.Exited += (_, _) => gone.TrySetResult();
        process.OutputDataReceived += (_, line) => Forward(line.Data, isError: false);
        process.ErrorDataReceived += (_, line) => Forward(line.Data, isError: true);
        try
        {
            process.Start();
        }
        catch (Win32Exception e)
        {
            process.Dispose();
            throw new DistributedApplicationException($"The program `{program}` cannot be started in {workingDirectory}: {e.Message}");
        }

        process.StandardInput.Close();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        child.Id = process.Id;
        child.Exited = child.ExitAsync(gone.Task);
        return child;

        // Null is the end of the stream.
        void Forward(string? line, bool isError)
        {
            if (line is not null)
            {
                onLine(line, isError);
            }
        }
    }

    /// <summary>SIGTERM to the group, then SIGKILL to what is left of it after <paramref name="grace"/>.</summary>
    public async Task StopAsync(TimeSpan grace)
    {
        if (!Exited.IsCompleted && Signal(Id, SigTerm))
        {
            await Task.WhenAny(Exited, Task.Delay(grace));
        }

        Kill();
        await Exited;
    }

    /// <summary>SIGKILL to what is left of the group, also after its first process has ended.</summary>
    public void Kill()
    {
        if (!Signal(Id, SigKill))
        {
            _process.Kill(entireProcessTree: true);
        }
    }

    /// <summary><see cref="StopAsync"/> for a process that an earlier AppHost started.</summary>
    public static void StopForeign(int id, TimeSpan grace)
    {
        try
        {
            using var process = Process.GetProcessById(id);
            if (Signal(id, SigTerm))
            {
                process.WaitForExit(grace);
                Signal(id, SigKill);
            }
            else
            {
                process.Kill(entireProcessTree: true);
            }
        }
        catch (ArgumentException)
        {
            // It has ended meanwhile.
        }
    }

    /// <summary>The end of a process in words: its exit code, or the signal that ended it.</summary>
    public static string Describe(int exitCode) => (exitCode - 128) switch
    {
        6 => "an abort (SIGABRT)",
        SigKill => "SIGKILL",
        11 => "a segmentation fault (SIGSEGV)",
        SigTerm => "SIGTERM",
        > 0 and < 65 and var signal => $"signal {signal}",
        _ => $"exit code {exitCode}",
    };

    /// <summary>The environment of the AppHost itself.</summary>
    public static Dictionary<string, string> OwnEnvironment() => Environment.GetEnvironmentVariables()
        .Cast<DictionaryEntry>().ToDictionary(variable => (string)variable.Key, variable => (string?)variable.Value ?? "");

    public void Dispose() => _process.Dispose();

    private async Task<int> ExitAsync(Task gone)
    {
        await gone;
        // Bounded, and the bound is no error: what a grandchild still writes is not waited for.
        await Task.WhenAny(_process.WaitForExitAsync(), Task.Delay(OutputDrain));
        return _process.ExitCode;
    }

    private static string? Find(string fileName, string workingDirectory)
    {
        var candidates = Path.GetDirectoryName(fileName) is { Length: > 0 }
            ? [Path.GetFullPath(fileName, workingDirectory)]
            : (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Select(folder => Path.Combine(folder, fileName));
        return candidates
            .SelectMany(file => OperatingSystem.IsWindows() ? [file, file + ".exe"] : new[] { file })
            .FirstOrDefault(File.Exists);
    }

    /// <returns>Whether there are groups to signal on this system; a group that is empty already is no error.</returns>
    private static bool Signal(int group, int signal)
    {
        if (SetSid is not null)
        {
            _ = KillSystemCall(-group, signal);
        }

        return SetSid is not null;
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int KillSystemCall(int pid, int signal);
}
