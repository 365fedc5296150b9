using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Threading.Channels;
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
    /// <summary>Unbounded, but every entry has a caller that waits for it: one per shard lane or HTTP request.</summary>
    private readonly Channel<Invocation> _waiting = Channel.CreateUnbounded<Invocation>();
    private readonly ConcurrentDictionary<Guid, Delivery> _delivered = new();
    private int _inFlight;
    private InvocationOutcome.Failed? _initError;
    private int _idleEnvironments;

    /// <summary>Completed by the next environment that asks for an event; null when nobody waits for that.</summary>
    private TaskCompletionSource? _environmentCame;

    public FunctionDefinition Definition => definition;

    /// <summary>What is known of its processes' connections.</summary>
    public FunctionClient Client { get; } = new(time);

    /// <summary>Environments that wait for an event right now.</summary>
    public int IdleEnvironments => Volatile.Read(ref _idleEnvironments);

    /// <summary>
    /// Waits until an invocation would find an environment, or an initialization error that it is to be served: for a caller
    /// that should not even fetch its event before. Others may be quicker.
    /// </summary>
    public async Task WhenFreeAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            // Asked for before looking, so that an environment that comes in between is not missed.
            var fresh = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            var came = Interlocked.CompareExchange(ref _environmentCame, fresh, null) ?? fresh;
            if (IdleEnvironments > _waiting.Reader.Count || Volatile.Read(ref _initError) is not null)
            {
                return;
            }

            await came.Task.WaitAsync(cancellationToken);
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

            if (Interlocked.Exchange(ref _initError, null) is { } initError)
            {
                return initError;
            }

            var invocation = new Invocation(payload, Activity.Current?.Context ?? default);
            using var tooLate = startWithin is { } within
                ? time.CreateTimer(_ => invocation.TryExpire(), null, within > TimeSpan.Zero ? within : TimeSpan.Zero, Timeout.InfiniteTimeSpan)
                : null;
            _waiting.Writer.TryWrite(invocation);
            using (cancellationToken.UnsafeRegister(static waiting => ((Invocation)waiting!).Abandon(), invocation))
            {
                return await invocation.Outcome;
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
        Interlocked.Increment(ref _idleEnvironments);
        SignalEnvironment();
        try
        {
            while (true)
            {
                var invocation = await _waiting.Reader.ReadAsync(cancellationToken);
                if (invocation.Outcome.IsCompleted)
                {
                    continue;
                }

                if (cancellationToken.IsCancellationRequested)
                {
                    // The environment left just now. Nothing of the event was sent, so this was no attempt.
                    _waiting.Writer.TryWrite(invocation);
                    throw new OperationCanceledException(cancellationToken);
                }

                if (!invocation.TryStart())
                {
                    continue;
                }

                // An environment that could start clears what an earlier one reported.
                _initError = null;
                return Deliver(invocation, connection);
            }
        }
        finally
        {
            Interlocked.Decrement(ref _idleEnvironments);
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
        while (_waiting.Reader.TryRead(out var invocation))
        {
            if (invocation.TryComplete(error))
            {
                return;
            }
        }

        _initError = error;
        SignalEnvironment();
    }

    private void SignalEnvironment() => Interlocked.Exchange(ref _environmentCame, null)?.TrySetResult();

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
