using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace Pipeline.Loader;

/// <summary>How the loader is, for /health and the metrics. Written by the worker, read by anyone.</summary>
public sealed class LoaderStatus : IHealthCheck
{
    private const int KeysShown = 10;

    private volatile State _state = new();

    public int PendingFiles => _state.Pending;
    public int FailingFiles => _state.Failing.Count;
    public long WaitingChanges => _state.Waiting;

    public void Started() => _state = _state with { IsReady = true, Trouble = null };

    /// <summary>What keeps the loader from working, until the next turn that succeeds.</summary>
    public void Troubled(string reason) => _state = _state with { Trouble = reason };

    public void Well() => _state = _state with { Trouble = null };

    public void Loaded(DateTimeOffset at) => _state = _state with { LastLoad = at };

    public void Pending(int files, IReadOnlyList<string> failing) => _state = _state with { Pending = files, Failing = failing };

    /// <summary>Changes that wait behind a parked one of their order.</summary>
    public void Waiting(long changes) => _state = _state with { Waiting = changes };

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        var state = _state;
        var data = new Dictionary<string, object>
        {
            ["pending_files"] = state.Pending,
            ["failing_files"] = state.Failing.Count,
            ["waiting_changes"] = state.Waiting,
        };
        if (state.LastLoad is { } lastLoad)
        {
            data["last_load"] = lastLoad;
        }

        return Task.FromResult(state switch
        {
            { IsReady: false } => HealthCheckResult.Unhealthy(state.Trouble ?? "The loader is starting.", data: data),
            { Trouble: { } trouble } => HealthCheckResult.Degraded(trouble, data: data),
            { Failing.Count: > 0 } => HealthCheckResult.Degraded(
                $"{state.Failing.Count} files cannot be loaded (see load_failures): {string.Join(", ", state.Failing.Take(KeysShown))}", data: data),
            _ => HealthCheckResult.Healthy(data: data),
        });
    }

    private sealed record State
    {
        public bool IsReady { get; init; }
        public string? Trouble { get; init; }
        public DateTimeOffset? LastLoad { get; init; }
        public int Pending { get; init; }
        public long Waiting { get; init; }
        public IReadOnlyList<string> Failing { get; init; } = [];
    }
}
