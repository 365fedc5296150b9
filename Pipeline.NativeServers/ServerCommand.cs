namespace Pipeline.NativeServers;

/// <summary>How to start a server's process.</summary>
public sealed record ServerCommand(string FileName, IReadOnlyList<string> Arguments, string WorkingDirectory);

/// <summary>A server that can be started as a plain process of this machine.</summary>
/// <param name="Name">The name for messages.</param>
/// <param name="Port">The loopback port that it listens on.</param>
/// <param name="Command">How to start it.</param>
/// <param name="ProbeAsync">Asks the server for a sign of life; throws while there is none.</param>
/// <param name="StopSignal">The signal that makes it stop in order without waiting for its clients.</param>
public sealed record ServerDefinition(
    string Name,
    int Port,
    ServerCommand Command,
    Func<CancellationToken, Task> ProbeAsync,
    StopSignal StopSignal)
{
    /// <summary>Asks until the server answers.</summary>
    /// <exception cref="TimeoutException">It did not answer in time; the message has what the last try met.</exception>
    public async Task WaitUntilReadyAsync(TimeSpan deadline, CancellationToken cancellationToken)
    {
        using var deadlineSource = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadlineSource.CancelAfter(deadline);
        Exception? last = null;
        try
        {
            while (true)
            {
                deadlineSource.Token.ThrowIfCancellationRequested();
                try
                {
                    await ProbeAsync(deadlineSource.Token);
                    return;
                }
                catch (Exception e) when (!deadlineSource.IsCancellationRequested)
                {
                    last = e;
                }

                // Short, for a server that needs 20 ms; a probe of a closed loopback port costs next to nothing.
                await Task.Delay(TimeSpan.FromMilliseconds(50), deadlineSource.Token);
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new TimeoutException($"{Name} on port {Port} did not answer within {deadline.TotalSeconds:0} s: {last?.Message}", last);
        }
    }
}

/// <summary>The numbers that POSIX gives to the signals.</summary>
public enum StopSignal
{
    Interrupt = 2,
    Terminate = 15,
}
