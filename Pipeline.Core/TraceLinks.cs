using System.Diagnostics;

namespace Pipeline.Core;

/// <summary>From the span of a batch to the requests that wrote its changes: the item carries each request's traceparent.</summary>
public static class TraceLinks
{
    /// <summary>A link for each of 10,000 changes would be larger than the batch; OpenTelemetry keeps 128.</summary>
    private const int LinksMax = 128;

    public static IEnumerable<ActivityLink> Of(IEnumerable<Change> changes) => changes
        .Select(change => change.TraceParent)
        .OfType<string>()
        .Distinct()
        .Select(traceParent => ActivityContext.TryParse(traceParent, null, out var request) ? request : default)
        .Where(request => request != default)
        .Take(LinksMax)
        .Select(request => new ActivityLink(request));
}
