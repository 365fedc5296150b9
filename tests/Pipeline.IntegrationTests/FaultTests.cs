namespace Pipeline.IntegrationTests;

/// <summary>What can go wrong with real processes, and what must hold all the same.</summary>
[Collection(nameof(WholePipeline))]
public class FaultTests(PipelineFixture pipeline)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_stream_that_is_delivered_again_from_its_beginning_changes_nothing()
    {
        var changes = await pipeline.ChangesAsync(Cancelled);
        for (var order = 0; order < 20; order++)
        {
            var orderId = await pipeline.CreateOrderAsync(Cancelled);
            await pipeline.ChangeStatusAsync(orderId, "approved", version: 1, Cancelled);
        }

        await pipeline.AwaitEqualAsync(changes + 40, Cancelled);
        var before = await pipeline.DigestOfWarehouseAsync(Cancelled);
        var files = await pipeline.ScalarAsync<long>("select count(*) from load_ledger", Cancelled);

        // Without its checkpoints the emulator starts at the trim horizon: every record comes again, in other batches.
        await pipeline.Processes["lambda-emulator"].KillAsync();
        pipeline.ForgetCheckpoints();
        await pipeline.Processes["lambda-emulator"].StartAsync(Cancelled);

        var marker = await pipeline.CreateOrderAsync(Cancelled);
        await pipeline.AwaitEqualAsync(changes + 41, Cancelled);
        Assert.True(await pipeline.ScalarAsync<long>("select count(*) from load_ledger", Cancelled) > files, "The second delivery made no file.");
        Assert.Equal(before, await pipeline.DigestOfWarehouseAsync(Cancelled, except: marker));
    }
}
