using Aspire.Hosting.ApplicationModel;

namespace Aspire.Hosting.Orchestration;

/// <summary>The states' names are the ones that the Aspire dashboard knows.</summary>
internal enum ResourceState { NotStarted, Waiting, Starting, Running, Stopping, Exited, FailedToStart }

/// <summary>
/// What is known of a resource at one moment. Ready: it runs, is healthy, and every OnResourceReady callback has
/// ended. Problem: why it is not ready, or why it ended.
/// </summary>
internal sealed record ResourceStatus(
    ResourceState State,
    bool IsReady = false,
    string? Problem = null,
    int? ProcessId = null,
    int? ExitCode = null,
    DateTimeOffset? StartedAt = null,
    DateTimeOffset? StoppedAt = null,
    IReadOnlyDictionary<string, string>? Environment = null)
{
    public bool IsAlive => State is ResourceState.Waiting or ResourceState.Starting or ResourceState.Running or ResourceState.Stopping;
}

/// <summary>One resource's life: wait for others, start, become ready, end; and again.</summary>
internal sealed class ResourceRun(ProcessResource resource, Orchestrator orchestrator)
{
    // Often while somebody waits for it; seldom once it has been well.
    private static readonly TimeSpan ProbeInterval = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan ProbeIntervalWhenReady = TimeSpan.FromSeconds(5);

    private const int LinesInReport = 20;

    private static readonly HttpClient Http = new(new SocketsHttpHandler { AllowAutoRedirect = false }) { Timeout = TimeSpan.FromSeconds(5) };

    private readonly Lock _lock = new();
    private TaskCompletionSource _changed = NewSignal();
    private (Task Task, CancellationTokenSource Stop) _life = (Task.CompletedTask, new CancellationTokenSource());
    private ChildProcess? _child;

    public ProcessResource Resource => resource;

    public string Name => resource.Name;

    public ResourceLog Log { get; } = new();

    public DateTimeOffset CreatedAt { get; } = DateTimeOffset.UtcNow;

    public ResourceStatus Status { get; private set; } = new(ResourceState.NotStarted);

    /// <summary>Starts it unless it runs; waits for its dependencies in the background.</summary>
    public void Start()
    {
        lock (_lock)
        {
            if (_life.Task.IsCompleted)
            {
                var stop = new CancellationTokenSource();
                Set(_ => new ResourceStatus(ResourceState.Waiting));
                _life = (Task.Run(() => LiveAsync(stop.Token), CancellationToken.None), stop);
            }
        }
    }

    /// <summary>Ends it, waiting or running.</summary>
    public async Task StopAsync()
    {
        var (life, stop) = Locked(() => _life);
        await stop.CancelAsync();
        await life;
    }

    /// <summary>For the moment when there is no time to wait for the end.</summary>
    public void KillNow() => _child?.Kill();

    public async Task WaitUntilReadyAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var (changed, isReady) = Locked(() => (_changed.Task, Status.IsReady));
            if (isReady)
            {
                return;
            }

            await changed.WaitAsync(cancellationToken);
        }
    }

    private async Task LiveAsync(CancellationToken stop)
    {
        try
        {
            foreach (var dependency in resource.WaitsFor)
            {
                await orchestrator.WaitForAsync(this, dependency, stop);
            }

            Set(_ => new ResourceStatus(ResourceState.Starting));
            var environment = await orchestrator.EnvironmentOfAsync(resource, stop);
            var (fileName, first, workingDirectory) = resource.Program();
            using var child = ChildProcess.Start(fileName, [.. first, .. resource.Arguments], workingDirectory, environment, OnLine);
            _child = child;
            orchestrator.Record.Add(Name, child.Id);
            try
            {
                await RunAsync(child, environment, stop);
            }
            finally
            {
                child.Kill();
                _child = null;
                orchestrator.Record.Remove(child.Id);
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            Set(_ => new ResourceStatus(ResourceState.Exited, Problem: "it was stopped before it was started"));
        }
        catch (Exception e)
        {
            // Whatever it is, it concerns this resource alone; the others go on.
            orchestrator.Log.Error($"{Name} failed to start: {e.Message}\n{StartAgain()}");
            Set(_ => new ResourceStatus(ResourceState.FailedToStart, Problem: e.Message));
        }
    }

    private async Task RunAsync(ChildProcess child, IReadOnlyDictionary<string, string> environment, CancellationToken stop)
    {
        Set(_ => new ResourceStatus(ResourceState.Running, ProcessId: child.Id, StartedAt: DateTimeOffset.UtcNow, Environment: environment));
        using var running = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var watch = WatchHealthAsync(running.Token);
        var stopRequested = Task.Delay(Timeout.Infinite, running.Token);

        await Task.WhenAny(child.Exited, stopRequested);
        if (stop.IsCancellationRequested)
        {
            Set(status => status with { State = ResourceState.Stopping, IsReady = false });
            await child.StopAsync(orchestrator.StopGrace);
        }

        await running.CancelAsync();
        await watch;

        var exitCode = await child.Exited;
        var wanted = stop.IsCancellationRequested;
        // Told before it can be seen: whoever sees the state finds the reason in the log.
        if (!wanted)
        {
            var lines = string.Concat(Log.Last(LinesInReport).Select(line => $"    {line}\n"));
            orchestrator.Log.Error(
                $"{Name} ended with {ChildProcess.Describe(exitCode)}. The other resources go on. Its last lines:\n{lines}{StartAgain()}");
        }

        Set(status => status with
        {
            State = ResourceState.Exited,
            IsReady = false,
            Problem = wanted ? "it was stopped" : $"it ended with {ChildProcess.Describe(exitCode)}",
            ProcessId = null,
            ExitCode = exitCode,
            StoppedAt = DateTimeOffset.UtcNow,
        });
    }

    /// <summary>Ends only with the token.</summary>
    private async Task WatchHealthAsync(CancellationToken cancellationToken)
    {
        var callbacksDone = false;
        try
        {
            while (true)
            {
                var problem = await ProbeAsync(cancellationToken);
                if (problem is null && !callbacksDone)
                {
                    foreach (var callback in resource.OnReady)
                    {
                        await callback(new ResourceReadyEvent(resource), cancellationToken);
                    }

                    callbacksDone = true;
                }

                SetHealth(problem);
                await Task.Delay(callbacksDone ? ProbeIntervalWhenReady : ProbeInterval, cancellationToken);
            }
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            // It has ended or is being stopped.
        }
        catch (Exception e)
        {
            SetHealth($"its OnResourceReady callback failed: {e.Message}");
            orchestrator.Log.Error($"{Name} runs, but its OnResourceReady callback failed: {e.Message}\n{StartAgain("restart")}");
        }
    }

    /// <returns>Null when it is healthy.</returns>
    private async Task<string?> ProbeAsync(CancellationToken cancellationToken)
    {
        if (resource.HealthCheck is not { } check)
        {
            return null;
        }

        // An IP address: with `localhost` a refused connection is tried a second time over IPv6.
        var url = $"http://127.0.0.1:{check.Endpoint.Port}{check.Path}";
        try
        {
            using var response = await Http.GetAsync(url, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
            return (int)response.StatusCode == check.StatusCode ? null : $"GET {url} answers {(int)response.StatusCode}, not {check.StatusCode}";
        }
        catch (Exception e) when (e is HttpRequestException || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            return $"GET {url}: {e.Message}";
        }
    }

    private string StartAgain(string command = "start") => $"To {command} it: curl -X POST {orchestrator.ControlUrl}/resources/{Name}/{command}";

    private void OnLine(string text, bool isError)
    {
        Log.Add(text, isError);
        orchestrator.Log.Write(Name, text);
    }

    private T Locked<T>(Func<T> read)
    {
        lock (_lock)
        {
            return read();
        }
    }

    /// <param name="problem">Null when it is ready.</param>
    private void SetHealth(string? problem) => Set(status => status.State == ResourceState.Running
        ? status with { IsReady = problem is null, Problem = problem }
        : status);

    private void Set(Func<ResourceStatus, ResourceStatus> change)
    {
        TaskCompletionSource changed;
        lock (_lock)
        {
            var status = change(Status);
            if (status == Status)
            {
                return;
            }

            Status = status;
            (changed, _changed) = (_changed, NewSignal());
        }

        changed.SetResult();
        orchestrator.OnChanged();
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
