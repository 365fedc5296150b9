using System.Data.Common;
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
    // `dotnet run` forwards a SIGTERM that the whole process group got already: sooner it is the same wish.
    private static readonly TimeSpan SecondSignalAfter = TimeSpan.FromSeconds(2);

    // Meant for the AppHost itself; a child that found them would listen on the AppHost's address.
    private static readonly string[] NotInherited = ["ASPNETCORE_URLS", "DOTNET_LAUNCH_PROFILE", "ASPIRE_", "DASHBOARD__"];

    private readonly Dictionary<IResource, ResourceRun> _runs = [];
    private readonly IConfiguration _configuration;
    private Dictionary<string, string> _telemetry = [];

    public Orchestrator(IReadOnlyList<Resource> resources, IConfiguration configuration, ConsoleLog log, RunRecord record)
    {
        _configuration = configuration;
        (Log, Record) = (log, record);
        ConnectionStrings = [.. resources.OfType<ConnectionStringResource>()];
        foreach (var resource in resources.OfType<ProcessResource>())
        {
            Level(resource, []);
            Add(resource);
        }
    }

    /// <summary>Raised after every change of a resource's status.</summary>
    public event Action? Changed;

    public ConsoleLog Log { get; }

    public RunRecord Record { get; }

    public DateTimeOffset StartedAt { get; } = DateTimeOffset.UtcNow;

    public string ControlUrl { get; private set; } = "";

    public IReadOnlyCollection<ResourceRun> Runs => _runs.Values;

    public IReadOnlyList<ConnectionStringResource> ConnectionStrings { get; }

    /// <summary>Longer than anything needs on a slow machine; after that a person wants to know what is missing.</summary>
    internal TimeSpan WaitReportAfter { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>A .NET service stops within a second; PostgreSQL waits for its clients, which are stopped before it.</summary>
    internal TimeSpan StopGrace { get; init; } = TimeSpan.FromSeconds(8);

    public ResourceRun? Find(string name) => Runs.FirstOrDefault(run => run.Name == name);

    public void OnChanged() => Changed?.Invoke();

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
                foreach (var run in Runs)
                {
                    run.KillNow();
                }

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
            if (_configuration.GetValue<bool>(Dashboard.Switch))
            {
                var dashboard = await Dashboard.PrepareAsync(_configuration, server, Log, cancellationToken);
                _telemetry = dashboard.TelemetryEnvironment;
                Add(dashboard.Resource);
            }

            foreach (var run in Runs)
            {
                run.Start();
            }

            await AnnounceAsync(cancellationToken);
            await Task.Delay(Timeout.Infinite, cancellationToken);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            Log.Info("Stopping.");
        }
        finally
        {
            foreach (var level in Runs.GroupBy(run => Level(run.Resource, [])).OrderByDescending(level => level.Key))
            {
                await Task.WhenAll(level.Select(run => run.StopAsync()));
            }
        }
    }

    /// <summary>Waits as long as it takes, but does not stay silent about it.</summary>
    public async Task WaitForAsync(ResourceRun waiting, IResource waitsFor, CancellationToken cancellationToken)
    {
        // A connection string is a value, not something that starts.
        if (!_runs.TryGetValue(waitsFor, out var dependency))
        {
            return;
        }

        var done = dependency.WaitUntilReadyAsync(cancellationToken);
        var waited = Stopwatch.StartNew();
        while (await Task.WhenAny(done, Task.Delay(WaitReportAfter, cancellationToken)) != done && !cancellationToken.IsCancellationRequested)
        {
            Log.Error($"{waiting.Name} has waited {waited.Elapsed.TotalSeconds:0} s for {dependency.Name}: {Explain(dependency)}");
        }

        await done;
    }

    /// <summary>What the AppHost has in its own environment, what Aspire gives to every project, and what the model says.</summary>
    public async Task<IReadOnlyDictionary<string, string>> EnvironmentOfAsync(ProcessResource resource, CancellationToken cancellationToken)
    {
        var environment = ChildProcess.OwnEnvironment();
        foreach (var name in environment.Keys.Where(name => NotInherited.Any(prefix => name.StartsWith(prefix, StringComparison.OrdinalIgnoreCase))))
        {
            environment.Remove(name);
        }

        if (resource is ProjectResource)
        {
            var urls = resource.Endpoints.Where(endpoint => endpoint.Scheme == "http").Select(endpoint => endpoint.Url);
            if (string.Join(';', urls) is { Length: > 0 } listenOn)
            {
                environment["ASPNETCORE_URLS"] = listenOn;
            }

            foreach (var (name, value) in _telemetry)
            {
                environment[name] = value.Replace(Dashboard.NamePlaceholder, resource.Name, StringComparison.Ordinal);
            }
        }

        foreach (var (name, value) in resource.Environment)
        {
            environment[name] = await value.GetValueAsync(cancellationToken) ?? "";
        }

        return environment;
    }

    private void Add(ProcessResource resource)
    {
        _runs.Add(resource, new ResourceRun(resource, this));
        Log.Register(resource.Name);
    }

    private static string Explain(ResourceRun dependency) => dependency.Status switch
    {
        { State: ResourceState.Waiting } => $"it waits itself, for {string.Join(", ", dependency.Resource.WaitsFor.Select(other => other.Name))}",
        { State: ResourceState.Running } status => $"it runs but is not ready: {status.Problem ?? "its OnResourceReady callbacks have not ended"}",
        var status => $"it is {status.State}: {status.Problem ?? "no reason given"}",
    };

    /// <summary>Prints where everything is once all resources are ready.</summary>
    private async Task AnnounceAsync(CancellationToken cancellationToken)
    {
        await Task.WhenAll(Runs.Select(run => run.WaitUntilReadyAsync(cancellationToken)));
        using var self = Process.GetCurrentProcess();
        var text = new StringBuilder($"Everything is ready, {(DateTime.Now - self.StartTime).TotalSeconds:0.0} s after the AppHost started.\n");
        void Line(string name, string? value) => text.Append($"    {name,-20} {value}\n");
        foreach (var run in Runs)
        {
            run.Resource.Endpoints.ForEach(endpoint => Line(run.Name, endpoint.Url));
        }

        foreach (var connection in ConnectionStrings)
        {
            // A console is read by others, too: all but the password.
            var shown = new DbConnectionStringBuilder { ConnectionString = await connection.ConnectionStringExpression.GetValueAsync(cancellationToken) };
            shown.Remove("Password");
            Line(connection.Name, shown.ConnectionString);
        }

        Line("resources", $"{ControlUrl}/resources   (POST …/NAME/start, stop, restart)");
        Log.Info(text.Append("Ctrl-C stops everything.").ToString());
    }

    /// <summary>How many others have to start one after the other before it.</summary>
    private static int Level(ProcessResource resource, HashSet<IResource> path)
    {
        if (!path.Add(resource))
        {
            throw new DistributedApplicationException($"Resources wait for each other in a circle: {string.Join(" → ", path.Select(r => r.Name))}.");
        }

        var level = resource.WaitsFor.OfType<ProcessResource>().Select(on => Level(on, path) + 1).DefaultIfEmpty(0).Max();
        path.Remove(resource);
        return level;
    }

    private void AllocatePorts()
    {
        // All listeners stay open until the last port is found: no port is given twice.
        var listeners = new List<TcpListener>();
        foreach (var endpoint in Runs.SelectMany(run => run.Resource.Endpoints).Where(endpoint => endpoint.Port is null))
        {
            var listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            listeners.Add(listener);
            endpoint.Port = ((IPEndPoint)listener.LocalEndpoint).Port;
        }

        listeners.ForEach(listener => listener.Dispose());
    }
}
