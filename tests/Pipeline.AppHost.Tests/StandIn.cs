using System.Text;
using Aspire.Hosting.Orchestration;

namespace Pipeline.AppHost.Tests;

/// <summary>An application of small shell scripts, in a folder of its own, that a test starts and stops.</summary>
internal sealed class StandIn : IAsyncDisposable
{
    /// <summary>The collection of the tests that start one: two that started at the same moment would both take the preferred port for free.</summary>
    public const string OneAtATime = "one at a time";

    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);

    private readonly CancellationTokenSource _stop = new();
    private readonly SynchronizedWriter _output = new();
    private Task _run = Task.CompletedTask;

    public StandIn() => Builder = new DistributedApplicationBuilder([], Folder, Folder, _output);

    public string Folder { get; } = Directory.CreateTempSubdirectory("apphost-tests-").FullName;

    public DistributedApplicationBuilder Builder { get; }

    public string Output => _output.ToString();

    public IResourceBuilder<ExecutableResource> AddScript(string name, string script) =>
        Builder.AddExecutable(name, "/bin/sh", Folder, "-c", script);

    public Orchestrator Build(TimeSpan? waitReportAfter = null, TimeSpan? stopGrace = null) =>
        new(Builder.Resources, Builder.Configuration, Builder.Log, Builder.RunRecord)
        {
            WaitReportAfter = waitReportAfter ?? TimeSpan.FromSeconds(20),
            StopGrace = stopGrace ?? TimeSpan.FromSeconds(8),
        };

    public void Run(Orchestrator orchestrator) => _run = orchestrator.RunAsync(_stop.Token);

    public async Task StopAsync()
    {
        await _stop.CancelAsync();
        await _run;
    }

    public string Path(string file) => System.IO.Path.Combine(Folder, file);

    /// <summary>The pid that a script wrote into a file.</summary>
    public async Task<int> PidInAsync(string file)
    {
        await UntilAsync(() => File.Exists(Path(file)) && File.ReadAllText(Path(file)).EndsWith('\n'), $"a pid in {file}");
        return int.Parse(await File.ReadAllTextAsync(Path(file)), provider: null);
    }

    public async Task UntilAsync(Func<bool> condition, string what)
    {
        using var deadline = new CancellationTokenSource(Deadline);
        while (!condition())
        {
            Assert.False(deadline.IsCancellationRequested, $"Waited {Deadline.TotalSeconds} s for {what}. Output:\n{Output}");
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }
    }

    public static bool IsAlive(int pid)
    {
        // A zombie is dead: it only waits for somebody to ask for its exit code.
        var stat = $"/proc/{pid}/stat";
        try
        {
            return File.ReadAllText(stat).Split(')')[^1].TrimStart()[0] is not 'Z';
        }
        catch (IOException)
        {
            return false;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        _stop.Dispose();
        Directory.Delete(Folder, recursive: true);
    }

    private sealed class SynchronizedWriter : StringWriter
    {
        private readonly Lock _lock = new();

        public override void WriteLine(string? value)
        {
            lock (_lock)
            {
                base.WriteLine(value);
            }
        }

        public override string ToString()
        {
            lock (_lock)
            {
                return base.ToString();
            }
        }

        public override Encoding Encoding => Encoding.UTF8;
    }
}
