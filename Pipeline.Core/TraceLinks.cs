using System.Diagnostics;

namespace Pipeline.Core;

/// <summary>From the span of a batch to the requests that wrote its changes: the item carries each request's traceparent.</summary>
public static class TraceLinks
{
    /// <summary>A link for each of 10,000 changes would be larger than the batch; OpenTelemetry keeps 128.</summary>
    private const int LinksMax = 128;

    /// <summary>
    /// A span linked to each request. The changes of one request go on with its trace; those of several belong to none
    /// (OpenTelemetry's semantic conventions for messaging, "Consumer spans").
    /// </summary>
    /// <remarks>
    /// Without messaging.system: a stream of DynamoDB and a bucket are none to the conventions, and the dashboard would show it in
    /// the place of the span's name.
    /// </remarks>
    public static Activity? StartBatch(this ActivitySource source, string name, IEnumerable<Change> changes) =>
        StartBatch(source, name, changes.Where(change => NamesItsRequest(change.Operation)).Select(change => change.TraceParent).OfType<string>());

    /// <summary>A removal leaves no item to write its traceparent on; the one in its image is of the write before it.</summary>
    public static bool NamesItsRequest(Operation operation) => operation != Operation.Remove;

    /// <summary>The same from the changes' traceparents.</summary>
    public static Activity? StartBatch(this ActivitySource source, string name, IEnumerable<string> traceParents)
    {
        if (!source.HasListeners())
        {
            return null;
        }

        var requests = traceParents
            .Distinct()
            .Select(traceParent => ActivityContext.TryParse(traceParent, null, isRemote: true, out var request) ? request : default)
            .Where(request => request != default)
            .Take(LinksMax)
            .ToList();
        return source.StartActivity(
            name, ActivityKind.Consumer, requests is [var only] ? only : default, links: requests.Select(request => new ActivityLink(request)));
    }
}
