using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Pipeline.NativeServers;

/// <summary>
/// A running server for a test or a measurement: it can be killed and started again on the same port and data, and
/// ends with the process that started it (at its exit, on Ctrl-C and SIGTERM).
/// </summary>
public sealed partial class NativeServer : IAsyncDisposable
{
    // A few seconds on an idle machine; a build server may run several test projects at once.
    private static readonly TimeSpan ReadyDeadline = TimeSpan.FromSeconds(60);

    // Each of them stops within a second when it is asked to; after that its data must survive SIGKILL anyway.
    private static readonly TimeSpan StopDeadline = TimeSpan.FromSeconds(5);

    private const int LinesInError = 30;

    private static readonly ConcurrentDictionary<Process, bool> Running = new();

    private readonly ConcurrentQueue<string> _lines = new();
    private Process? _process;

    // A signal's default action ends the process without ProcessExit; after these handlers it still does.
    private static readonly PosixSignalRegistration[] OnSignals =
    [
        PosixSignalRegistration.Create(PosixSignal.SIGINT, _ => KillAll()),
        PosixSignalRegistration.Create(PosixSignal.SIGTERM, _ => KillAll()),
        PosixSignalRegistration.Create(PosixSignal.SIGHUP, _ => KillAll()),
    ];

    static NativeServer() => AppDomain.CurrentDomain.ProcessExit += (_, _) =>
    {
        foreach (var registration in OnSignals)
        {
            registration.Dispose();
        }

        KillAll();
    };

    private NativeServer(ServerDefinition definition) => Definition = definition;

    public ServerDefinition Definition { get; }

    public int Port => Definition.Port;

    /// <summary>For an AWS client: with an IP address the SDK uses S3's path style by itself.</summary>
    public string Url => $"http://127.0.0.1:{Port}";

    /// <exception cref="InvalidOperationException">It ended or did not answer in time; the message has its last lines.</exception>
    public static async Task<NativeServer> StartAsync(ServerDefinition definition, CancellationToken cancellationToken = default)
    {
        var server = new NativeServer(definition);
        try
        {
            await server.StartProcessAsync(cancellationToken);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>SIGKILL: what the server had promised to keep must be there when it is started again.</summary>
    public async Task KillAsync()
    {
        if (_process is { } process)
        {
            process.Kill(entireProcessTree: true);
            await EndAsync(process);
        }
    }

    /// <summary>Starts it again after <see cref="KillAsync"/> or while it runs, on the same port and data.</summary>
    public async Task RestartAsync(CancellationToken cancellationToken = default)
    {
        await StopAsync();
        await StartProcessAsync(cancellationToken);
    }

    public async ValueTask DisposeAsync() => await StopAsync();

    private async Task StopAsync()
    {
        if (_process is not { } process)
        {
            return;
        }

        if (!OperatingSystem.IsWindows() && !process.HasExited)
        {
            _ = Kill(process.Id, (int)Definition.StopSignal);
            using var deadline = new CancellationTokenSource(StopDeadline);
            try
            {
                await process.WaitForExitAsync(deadline.Token);
            }
            catch (OperationCanceledException)
            {
                // It is killed below.
            }
        }

        process.Kill(entireProcessTree: true);
        await EndAsync(process);
    }

    private async Task StartProcessAsync(CancellationToken cancellationToken)
    {
        _lines.Clear();
        if (LoopbackPorts.IsTaken(Port))
        {
            // Else the other process would answer the probe in the place of this one.
            throw new InvalidOperationException($"{Definition.Name} cannot start: another process listens on port {Port}.");
        }

        var process = new Process
        {
            StartInfo = new ProcessStartInfo(Definition.Command.FileName, Definition.Command.Arguments)
            {
                WorkingDirectory = Definition.Command.WorkingDirectory,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            },
        };
        process.OutputDataReceived += (_, line) => Keep(line.Data);
        process.ErrorDataReceived += (_, line) => Keep(line.Data);
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        _process = process;
        Running[process] = true;

        using var ready = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var probe = Definition.WaitUntilReadyAsync(ReadyDeadline, ready.Token);
        var exit = process.WaitForExitAsync(ready.Token);
        var first = await Task.WhenAny(probe, exit);
        if (first == exit && !process.HasExited)
        {
            // The caller's token: the probe says so below.
            first = probe;
        }

        try
        {
            if (first == exit)
            {
                throw new InvalidOperationException($"{Definition.Name} ended with exit code {process.ExitCode} before it was ready.");
            }

            await probe;
        }
        catch (Exception e) when (e is TimeoutException or InvalidOperationException)
        {
            throw new InvalidOperationException($"{e.Message} Its last lines:{Environment.NewLine}{string.Join(Environment.NewLine, _lines)}", e);
        }
        finally
        {
            await ready.CancelAsync();
            await Task.WhenAll(probe, exit).ContinueWith(_ => { }, TaskScheduler.Default);
        }
    }

    private void Keep(string? line)
    {
        if (line is not null)
        {
            _lines.Enqueue(line);
            while (_lines.Count > LinesInError && _lines.TryDequeue(out _))
            {
            }
        }
    }

    private async Task EndAsync(Process process)
    {
        await process.WaitForExitAsync();
        _process = null;
        Running.TryRemove(process, out _);
        process.Dispose();
    }

    private static void KillAll()
    {
        foreach (var process in Running.Keys)
        {
            process.Kill(entireProcessTree: true);
        }
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int pid, int signal);
}
