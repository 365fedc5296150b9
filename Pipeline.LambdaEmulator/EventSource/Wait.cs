namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>How the loops of a mapping wait.</summary>
internal static class Wait
{
    /// <summary>
    /// Until one of the tasks has ended, the time is over or the wait is cancelled, which the caller finds out itself.
    /// Everything goes on where the caller runs: a cancelled Task.Delay would go on in the thread pool.
    /// </summary>
    /// <param name="tasks">Whatever there is to wait for.</param>
    /// <param name="timeMax">Null: without end.</param>
    /// <param name="time">Measures it.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public static async Task ForAnyAsync(IEnumerable<Task> tasks, TimeSpan? timeMax, TimeProvider time, CancellationToken cancellationToken)
    {
        var over = new TaskCompletionSource();

        // A timer cuts to whole milliseconds, and the rest would be waited for in a circle.
        using var timer = timeMax is { } most
            ? time.CreateTimer(_ => over.TrySetResult(), null, TimeSpan.FromMilliseconds(Math.Ceiling(most.TotalMilliseconds)), Timeout.InfiniteTimeSpan)
            : null;
        using var cancelled = cancellationToken.UnsafeRegister(_ => over.TrySetResult(), null);
        await Task.WhenAny([.. tasks, over.Task]);
    }
}
