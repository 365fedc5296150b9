using System.Net;
using Amazon.Runtime;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>
/// How long a failed call waits before it is tried again. AWS documents that retries of a batch back off exponentially,
/// not the numbers. No jitter: one shard's retries meet nobody else's, and tests are repeatable.
/// </summary>
public static class Backoff
{
    private static readonly TimeSpan First = TimeSpan.FromMilliseconds(200);

    /// <summary>Quick enough to watch on a laptop, slow enough that a function that fails at once does not burn a core.</summary>
    private static readonly TimeSpan BatchMax = TimeSpan.FromSeconds(10);

    /// <summary>A server on the same machine is back seconds after it was restarted.</summary>
    private static readonly TimeSpan ServerMax = TimeSpan.FromSeconds(1);

    /// <summary>Before a batch is sent again.</summary>
    /// <param name="failures">Failures in a row, from 1.</param>
    public static TimeSpan OfBatch(int failures) => Doubled(failures, BatchMax);

    /// <summary>Before a server is called again.</summary>
    /// <param name="failures">Failures in a row, from 1.</param>
    public static TimeSpan OfServer(int failures) => Doubled(failures, ServerMax);

    private static TimeSpan Doubled(int failures, TimeSpan max) =>
        TimeSpan.FromTicks(Math.Min(max.Ticks, First.Ticks << Math.Min(failures - 1, 16)));
}

/// <summary>Which failures of a call to a server are worth another try.</summary>
public static class ServerFailure
{
    /// <summary>
    /// A server that is not there, is being restarted, refuses or is slow. A timeout of the SDK is an
    /// OperationCanceledException like a cancellation, but nobody cancelled.
    /// </summary>
    public static bool MayPass(Exception e, CancellationToken cancellationToken) =>
        e is AmazonServiceException or AmazonClientException or HttpRequestException or IOException or TimeoutException
        || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested);

    /// <summary>
    /// Of those, a server that is there and refuses what it is asked. A mapping waits for that to be mended (a queue that is
    /// created, a limit that is left behind); provisioning does not, it asked for what nobody else will make.
    /// </summary>
    public static bool IsRefusal(Exception e) =>
        e is AmazonServiceException { StatusCode: >= HttpStatusCode.BadRequest and < HttpStatusCode.InternalServerError };
}
