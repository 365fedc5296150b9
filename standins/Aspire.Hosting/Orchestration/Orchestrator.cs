using System.Collections;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using Aspire.Hosting.ApplicationModel;
using Microsoft.Extensions.Configuration;

namespace Aspire.Hosting.Orchestration;

/// <summary>Starts the resources in the order that they wait for each other, and stops them in the opposite one.</summary>
internal sealed class Orchestrator
{
    // Longer than anything here needs on a slow machine; after that a person wants to know what is missing.
    internal static readonly TimeSpan WaitReportAfter = TimeSpan.FromSeconds(20);

    // `dotnet run` forwards a SIGTERM that the whole process group got already: sooner it is the same wish.
    private static readonly TimeSpan SecondSignalAfter = TimeSpan.FromSeconds(2);

    // Meant for the AppHost itself; a child that found them would listen on the AppHost's address.
    private static readonly string[] NotInherited = ["ASPNETCORE_URLS", "DOTNET_LAUNCH_PROFILE", "ASPIRE_", "DASHBOARD__"];

    private readonly Dictionary<IResource, ResourceRun> _runs = [];
    private readonly List<Resource> _resources;
    private readonly IConfiguration _configuration;
    private Dictionary<string, string> _telemetry = [];

    public Orchestrator(List<Resource> resources, IConfiguration configuration, ConsoleLog log, RunRecord record)
    {
        _resources = resources;
        _configuration = configuration;
        Log = log;
        Record = record;
        foreach (var resource in resources.OfType<ProcessResource>())
        {
            _runs.Add(resource, new ResourceRun(resource, this));
            log.Register(resource.Name);
        }

        foreach (var run in _runs.Values)
        {
            Level(run.Resource, []);
        }
    }

    /// <summary>Raised after every change of a resource's status.</summary>
    public event Action<ResourceRun>? Changed;

    public ConsoleLog Log { get; }

    public RunRecord Record { get; }

    public DateTimeOffset StartedAt { get; } = DateTimeOffset.UtcNow;

    public string ControlUrl { get; private set; } = "";

    public IReadOnlyCollection<ResourceRun> Runs => _runs.Values;

    public IEnumerable<ConnectionStringResource> ConnectionStrings => _resources.OfType<ConnectionStringResource>();

    public ResourceRun? Find(string name) => _runs.Values.FirstOrDefault(run => run.Name == name);

    public async Task RunUntilSignalAsync(CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var first = new Stopwatch();
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal);
        using var hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, OnSignal);
        await RunAsync(stop.Token);

        void OnSignal(PosixSignalContext context)
        {
            if (first.Elapsed > SecondSignalAfter)
            {
                // No more patience. The signal's default action ends the AppHost itself.
                Log.Info("Killing everything.");
                KillAll();
                return;
            }

            context.Cancel = true;
            first.Start();
            stop.Cancel();
        }
    }

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        AllocatePorts();
        await using var server = new ResourceServer(this);
        try
        {
            ControlUrl = await server.StartAsync(cancellationToken);
            Dashboard? dashboard = null;
            if (_configuration.GetValue<bool>(Dashboard.Switch))
            {
                dashboard = await Dashboard.PrepareAsync(_configuration, server, Log, cancellationToken);
                _telemetry = dashboard.TelemetryEnvironment;
                var run = new ResourceRun(dashboard.Resource, this);
                _runs.Add(dashboard.Resource, run);
                Log.Register(run.Name);
            }

            foreach (var run in _runs.Values)
            {
                await run.StartAsync();
            }

            await AnnounceAsync(dashboard, cancellationToken);
            await Task.Delay(Timeout.Infinite, cancellationToken);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            Log.Info("Stopping.");
        }
        finally
        {
            await StopAllAsync();
        }
    }

    public void OnChanged(ResourceRun run) => Changed?.Invoke(run);

    /// <summary>Waits as long as it takes, but does not stay silent about it.</summary>
    public async Task WaitForAsync(ResourceRun waiting, Wait wait, CancellationToken cancellationToken)
    {
        // A connection string is a value, not something that starts.
        if (!_runs.TryGetValue(wait.On, out var dependency))
        {
            return;
        }

        var done = dependency.WaitUntilAsync(
            status => wait.ExitCode is { } code
                ? status.ExitCode == code && status.State is ResourceState.Finished or ResourceState.Exited
                : status.IsReady,
            cancellationToken);
        var waited = Stopwatch.StartNew();
        while (await Task.WhenAny(done, Task.Delay(WaitReportAfter, cancellationToken)) != done && !cancellationToken.IsCancellationRequested)
        {
            Log.Error($"{waiting.Name} has waited {waited.Elapsed.TotalSeconds:0} s for {dependency.Name}: {Explain(dependency, wait)}");
        }

        await done;
    }

    /// <summary>A process that ends by itself is a failure, unless another resource waits for just this end.</summary>
    public bool IsExpectedEnd(ProcessResource resource, int exitCode) =>
        _runs.Keys.OfType<ProcessResource>().Any(other => other.Waits.Exists(wait => wait.On == resource && wait.ExitCode == exitCode));

    /// <summary>What the AppHost has in its own environment, what Aspire gives to every process, and what the model says.</summary>
    public async Task<IReadOnlyDictionary<string, string>> EnvironmentOfAsync(ProcessResource resource, CancellationToken cancellationToken)
    {
        var environment = new Dictionary<string, string>();
        foreach (DictionaryEntry variable in Environment.GetEnvironmentVariables())
        {
            var name = (string)variable.Key;
            if (!NotInherited.Any(prefix => name.StartsWith(prefix, StringComparison.OrdinalIgnoreCase)))
            {
                environment[name] = (string?)variable.Value ?? "";
            }
        }

        if (resource is ProjectResource)
        {
            var urls = resource.Endpoints.Where(endpoint => endpoint.Scheme == "http").Select(endpoint => $"http://localhost:{endpoint.Port}");
            if (string.Join(';', urls) is { Length: > 0 } listenOn)
            {
                environment["ASPNETCORE_URLS"] = listenOn;
            }

            foreach (var (name, value) in _telemetry)
            {
                environment[name] = value;
            }

            if (_telemetry.Count > 0)
            {
                environment["OTEL_SERVICE_NAME"] = resource.Name;
                environment["OTEL_RESOURCE_ATTRIBUTES"] = $"service.instance.id={resource.Name}";
            }
        }

        foreach (var (name, value) in resource.Environment)
        {
            environment[name] = await value.GetValueAsync(cancellationToken) ?? "";
        }

        return environment;
    }

    private static string Explain(ResourceRun dependency, Wait wait)
    {
        var status = dependency.Status;
        return status.State switch
        {
            ResourceState.Waiting => $"that waits itself, for {string.Join(", ", dependency.Resource.Waits.Select(other => other.On.Name))}",
            ResourceState.Running when wait.ExitCode is not null => "it still runs",
            ResourceState.Running => $"it runs but is not ready: {status.Problem ?? "its OnResourceReady callbacks have not ended"}",
            _ => $"it is {status.State}: {status.Problem ?? "no reason given"}",
        };
    }

    /// <summary>Prints where everything is once all resources are ready.</summary>
    private async Task AnnounceAsync(Dashboard? dashboard, CancellationToken cancellationToken)
    {
        await Task.WhenAll(_runs.Values.Select(run => run.WaitUntilAsync(
            status => status.IsReady || status.State == ResourceState.Finished, cancellationToken)));
        using var self = Process.GetCurrentProcess();
        var text = new StringBuilder($"Everything is ready, {(DateTime.Now - self.StartTime).TotalSeconds:0.0} s after the AppHost started.\n");
        foreach (var run in _runs.Values)
        {
            foreach (var endpoint in run.Resource.Endpoints)
            {
                var suffix = endpoint.Scheme == "http" && run.Resource.HealthCheck is not null ? $"   (health: {run.Resource.HealthCheck.Path})" : "";
                text.Append($"    {run.Name,-20} {endpoint.Url}{suffix}\n");
            }
        }

        foreach (var connection in ConnectionStrings)
        {
            text.Append($"    {connection.Name,-20} {await connection.ConnectionStringExpression.GetValueAsync(cancellationToken)}\n");
        }

        text.Append($"    {"resources",-20} {ControlUrl}/resources   (POST …/NAME/start, stop, restart)\n");
        text.Append(dashboard is null ? "    No dashboard: run with --dashboard to get one. Ctrl-C stops everything." : "    Ctrl-C stops everything.");
        Log.Info(text.ToString());
    }

    private async Task StopAllAsync()
    {
        foreach (var level in _runs.Values.GroupBy(run => Level(run.Resource, [])).OrderByDescending(level => level.Key))
        {
            await Task.WhenAll(level.Select(run => run.StopAsync()));
        }

        foreach (var run in _runs.Values)
        {
            run.Dispose();
        }

        Record.Delete();
    }

    private void KillAll()
    {
        foreach (var run in _runs.Values)
        {
            run.KillNow();
        }

        Record.Delete();
    }

    /// <summary>How many others have to start one after the other before it.</summary>
    private static int Level(ProcessResource resource, HashSet<IResource> path)
    {
        if (!path.Add(resource))
        {
            throw new DistributedApplicationException($"Resources wait for each other in a circle: {string.Join(" → ", path.Select(r => r.Name))}.");
        }

        var level = resource.Waits.Select(wait => wait.On).OfType<ProcessResource>().Select(on => Level(on, path) + 1).DefaultIfEmpty(0).Max();
        path.Remove(resource);
        return level;
    }

    private void AllocatePorts()
    {
        // All listeners stay open until the last port is found: no port is given twice.
        var listeners = new List<TcpListener>();
        foreach (var endpoint in _runs.Values.SelectMany(run => run.Resource.Endpoints).Where(endpoint => endpoint.Port is null))
        {
            var listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            listeners.Add(listener);
            endpoint.Port = ((IPEndPoint)listener.LocalEndpoint).Port;
        }

        listeners.ForEach(listener => listener.Dispose());
    }
}
