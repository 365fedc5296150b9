using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Pipeline.Bench;

/// <summary>
/// A program of ours in a process of its own, ready when its health endpoint says so. What it writes is read, or it would stop
/// at a full pipe, and the last lines are kept for the message of an error.
/// </summary>
internal sealed class ServiceUnderTest : IAsyncDisposable
{
    private const int LinesKept = 20;
    private static readonly TimeSpan HealthyWithin = TimeSpan.FromSeconds(60);

    private readonly Process _process;
    private readonly ConcurrentQueue<string> _lines = new();
    private readonly Task _reading;

    private ServiceUnderTest(string name, Process process, Action<string>? onLine)
    {
        Name = name;
        _process = process;
        _reading = ReadAsync(onLine);
    }

    public string Name { get; }

    public int Id => _process.Id;

    public StreamWriter Input => _process.StandardInput;

    /// <summary>Its memory just now.</summary>
    public long ResidentBytes => Refreshed().WorkingSet64;

    /// <summary>The most memory that it had so far.</summary>
    public long PeakBytes => Refreshed().PeakWorkingSet64;

    /// <summary>Processor time that it has used so far, over all cores.</summary>
    public TimeSpan ProcessorTime => Refreshed().TotalProcessorTime;

    /// <param name="name">For messages and tables.</param>
    /// <param name="assembly">Its main assembly.</param>
    /// <param name="arguments">The command line behind it.</param>
    /// <param name="environment">Added to that of this process.</param>
    /// <param name="health">Answers with success when it is ready; null for a program without HTTP.</param>
    /// <param name="cancellationToken">Ends the wait, and the process.</param>
    /// <param name="onLine">Given each line of its output.</param>
    public static async Task<ServiceUnderTest> StartAsync(
        string name,
        string assembly,
        IEnumerable<string> arguments,
        IReadOnlyDictionary<string, string> environment,
        Uri? health,
        CancellationToken cancellationToken,
        Action<string>? onLine = null)
    {
        var service = new ServiceUnderTest(name, Dotnet.Start(assembly, arguments, environment), onLine);
        try
        {
            if (health is not null)
            {
                await service.HealthyAsync(health, cancellationToken);
            }

            return service;
        }
        catch
        {
            await service.DisposeAsync();
            throw;
        }
    }

    /// <exception cref="InvalidOperationException">It has ended.</exception>
    public void ThrowIfEnded()
    {
        if (_process.HasExited)
        {
            throw new InvalidOperationException($"{Name} ended with code {_process.ExitCode}. Its last lines:\n{string.Join('\n', _lines)}");
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
        }

        await _process.WaitForExitAsync();
        await _reading;
        _process.Dispose();
    }

    private Process Refreshed()
    {
        _process.Refresh();
        return _process;
    }

    private async Task ReadAsync(Action<string>? onLine)
    {
        while (await _process.StandardOutput.ReadLineAsync() is { } line)
        {
            _lines.Enqueue(line);
            if (_lines.Count > LinesKept)
            {
                _lines.TryDequeue(out _);
            }

            onLine?.Invoke(line);
        }
    }

    private async Task HealthyAsync(Uri health, CancellationToken cancellationToken)
    {
        using var http = new HttpClient();
        for (var waited = Stopwatch.StartNew(); ;)
        {
            try
            {
                using var answer = await http.GetAsync(health, cancellationToken);
                if (answer.IsSuccessStatusCode)
                {
                    return;
                }
            }
            catch (HttpRequestException)
            {
                // Not listening yet.
            }

            ThrowIfEnded();
            if (waited.Elapsed > HealthyWithin)
            {
                throw new TimeoutException($"{Name} is not healthy after {waited.Elapsed.TotalSeconds:F0} s. Its last lines:\n{string.Join('\n', _lines)}");
            }

            await Task.Delay(20, cancellationToken);
        }
    }
}

internal static class Dotnet
{
    /// <summary>Of the runtime that runs this: it need not be on the path.</summary>
    public static string Muxer { get; } = Path.GetFullPath(Path.Combine(
        RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet"));

    /// <summary>Starts an assembly with the runtime that runs this one.</summary>
    public static Process Start(string assembly, IEnumerable<string> arguments, IReadOnlyDictionary<string, string> environment)
    {
        var start = new ProcessStartInfo(Muxer, [assembly, .. arguments]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }
}
