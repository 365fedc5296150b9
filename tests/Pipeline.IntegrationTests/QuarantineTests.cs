using System.Text.Json;
using Amazon.DynamoDBv2.Model;
using Pipeline.Core;

namespace Pipeline.IntegrationTests;

/// <summary>A change that cannot be decoded or loaded, from the table to the operator's command line.</summary>
[Collection(nameof(WholePipeline))]
public class QuarantineTests(PipelineFixture pipeline)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Behind_a_record_that_cannot_be_decoded_its_order_waits_until_it_is_discarded_and_every_other_order_goes_on()
    {
        var poison = $"poison-{Guid.NewGuid():N}";
        await PutAsync(poison, version: 1, new() { S = "a lot" });
        await PutAsync(poison, version: 2, new() { N = "2.50" });
        await DeleteAsync(poison);
        await PutAsync(poison, version: 1, new() { N = "3.50" });
        var healthy = await pipeline.CreateOrderAsync(Cancelled);
        await UntilAsync(
            async () => await pipeline.ScalarAsync<long>("select count(*) from orders where order_id = $1", Cancelled, healthy) == 1
                && await pipeline.ScalarAsync<long>("select count(*) from waiting_changes where order_id = $1", Cancelled, poison) == 3,
            "the other order is loaded and the later changes of the poisoned one wait");
        Assert.Equal(0, await pipeline.ScalarAsync<long>("select count(*) from order_changes where order_id = $1", Cancelled, poison));

        var parked = (await ListAsync(poison)).Single();
        Assert.Equal("attribute 'total_amount' is not a number", parked.GetProperty("reason").GetString());
        Assert.Equal((1, 3), (parked.GetProperty("attempt").GetInt32(), parked.GetProperty("waiting").GetInt32()));
        var key = parked.GetProperty("key").GetString()!;
        Assert.Matches(
            $@"(?m)^order {poison}, change \d+: attempt 1, .* old, 3 waiting behind it\n    attribute 'total_amount' is not a number\n    {key}$",
            await pipeline.OpsAsync(["quarantine", "list"], Cancelled));
        Assert.Contains("a lot", await pipeline.OpsAsync(["quarantine", "show", key], Cancelled), StringComparison.Ordinal);
        Assert.Contains("3 waiting", await pipeline.OpsAsync(["status", "--emulator", pipeline.EmulatorUrl], Cancelled), StringComparison.Ordinal);

        // The code is as it was, so a redrive changes nothing but the count of tries.
        await pipeline.OpsAsync(["quarantine", "redrive", key], Cancelled, exitCode: 1);
        parked = (await ListAsync(poison)).Single();
        Assert.Equal((2, 3), (parked.GetProperty("attempt").GetInt32(), parked.GetProperty("waiting").GetInt32()));

        await pipeline.OpsAsync(["quarantine", "discard", key, "--reason", "a test wrote it by hand"], Cancelled);
        await UntilAsync(
            async () => await pipeline.ScalarAsync<long>("select count(*) from order_changes where order_id = $1", Cancelled, poison) == 3,
            "what waited is loaded");
        Assert.Equal(3.50m, await pipeline.ScalarAsync<decimal>("select total_amount from orders where order_id = $1 and not is_deleted", Cancelled, poison));
        Assert.Empty(await ListAsync(poison));
        Assert.Contains("a lot", Assert.Single(
            await pipeline.ReadObjectsAsync(Names.DiscardedPrefix, Cancelled), entry => entry.Value.Contains(poison, StringComparison.Ordinal)).Value, StringComparison.Ordinal);
        Assert.Contains("discarded before", await pipeline.OpsAsync(["quarantine", "discard", key, "--reason", "again"], Cancelled), StringComparison.Ordinal);
        await pipeline.OpsAsync(["quarantine", "show", key], Cancelled, exitCode: 1);
    }

    [Fact]
    public async Task A_value_that_the_warehouse_refuses_is_parked_and_comes_back_when_the_cause_is_mended()
    {
        var changes = await pipeline.ChangesAsync(Cancelled);
        var orderId = $"refused-{Guid.NewGuid():N}";
        await ExecuteAsync("alter table order_changes add constraint test_poison check (merchant_id <> 'poison') not valid");
        try
        {
            await PutAsync(orderId, version: 1, new() { N = "1.50" });
            await PutAsync(orderId, version: 2, new() { N = "2.50" }, merchant: "poison");
            await PutAsync(orderId, version: 3, new() { N = "3.50" });
            await UntilAsync(
                async () => await pipeline.ScalarAsync<long>("select count(*) from waiting_changes where order_id = $1", Cancelled, orderId) == 1,
                "the change behind the refused one waits");
            Assert.Equal(1, await pipeline.ScalarAsync<long>("select version from orders where order_id = $1", Cancelled, orderId));
            Assert.StartsWith("23514", (await ListAsync(orderId)).Single().GetProperty("reason").GetString(), StringComparison.Ordinal);
        }
        finally
        {
            await ExecuteAsync("alter table order_changes drop constraint test_poison");
        }

        await pipeline.OpsAsync(["quarantine", "redrive", "--all"], Cancelled);
        await pipeline.AwaitEqualAsync(changes + 3, Cancelled);
        await UntilAsync(async () => (await ListAsync(orderId)).Count == 0, "the quarantine is empty again");
        Assert.Equal(0, await pipeline.ScalarAsync<long>("select count(*) from waiting_changes", Cancelled));
    }

    [Theory]
    [InlineData("quarantine redrive", "--all")]
    [InlineData("quarantine redrive orders/quarantine/a.json --all", "--all")]
    [InlineData("quarantine redrive orders/changes/a.parquet", "begins with orders/quarantine/")]
    [InlineData("quarantine discard orders/quarantine/a.json", "--reason")]
    [InlineData("quarantine discard orders/quarantine/a.json --reason _", "--reason must say why")]
    public async Task A_command_line_that_says_too_little_is_refused_with_what_is_missing(string arguments, string missing)
    {
        var output = await pipeline.OpsAsync([.. arguments.Split(' ').Select(a => a == "_" ? " " : a)], Cancelled, exitCode: 2, withErrors: true);

        Assert.Contains(missing, output, StringComparison.Ordinal);
    }

    private async Task<List<JsonElement>> ListAsync(string orderId)
    {
        using var listed = JsonDocument.Parse(await pipeline.OpsAsync(["quarantine", "list", "--json"], Cancelled));
        return [.. listed.RootElement.Clone().EnumerateArray().Where(one => one.TryGetProperty("order_id", out var id) && id.GetString() == orderId)];
    }

    private async Task PutAsync(string orderId, int version, AttributeValue amount, string merchant = "m-1") => await pipeline.DynamoDb.PutItemAsync(
        Names.Table,
        new Dictionary<string, AttributeValue>
        {
            ["order_id"] = new() { S = orderId },
            ["version"] = new() { N = $"{version}" },
            ["merchant_id"] = new() { S = merchant },
            ["total_amount"] = amount,
        },
        Cancelled);

    private async Task DeleteAsync(string orderId) =>
        await pipeline.DynamoDb.DeleteItemAsync(Names.Table, new Dictionary<string, AttributeValue> { ["order_id"] = new() { S = orderId } }, Cancelled);

    private async Task ExecuteAsync(string sql)
    {
        await using var command = pipeline.Warehouse.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(Cancelled);
    }

    private static Task UntilAsync(Func<Task<bool>> condition, string what) =>
        Eventually.TrueAsync(condition, PipelineFixture.FreshnessDeadline, () => what, Cancelled);
}
