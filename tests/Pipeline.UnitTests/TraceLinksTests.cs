using System.Diagnostics;
using Pipeline.Core;

namespace Pipeline.UnitTests;

public sealed class TraceLinksTests
{
    [Fact]
    public void A_load_links_to_the_requests_that_wrote_its_changes_and_a_removal_names_none()
    {
        using var source = new ActivitySource(nameof(TraceLinksTests));
        using var listener = new ActivityListener
        {
            ShouldListenTo = known => known == source,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
        };
        ActivitySource.AddActivityListener(listener);
        var written = Changes.Change(1) with { TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" };
        var removed = Changes.Change(2) with { Operation = Operation.Remove, TraceParent = "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203332-01" };

        using var ofBoth = source.StartBatch("load", [written, removed]);
        using var ofRemoval = source.StartBatch("load", [removed]);

        Assert.Equal([written.TraceParent[3..35]], ofBoth!.Links.Select(link => link.Context.TraceId.ToString()));
        Assert.Empty(ofRemoval!.Links);
    }
}
