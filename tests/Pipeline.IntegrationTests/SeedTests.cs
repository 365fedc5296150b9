using Pipeline.Core;

namespace Pipeline.IntegrationTests;

/// <summary>Many orders at once, real ones where they are at hand, and the files that they leave behind.</summary>
[Collection(nameof(WholePipeline))]
public class SeedTests(PipelineFixture pipeline)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Generated_orders_arrive_with_every_change()
    {
        var before = await pipeline.ChangesAsync(Cancelled);

        var seeded = await pipeline.SeedAsync(["--generate", "300", "--seed", "1"], Cancelled);

        await pipeline.AwaitEqualAsync(before + seeded.AcceptedWrites, Cancelled);
    }

    /// <summary>OLIST_LIMIT=0 sends all of them; that takes minutes.</summary>
    [Fact]
    public async Task Real_orders_arrive_with_every_change()
    {
        var limit = Environment.GetEnvironmentVariable("OLIST_LIMIT") ?? "300";
        var olist = PipelineFixture.OlistDirectory;
        Assert.SkipWhen(olist is null, "The Olist data set is not at hand: set OLIST_DIR to its folder, or put it at ../shared/data/olist.");
        var before = await pipeline.ChangesAsync(Cancelled);

        var seeded = await pipeline.SeedAsync(["--olist", olist, .. limit == "0" ? Array.Empty<string>() : ["--limit", limit]], Cancelled);

        await pipeline.AwaitEqualAsync(before + seeded.AcceptedWrites, Cancelled);
    }

    [Fact]
    public async Task DuckDB_reads_from_the_change_files_as_they_lie_the_same_changes()
    {
        var before = await pipeline.ChangesAsync(Cancelled);
        var seeded = await pipeline.SeedAsync(["--generate", "50", "--seed", "2"], Cancelled);
        await pipeline.AwaitEqualAsync(before + seeded.AcceptedWrites, Cancelled);

        var folder = await pipeline.DownloadAsync(Names.ChangesPrefix, Cancelled);

        Assert.Equal(
            await pipeline.ChangesInWarehouseAsync(Cancelled),
            ChangeFiles.ReadWithDuckDb(folder));
    }
}
