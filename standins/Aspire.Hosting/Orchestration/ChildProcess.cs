using System.ComponentModel;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Aspire.Hosting.Orchestration;

/// <summary>A process in a group of its own, so that it can be stopped together with everything that it started.</summary>
internal sealed partial class ChildProcess : IDisposable
{
    private const int SigTerm = 15;
    private const int SigKill = 9;

    // A grandchild that outlives its parent may hold the pipes open; the last lines are there long before.
    private static readonly TimeSpan OutputDrain = TimeSpan.FromSeconds(1);

    // setsid(1) makes the group without a process in between. Where it is missing (macOS) children share the group
    // of the AppHost: Ctrl-C reaches them from the terminal too, and the tree is killed instead of the group.
    private static readonly string? SetSid = OperatingSystem.IsLinux() && File.Exists("/usr/bin/setsid") ? "/usr/bin/setsid" : null;

    private readonly Process _process;
    private readonly Task<int> _exited;

    private ChildProcess(Process process, Task<int> exited)
    {
        _process = process;
        _exited = exited;
        Id = process.Id;
    }

    public int Id { get; }

    /// <summary>Completes with the exit code (128 + n after signal n) when the process is gone and its output read.</summary>
    public Task<int> Exited => _exited;

    /// <summary><paramref name="onLine"/> gets each line and whether it came from standard error.</summary>
    /// <exception cref="DistributedApplicationException">The program is missing or may not be executed.</exception>
    public static ChildProcess Start(
        string fileName, IEnumerable<string> arguments, string workingDirectory,
        IReadOnlyDictionary<string, string> environment, Action<string, bool> onLine)
    {
        if (FindProgram(fileName, workingDirectory) is not { } program)
        {
            throw new DistributedApplicationException($"The program `{fileName}` was not found (working directory {workingDirectory}).");
        }

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

        var process = new Process { StartInfo = start, EnableRaisingEvents = true };
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
        return new ChildProcess(process, ExitAsync());

        void Forward(string? line, bool isError)
        {
            if (line is not null)
            {
                onLine(line, isError);
            }
        }

        async Task<int> ExitAsync()
        {
            await gone.Task;
            using var drained = new CancellationTokenSource(OutputDrain);
            try
            {
                await process.WaitForExitAsync(drained.Token);
            }
            catch (OperationCanceledException)
            {
                // What a grandchild still writes is not waited for.
            }

            return process.ExitCode;
        }
    }

    /// <summary>SIGTERM to the group, then SIGKILL to what is left of it after <paramref name="grace"/>.</summary>
    public async Task StopAsync(TimeSpan grace)
    {
        if (!_exited.IsCompleted && Signal(Id, SigTerm))
        {
            await Task.WhenAny(_exited, Task.Delay(grace));
        }

        Kill();
        await _exited;
    }

    /// <summary>SIGKILL to what is left of the group, also after its first process has ended.</summary>
    public void Kill()
    {
        if (!Signal(Id, SigKill))
        {
            _process.Kill(entireProcessTree: true);
        }
    }

    /// <summary>For a process that an earlier AppHost started: <see cref="StopAsync"/> without being its parent.</summary>
    public static void StopForeign(Process process, TimeSpan grace)
    {
        if (Signal(process.Id, SigTerm))
        {
            process.WaitForExit(grace);
            Signal(process.Id, SigKill);
        }
        else
        {
            process.Kill(entireProcessTree: true);
        }
    }

    /// <summary>The ends of a process in words: an exit code, or the signal that ended it.</summary>
    public static string Describe(int exitCode) => (exitCode - 128) switch
    {
        4 => "an illegal instruction (SIGILL)",
        6 => "an abort (SIGABRT)",
        9 => "SIGKILL",
        11 => "a segmentation fault (SIGSEGV)",
        15 => "SIGTERM",
        > 0 and < 65 and var signal => $"signal {signal}",
        _ => $"exit code {exitCode}",
    };

    public void Dispose() => _process.Dispose();

    private static string? FindProgram(string fileName, string workingDirectory) =>
        Path.GetDirectoryName(fileName) is not ""
            ? OnlyIfFile(Path.GetFullPath(fileName, workingDirectory))
            : (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
                .Select(folder => OnlyIfFile(Path.Combine(folder, fileName)))
                .FirstOrDefault(file => file is not null);

    private static string? OnlyIfFile(string file) =>
        File.Exists(file) ? file : OperatingSystem.IsWindows() && File.Exists(file + ".exe") ? file + ".exe" : null;

    /// <returns>Whether there is a group to signal on this system; a group that is empty already is no error.</returns>
    private static bool Signal(int group, int signal)
    {
        if (SetSid is null)
        {
            return false;
        }

        _ = KillSystemCall(-group, signal);
        return true;
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int KillSystemCall(int pid, int signal);
}
