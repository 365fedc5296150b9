using Pipeline.Ops.Quarantine;

namespace Pipeline.Ops.Tests;

public class QuarantineCommandTests(OpsServers servers)
{
    [Theory]
    [InlineData("nonsense", 2)]
    [InlineData("Host=127.0.0.1;Port=1;Database=x;Username=x;Timeout=2", 2)]
    [InlineData(null, 0)]
    public async Task Without_a_warehouse_the_list_is_shown_and_the_exit_code_says_so(string? warehouse, int exitCode)
    {
        await using var world = await servers.CreateWorldAsync();
        await world.DeliverAsync(await world.PutAsync(new() { ["order_id"] = new() { S = "o-1" }, ["version"] = new() { S = "one" } }));

        var parsed = QuarantineCommand.Create().Parse(["list", "--s3", servers.S3Url, "--bucket", world.Bucket, "--warehouse", warehouse ?? world.Warehouse]);

        // A defect would be shown with its stack, and end with 1.
        Assert.Equal(exitCode, await parsed.InvokeAsync(cancellationToken: TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task The_changes_that_wait_are_counted_for_each_parked_one()
    {
        await using var world = await servers.CreateWorldAsync();
        await world.FillAsync("o-1", "o-2");
        var poison = World.Order("o-1", 2);
        poison["total_amount"] = new() { S = "a lot" };
        var worse = World.Order("o-1", 4);
        worse["total_amount"] = new() { S = "even more" };
        await world.DeliverAsync(
            await world.PutAsync(poison), await world.PutAsync(World.Order("o-1", 3)), await world.PutAsync(worse), await world.PutAsync(World.Order("o-1", 5)),
            await world.PutAsync(World.Order("o-2", 2)));
        await world.LoadAsync();
        var parked = await new QuarantineDesk(world.Objects, TimeProvider.System).ListAsync(null, World.Cancelled);

        var counted = await QuarantineCommand.CountWaitingAsync([.. parked, new ParkedObject("rubbish", "no order", 1)], world.Warehouse, World.Cancelled);

        Assert.Equal([2, 1, 0], counted.Select(one => one.Waiting));
    }
}
