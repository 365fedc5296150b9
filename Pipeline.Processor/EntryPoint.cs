using System.Runtime.InteropServices;
using System.Text.Json;
using Amazon.Lambda.Core;
using Amazon.Lambda.DynamoDBEvents;
using Amazon.Lambda.RuntimeSupport;
using Amazon.Lambda.Serialization.SystemTextJson;
using OpenTelemetry.Trace;

namespace Pipeline.Processor;

/// <summary>Connects the function to the Lambda Runtime API.</summary>
public static class EntryPoint
{
    /// <summary>
    /// DynamoDB nests an item up to 32 levels deep, and in an event each level is two of JSON: the serializer's own
    /// limit of 64 would make such an item fail its whole batch for ever.
    /// </summary>
    internal const int JsonDepthMax = 128;

    /// <summary>Spans leave before the response does, because Lambda freezes the process after it; no longer than this.</summary>
    private static readonly TimeSpan FlushTimeMax = TimeSpan.FromMilliseconds(500);

    /// <summary>
    /// Lambda replaces an environment that lost its Runtime API; a local emulator that is started again finds this
    /// process still asking. Ten minutes without a batch or an emulator, then it ends.
    /// </summary>
    private const int LostConnectionsMax = 600;
    private static readonly TimeSpan PauseBeforeReconnect = TimeSpan.FromSeconds(1);

    /// <summary>Names, converters and types of Lambda's events, and of what is put into quarantine.</summary>
    public static SourceGeneratorLambdaJsonSerializer<ProcessorJsonContext> Serializer { get; } = new((JsonSerializerOptions options) => options.MaxDepth = JsonDepthMax);

    /// <summary>Serves batches until cancelled.</summary>
    /// <param name="function">What is done with a batch.</param>
    /// <param name="traces">Flushed before each response; null when nothing is traced.</param>
    /// <param name="runtimeApi">For tests: the client that reaches the Runtime API.</param>
    /// <param name="runtimeApiEndpoint">For tests: in place of AWS_LAMBDA_RUNTIME_API.</param>
    /// <param name="cancellationToken">Ends the wait for the next batch.</param>
    public static async Task RunAsync(
        ProcessOrders function,
        TracerProvider? traces = null,
        HttpClient? runtimeApi = null,
        string? runtimeApiEndpoint = null,
        CancellationToken cancellationToken = default)
    {
        var lostConnections = 0;
        using var bootstrap = LambdaBootstrapBuilder
            .Create(async (batch, context) =>
            {
                lostConnections = 0;
                try
                {
                    return await InvokeAsync(function, batch, context);
                }
                finally
                {
                    traces?.ForceFlush((int)Math.Clamp(context.RemainingTime.TotalMilliseconds / 2, 0, FlushTimeMax.TotalMilliseconds));
                }
            })
            .UseHttpClient(runtimeApi)
            .ConfigureOptions(options => options.RuntimeApiEndpoint = runtimeApiEndpoint)
            .Build();
        while (!cancellationToken.IsCancellationRequested)
        {
            try
            {
                await bootstrap.RunAsync(cancellationToken);
                return;
            }
            catch (Exception e) when (e is HttpRequestException or RuntimeApiClientException && ++lostConnections <= LostConnectionsMax)
            {
                // The batch at hand, if there was one, was not acknowledged: it is delivered again.
                LambdaLogger.Log(LogLevel.Warning, e, "The Lambda Runtime API is gone or refused an answer; asking again");
                await Task.Delay(PauseBeforeReconnect, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    /// <summary>From the JSON of a batch to that of the answer.</summary>
    private static async Task<Stream> InvokeAsync(ProcessOrders function, Stream batch, ILambdaContext context)
    {
        // The bootstrap has all of it in memory, at most 6 MB, and as a rule lets it be seen.
        if (batch is not MemoryStream { } payload || !payload.TryGetBuffer(out var bytes))
        {
            using var copy = new MemoryStream();
            await batch.CopyToAsync(copy);
            bytes = new ArraySegment<byte>(copy.ToArray());
        }

        var answer = new MemoryStream();
        Serializer.Serialize(await function.HandleAsync(bytes.AsMemory(), context), answer);
        answer.Position = 0;
        return answer;
    }

    /// <summary>A batch as typed objects.</summary>
    /// <exception cref="JsonSerializerException">It is not the JSON of such an event.</exception>
    internal static DynamoDBEvent Read(ReadOnlyMemory<byte> payload)
    {
        using var json = MemoryMarshal.TryGetArray(payload, out var bytes)
            ? new MemoryStream(bytes.Array!, bytes.Offset, bytes.Count, writable: false)
            : new MemoryStream(payload.ToArray(), writable: false);
        return Serializer.Deserialize<DynamoDBEvent>(json);
    }
}
