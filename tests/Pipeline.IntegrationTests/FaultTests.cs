namespace Pipeline.IntegrationTests;

/// <summary>What can go wrong with real processes, and what must hold all the same.</summary>
[Collection(nameof(WholePipeline))]
public class FaultTests(PipelineFixture pipeline)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("process-orders")]
    [InlineData("lambda-emulator")]
    [InlineData("loader")]
    [InlineData("orders-api")]
    public async Task A_process_that_is_killed_in_the_middle_of_the_load_loses_and_doubles_nothing(string name)
    {
        const int Kills = 3;
        var before = await pipeline.ChangesAsync(Cancelled);
        var victim = pipeline.Processes[name];

        var seeding = pipeline.SeedAsync(["--generate", "600", "--seed", $"{name.Length}"], Cancelled);
        for (var kill = 1; kill <= Kills; kill++)
        {
            // Each kill after a tenth more of the orders is in the table, so that there is work in flight.
            await Eventually.TrueAsync(
                async () => await pipeline.ItemsAsync($"gen-{name.Length}-", Cancelled) >= 60 * kill,
                PipelineFixture.CatchUpDeadline,
                () => $"the seeding goes on after {kill - 1} kills of {name}",
                Cancelled);
            Assert.False(seeding.IsCompleted, "The seeding ended before the process was killed.");
            await victim.KillAsync();
            await victim.StartAsync(Cancelled);
        }

        await pipeline.AwaitEqualAsync((await seeding).AcceptedWrites + before, Cancelled);
    }

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
