using System.Buffers;
using System.Diagnostics;
using System.IO.Pipelines;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Functions;

/// <summary>The JSON of an event, in the pieces in which it already lies in memory.</summary>
public sealed class EventPayload
{
    private static readonly byte[] Head = """{"Records":["""u8.ToArray();
    private static readonly byte[] Comma = ","u8.ToArray();
    private static readonly byte[] Tail = "]}"u8.ToArray();

    /// <summary>What <c>{"Records":[]}</c> takes around the records; a comma is counted for every record.</summary>
    public const int EnvelopeBytes = 14;

    /// <summary>A reader that is slower than this much ahead of it is waited for.</summary>
    private const int UnflushedBytesMax = 64 * 1024;

    private readonly IReadOnlyList<ReadOnlyMemory<byte>> _pieces;

    private EventPayload(IReadOnlyList<ReadOnlyMemory<byte>> pieces)
    {
        _pieces = pieces;
        Length = pieces.Sum(piece => (long)piece.Length);
    }

    public long Length { get; }

    public static EventPayload Of(ReadOnlyMemory<byte> json) => new([json]);

    public static EventPayload Of(Batch batch) => Of(batch.Records.Select(record => record.Json));

    /// <summary>The elements of the event's <c>Records</c>.</summary>
    public static EventPayload Of(IEnumerable<ReadOnlyMemory<byte>> records)
    {
        var pieces = new List<ReadOnlyMemory<byte>>();
        foreach (var record in records)
        {
            pieces.Add(pieces.Count == 0 ? Head : Comma);
            pieces.Add(record);
        }

        pieces.Add(Tail);
        return new EventPayload(pieces);
    }

    public async Task WriteToAsync(PipeWriter writer, CancellationToken cancellationToken)
    {
        var unflushed = 0;
        foreach (var piece in _pieces)
        {
            writer.Write(piece.Span);
            unflushed += piece.Length;
            if (unflushed >= UnflushedBytesMax)
            {
                await writer.FlushAsync(cancellationToken);
                unflushed = 0;
            }
        }

        await writer.FlushAsync(cancellationToken);
    }
}

/// <summary>One invocation of a function, from the call to its outcome.</summary>
public sealed class Invocation(EventPayload payload, ActivityContext trace)
{
    private readonly TaskCompletionSource<InvocationOutcome> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Guid RequestId { get; } = Guid.NewGuid();

    public EventPayload Payload => payload;

    public Task<InvocationOutcome> Outcome => _outcome.Task;

    /// <summary>
    /// The X-Ray header (X-Ray developer guide, "Tracing header"). Its root carries the trace id of the batch's span, so
    /// that the two can be joined; without one it is made up, as Lambda does.
    /// </summary>
    public string TraceHeader { get; } = XRayHeader(trace);

    /// <summary>False when it has an outcome already: the first one stands.</summary>
    public bool TryComplete(InvocationOutcome outcome) => _outcome.TrySetResult(outcome);

    /// <summary>Its caller does not wait any more.</summary>
    public void Abandon() => _outcome.TrySetCanceled();

    private static string XRayHeader(ActivityContext trace)
    {
        var (traceId, spanId) = trace == default
            ? (ActivityTraceId.CreateRandom(), ActivitySpanId.CreateRandom())
            : (trace.TraceId, trace.SpanId);
        var root = traceId.ToHexString();
        var sampled = trace.TraceFlags.HasFlag(ActivityTraceFlags.Recorded) ? 1 : 0;
        return $"Root=1-{root[..8]}-{root[8..]};Parent={spanId.ToHexString()};Sampled={sampled}";
    }
}
