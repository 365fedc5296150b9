using System.Net;
using System.Text.Json.Nodes;
using Npgsql;

namespace Pipeline.IntegrationTests;

/// <summary>The main job: what happens to an order through the API can be read with SQL shortly after.</summary>
[Collection(nameof(WholePipeline))]
public class OrderLifecycleTests(PipelineFixture pipeline)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task An_order_its_status_changes_and_its_removal_reach_the_warehouse()
    {
        var orderId = await pipeline.CreateOrderAsync(Cancelled);
        await AwaitRowAsync(orderId, version: 1, isDeleted: false, status: "created");

        await pipeline.ChangeStatusAsync(orderId, "approved", version: 1, Cancelled);
        await AwaitRowAsync(orderId, version: 2, isDeleted: false, status: "approved");

        await pipeline.RemoveOrderAsync(orderId, version: 2, Cancelled);
        await AwaitRowAsync(orderId, version: 2, isDeleted: true, status: "approved");

        var history = await ReadHistoryAsync(orderId);
        Assert.Equal(
            [(1, "created", false, false), (2, "approved", false, false), (2, "approved", true, true)],
            history.Select(row => ((int)row.Version, row.Status, row.IsDeleted, row.IsCurrent)));
        // The intervals meet: each ends where the next begins, and only the last is open.
        Assert.Equal(history.Skip(1).Select(row => (DateTime?)row.From), history.SkipLast(1).Select(row => row.To));
        Assert.Null(history[^1].To);
    }

    [Fact]
    public async Task The_API_tells_when_a_version_is_in_the_warehouse()
    {
        var orderId = await pipeline.CreateOrderAsync(Cancelled);
        await pipeline.ChangeStatusAsync(orderId, "approved", version: 1, Cancelled);

        JsonNode seen = new JsonObject();
        await Eventually.TrueAsync(
            async () => (bool)(seen = await VisibilityAsync(orderId, "min_version=2&wait_ms=5000"))["visible"]!,
            PipelineFixture.FreshnessDeadline, () => seen.ToJsonString(), Cancelled);
        Assert.Equal((2, false), ((int)seen["version"]!, (bool)seen["removed"]!));
        Assert.InRange((long)seen["took_ms"]!, 0, (long)PipelineFixture.FreshnessDeadline.TotalMilliseconds);

        var future = await VisibilityAsync(orderId, "min_version=3&wait_ms=300");
        Assert.False((bool)future["visible"]!);
        Assert.InRange((long)future["waited_ms"]!, 300, 5_000);
        Assert.Null(future["took_ms"]);

        await pipeline.RemoveOrderAsync(orderId, version: 2, Cancelled);
        await Eventually.TrueAsync(
            async () => (bool)(seen = await VisibilityAsync(orderId, "min_version=1"))["removed"]!, PipelineFixture.FreshnessDeadline, () => seen.ToJsonString(), Cancelled);
        using var another = await pipeline.Api.GetAsync($"/orders/{Guid.NewGuid():N}/warehouse?min_version=1", Cancelled);
        Assert.Equal(HttpStatusCode.NotFound, another.StatusCode);
        Assert.Contains("p99", await pipeline.OpsAsync(["status", "--emulator", pipeline.EmulatorUrl], Cancelled), StringComparison.Ordinal);
    }

    private async Task<JsonNode> VisibilityAsync(string orderId, string query)
    {
        using var answer = await pipeline.Api.GetAsync($"/orders/{orderId}/warehouse?{query}", Cancelled);
        var body = await answer.Content.ReadAsStringAsync(Cancelled);
        Assert.True(answer.IsSuccessStatusCode, body);
        return JsonNode.Parse(body)!;
    }

    [Fact]
    public async Task Lines_and_payments_can_be_queried_as_tables()
    {
        var orderId = await pipeline.CreateOrderAsync(Cancelled);
        await AwaitRowAsync(orderId, version: 1, isDeleted: false, status: "created");

        Assert.Equal(
            PipelineFixture.SampleTotal,
            await pipeline.ScalarAsync<decimal>("select sum(quantity * unit_price + freight) from order_lines where order_id = $1", Cancelled, orderId));
        Assert.Equal(
            PipelineFixture.SamplePaid,
            await pipeline.ScalarAsync<decimal>("select sum(amount) from order_payments where order_id = $1", Cancelled, orderId));
    }

    [Fact]
    public async Task An_order_that_is_removed_and_created_again_is_live_in_the_warehouse()
    {
        var orderId = await pipeline.CreateOrderAsync(Cancelled);
        await pipeline.ChangeStatusAsync(orderId, "approved", version: 1, Cancelled);
        await pipeline.RemoveOrderAsync(orderId, version: 2, Cancelled);

        await pipeline.CreateOrderAsync(Cancelled, orderId);

        await AwaitRowAsync(orderId, version: 1, isDeleted: false, status: "created", changes: 4);
    }

    [Fact]
    public async Task A_refused_request_changes_neither_table_nor_warehouse()
    {
        var before = await pipeline.ChangesAsync(Cancelled);
        var orderId = await pipeline.CreateOrderAsync(Cancelled);
        using (var duplicate = await pipeline.PostSampleAsync(orderId, Cancelled))
        {
            Assert.Equal(HttpStatusCode.Conflict, duplicate.StatusCode);
        }

        using (var stale = await pipeline.PutStatusAsync(orderId, "approved", version: 7, Cancelled))
        {
            Assert.Equal(HttpStatusCode.PreconditionFailed, stale.StatusCode);
        }

        await pipeline.AwaitEqualAsync(before + 1, Cancelled);
        Assert.Equal(1, await pipeline.ScalarAsync<long>("select count(*) from order_changes where order_id = $1", Cancelled, orderId));
    }

    private Task AwaitRowAsync(string orderId, int version, bool isDeleted, string status, long? changes = null) =>
        Eventually.TrueAsync(
            async () => await pipeline.ScalarAsync<long>(
                "select count(*) from orders where order_id = $1 and version = $2 and is_deleted = $3 and status = $4",
                Cancelled,
                orderId,
                (long)version,
                isDeleted,
                status) == 1
                && (changes is null || changes == await pipeline.ScalarAsync<long>("select count(*) from order_changes where order_id = $1", Cancelled, orderId)),
            PipelineFixture.FreshnessDeadline,
            () => $"{orderId} is in the warehouse with version {version}, status {status}, is_deleted {isDeleted}",
            Cancelled);

    private async Task<List<HistoryRow>> ReadHistoryAsync(string orderId)
    {
        await using var command = pipeline.Warehouse.CreateCommand(
            "select version, status, is_deleted, is_current, valid_from, valid_to from order_history where order_id = $1 order by valid_from, valid_to nulls last, version");
        command.Parameters.Add(new NpgsqlParameter { Value = orderId });
        await using var reader = await command.ExecuteReaderAsync(Cancelled);
        var rows = new List<HistoryRow>();
        while (await reader.ReadAsync(Cancelled))
        {
            rows.Add(new HistoryRow(
                reader.GetInt64(0),
                reader.GetString(1),
                reader.GetBoolean(2),
                reader.GetBoolean(3),
                reader.GetDateTime(4),
                await reader.IsDBNullAsync(5, Cancelled) ? null : reader.GetDateTime(5)));
        }

        return rows;
    }

    private sealed record HistoryRow(long Version, string Status, bool IsDeleted, bool IsCurrent, DateTime From, DateTime? To);
}
