using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Functions;

/// <summary>What the emulator has to know of a function; its code runs in processes of its own.</summary>
/// <param name="Name">Its name, also the first segment of its Runtime API's path.</param>
/// <param name="Arn">Told to the function as the invoked ARN.</param>
/// <param name="Timeout">The time from the delivery of an event to its deadline.</param>
/// <param name="ReservedConcurrency">Invocations at once above which callers are throttled; null: no limit.</param>
public sealed record FunctionDefinition(string Name, string Arn, TimeSpan Timeout, int? ReservedConcurrency);

/// <summary>
/// A function and the environments that serve it. Every caller of the Runtime API's <c>next</c> is an environment
/// for one invocation at a time; invocations wait until one is free, as they wait for a cold start in Lambda.
/// </summary>
public sealed partial class LambdaFunction(FunctionDefinition definition, TimeProvider time, ILogger<LambdaFunction> logger)
{
    private readonly Lock _lock = new();

    /// <summary>Invocations that wait for an environment. Each has a caller that waits for it: who gives up takes it out again.</summary>
    private readonly LinkedList<Invocation> _waiting = new();
    private readonly ConcurrentDictionary<Guid, Delivery> _delivered = new();
    private int _inFlight;
    private int _idleEnvironments;

    /// <summary>What an environment reported that could not start, until an invocation is told.</summary>
    private InvocationOutcome.Failed? _initError;

    /// <summary>Completed, and another put in its place, whenever one of those above changes: whoever waits for that looks again.</summary>
    private TaskCompletionSource _changed = NewSignal();

    public FunctionDefinition Definition => definition;

    /// <summary>What is known of its processes' connections.</summary>
    public FunctionClient Client { get; } = new(time);

    /// <summary>Environments that wait for an event right now.</summary>
    public int IdleEnvironments
    {
        get
        {
            lock (_lock)
            {
                return _idleEnvironments;
            }
        }
    }

    /// <summary>
    /// Waits until an invocation would find an environment, or an initialization error that it is to be served: for a caller
    /// that should not even fetch its event before. Others may be quicker.
    /// </summary>
    public async Task WhenFreeAsync(CancellationToken cancellationToken)
    {
        using var givesUp = LookAgainIf(cancellationToken);
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Task changed;
            lock (_lock)
            {
                if (_idleEnvironments > _waiting.Count || _initError is not null)
                {
                    return;
                }

                changed = _changed.Task;
            }

            await changed;
        }
    }

    /// <summary>Invokes the function and waits for the outcome.</summary>
    /// <param name="payload">The event.</param>
    /// <param name="cancellationToken">Ends the waiting.</param>
    /// <param name="startWithin">
    /// How long to wait for an environment, after which the outcome is <see cref="InvocationOutcome.Throttled"/>; null: as
    /// long as it takes.
    /// </param>
    public async Task<InvocationOutcome> InvokeAsync(EventPayload payload, CancellationToken cancellationToken, TimeSpan? startWithin = null)
    {
        try
        {
            if (Interlocked.Increment(ref _inFlight) > definition.ReservedConcurrency)
            {
                return new InvocationOutcome.Throttled();
            }

            var invocation = new Invocation(payload, Activity.Current?.Context ?? default);
            LinkedListNode<Invocation> entry;
            lock (_lock)
            {
                if (_initError is { } initError)
                {
                    _initError = null;
                    return initError;
                }

                entry = _waiting.AddLast(invocation);
                Changed();
            }

            using var tooLate = startWithin is { } within
                ? time.CreateTimer(_ => Expire(entry), null, within > TimeSpan.Zero ? within : TimeSpan.Zero, Timeout.InfiniteTimeSpan)
                : null;
            using (cancellationToken.UnsafeRegister(_ => Abandon(entry), null))
            {
                return await invocation.Outcome with { RequestId = invocation.RequestId };
            }
        }
        finally
        {
            Interlocked.Decrement(ref _inFlight);
        }
    }

    /// <summary>Waits for the next event for an environment. Its deadline starts now.</summary>
    public async Task<Delivery> NextAsync(RuntimeConnection connection, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            _idleEnvironments++;
            Changed();
        }

        using var leaves = LookAgainIf(cancellationToken);
        while (true)
        {
            Invocation? invocation;
            Task changed;
            lock (_lock)
            {
                if (cancellationToken.IsCancellationRequested)
                {
                    // The environment left. Nothing of an event was sent, so whatever waits goes on waiting.
                    _idleEnvironments--;
                    throw new OperationCanceledException(cancellationToken);
                }

                invocation = _waiting.First?.Value;
                if (invocation is not null)
                {
                    _waiting.RemoveFirst();
                    _idleEnvironments--;
                    // An environment that could start clears what an earlier one reported.
                    _initError = null;
                }

                changed = _changed.Task;
            }

            if (invocation is not null)
            {
                return Deliver(invocation, connection);
            }

            await changed;
        }
    }

    /// <summary>Takes an environment's answer. False: there is no such invocation, or it is over.</summary>
    public bool TryComplete(Guid requestId, InvocationOutcome outcome)
    {
        if (!_delivered.TryRemove(requestId, out var delivery))
        {
            return false;
        }

        delivery.Dispose();
        if (outcome is InvocationOutcome.Failed failed)
        {
            LogFailed(requestId, definition.Name, failed.ErrorType, failed.ErrorMessage);
        }

        // Its caller may have gone meanwhile; the environment did its part all the same.
        delivery.Invocation.TryComplete(outcome);
        return true;
    }

    /// <summary>An environment could not start: this is served to the first invocation that waits or comes (runtime-api.yaml).</summary>
    public void ReportInitError(InvocationOutcome.Failed error)
    {
        LogInitError(definition.Name, error.ErrorType, error.ErrorMessage);
        Invocation? told;
        lock (_lock)
        {
            told = _waiting.First?.Value;
            if (told is null)
            {
                _initError = error;
            }
            else
            {
                _waiting.RemoveFirst();
            }

            Changed();
        }

        told?.TryComplete(error);
    }

    /// <summary>No environment was free in time: the function is not invoked.</summary>
    private void Expire(LinkedListNode<Invocation> entry)
    {
        if (TakeBack(entry))
        {
            entry.Value.TryComplete(new InvocationOutcome.Throttled());
        }
    }

    /// <summary>The caller does not wait any more. An environment that has the event already works on it all the same.</summary>
    private void Abandon(LinkedListNode<Invocation> entry)
    {
        TakeBack(entry);
        entry.Value.Abandon();
    }

    /// <summary>False: an environment has taken it.</summary>
    private bool TakeBack(LinkedListNode<Invocation> entry)
    {
        lock (_lock)
        {
            if (entry.List is null)
            {
                return false;
            }

            _waiting.Remove(entry);
            Changed();
            return true;
        }
    }

    /// <summary>To be called under the lock.</summary>
    private void Changed()
    {
        _changed.SetResult();
        _changed = NewSignal();
    }

    /// <summary>Wakes who waits for a change, so that it sees that it is cancelled: everything goes on where the caller runs.</summary>
    private CancellationTokenRegistration LookAgainIf(CancellationToken cancelled) => cancelled.UnsafeRegister(_ =>
    {
        lock (_lock)
        {
            Changed();
        }
    }, null);

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private Delivery Deliver(Invocation invocation, RuntimeConnection connection)
    {
        var delivery = new Delivery(invocation, connection, time.GetUtcNow() + definition.Timeout);
        _delivered[invocation.RequestId] = delivery;
        delivery.OnDeadline(time, definition.Timeout, () => TryComplete(invocation.RequestId, new InvocationOutcome.Failed(
            "Sandbox.Timedout",
            string.Create(CultureInfo.InvariantCulture, $"RequestId: {invocation.RequestId} Error: Task timed out after {definition.Timeout.TotalSeconds:F2} seconds"))));
        delivery.OnConnectionLost(mayBeTheClient =>
        {
            if (mayBeTheClient)
            {
                LogConnectionClosed(invocation.RequestId, definition.Name, delivery.Deadline);
                return;
            }

            TryComplete(invocation.RequestId, new InvocationOutcome.Failed(
                "Runtime.ExitError", $"RequestId: {invocation.RequestId} Error: Runtime exited without providing a reason"));
        });
        return delivery;
    }

    [LoggerMessage(LogLevel.Warning, "Invocation {RequestId} of {Function} failed: {ErrorType}: {ErrorMessage}")]
    private partial void LogFailed(Guid requestId, string function, string errorType, string errorMessage);

    [LoggerMessage(LogLevel.Error, "{Function} could not start: {ErrorType}: {ErrorMessage}")]
    private partial void LogInitError(string function, string errorType, string errorMessage);

    [LoggerMessage(LogLevel.Warning, "Invocation {RequestId} of {Function}: its connection was closed, which may be an idle client's doing; waiting for its answer until {Deadline:O}")]
    private partial void LogConnectionClosed(Guid requestId, string function, DateTimeOffset deadline);
}

/// <summary>An invocation that an environment has got.</summary>
public sealed class Delivery(Invocation invocation, RuntimeConnection connection, DateTimeOffset deadline) : IDisposable
{
    private ITimer? _timer;
    private IDisposable? _connectionLost;

    public Invocation Invocation => invocation;

    public DateTimeOffset Deadline => deadline;

    internal void OnDeadline(TimeProvider time, TimeSpan timeout, Action timedOut) =>
        _timer = time.CreateTimer(_ => timedOut(), null, timeout, Timeout.InfiniteTimeSpan);

    internal void OnConnectionLost(Action<bool> lost) => _connectionLost = connection.OnClosed(lost);

    public void Dispose()
    {
        _timer?.Dispose();
        _connectionLost?.Dispose();
    }
}
