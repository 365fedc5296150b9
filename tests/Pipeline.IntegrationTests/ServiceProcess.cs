using System.Collections.Concurrent;
using System.Diagnostics;

namespace Pipeline.IntegrationTests;

/// <summary>
/// One of the product's own programs, started from its build output as the AppHost does, that a test can kill
/// and start again.
/// </summary>
internal sealed class ServiceProcess : IAsyncDisposable
{
    private const int KeptLogLines = 200;
    private static readonly TimeSpan StartDeadline = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan StopDeadline = TimeSpan.FromSeconds(15);

    private readonly string _project;
    private readonly IReadOnlyList<string> _arguments;
    private readonly IReadOnlyDictionary<string, string> _environment;
    private readonly Uri? _health;
    private readonly ConcurrentQueue<string> _log = new();
    private Process? _process;

    /// <param name="project">The project's name; its output lies beside that of this test project.</param>
    /// <param name="arguments">The command line behind the program.</param>
    /// <param name="environment">Added to the environment of the test process.</param>
    /// <param name="health">Answers 200 when the program is ready; null for one that serves no HTTP.</param>
    public ServiceProcess(string project, IReadOnlyList<string> arguments, IReadOnlyDictionary<string, string> environment, Uri? health)
    {
        _project = project;
        _arguments = arguments;
        _environment = environment;
        _health = health;
    }

    /// <summary>The last lines that the program wrote, over all its starts.</summary>
    public string Log => string.Join('\n', _log);

    /// <summary>It was started, and neither was killed nor ended by itself since.</summary>
    public bool IsRunning => _process is { HasExited: false };

    public static string OutputOf(string project)
    {
        var output = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar));
        return Path.Combine(output.Parent!.Parent!.FullName, project, output.Name, $"{project}.dll");
    }

    public async Task StartAsync(CancellationToken cancellationToken)
    {
        var start = new ProcessStartInfo("dotnet")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        start.ArgumentList.Add(OutputOf(_project));
        foreach (var argument in _arguments)
        {
            start.ArgumentList.Add(argument);
        }

        foreach (var (name, value) in _environment)
        {
            start.Environment[name] = value;
        }

        var process = new Process { StartInfo = start };
        process.OutputDataReceived += (_, line) => Keep(line.Data);
        process.ErrorDataReceived += (_, line) => Keep(line.Data);
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        _process = process;
        await WaitUntilHealthyAsync(process, cancellationToken);
    }

    /// <summary>SIGKILL: the program gets no chance to finish anything.</summary>
    public async Task KillAsync()
    {
        if (_process is { } process)
        {
            _process = null;
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync().WaitAsync(StopDeadline);
            process.Dispose();
        }
    }

    public async ValueTask DisposeAsync() => await KillAsync();

    private async Task WaitUntilHealthyAsync(Process process, CancellationToken cancellationToken)
    {
        if (_health is null)
        {
            return;
        }

        using var client = new HttpClient { Timeout = TimeSpan.FromSeconds(5) };
        await Eventually.TrueAsync(
            async () =>
            {
                if (process.HasExited)
                {
                    throw new InvalidOperationException($"{_project} ended with code {process.ExitCode} while it started:\n{Log}");
                }

                try
                {
                    using var answer = await client.GetAsync(_health, cancellationToken);
                    return answer.IsSuccessStatusCode;
                }
                catch (Exception e) when (e is HttpRequestException || (e is TaskCanceledException && !cancellationToken.IsCancellationRequested))
                {
                    // Not there yet, or too busy to answer in time.
                    return false;
                }
            },
            StartDeadline,
            () => $"{_project} is healthy at {_health}; it wrote:\n{Log}",
            cancellationToken);
    }

    private void Keep(string? line)
    {
        if (line is null)
        {
            return;
        }

        _log.Enqueue(line);
        while (_log.Count > KeptLogLines)
        {
            _log.TryDequeue(out _);
        }
    }
}

internal static class Eventually
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(50);

    /// <summary>Polls until the condition holds; a deadline that passes fails the test and says what was awaited.</summary>
    public static async Task TrueAsync(Func<Task<bool>> condition, TimeSpan deadline, Func<string> what, CancellationToken cancellationToken)
    {
        var waited = Stopwatch.StartNew();
        while (!await condition())
        {
            if (waited.Elapsed > deadline)
            {
                Assert.Fail($"Not within {deadline.TotalSeconds} s: {what()}");
            }

            await Task.Delay(Pause, cancellationToken);
        }
    }
}
