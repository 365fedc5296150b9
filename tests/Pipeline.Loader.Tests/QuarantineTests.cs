using Npgsql;
using Pipeline.Core;

namespace Pipeline.Loader.Tests;

/// <summary>What the warehouse refuses is parked, and what comes behind it waits: on a real PostgreSQL.</summary>
public class QuarantineTests(PostgresFixture postgres)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_change_that_the_warehouse_refuses_is_found_and_parked_and_stops_no_other()
    {
        await using var database = await postgres.CreateDatabaseAsync();
        using var harness = new Harness(new PostgresWarehouse(database));
        for (var n = 1; n <= 20; n++)
        {
            await harness.Objects.PutAsync([Changes.Change($"o-{n}", n, 1)]);
        }

        // A codec that let it pass would write a document that is no JSON.
        await harness.Objects.PutAsync([Changes.Change("poison", 21, 1) with { Document = "{\"name\":\"Ana Souza\"" }]);
        await harness.DrainAsync();

        Assert.Equal(["20|20|21|0|0"], await CountsAsync(database));
        var parked = QuarantinedChange.Parse((await harness.Objects.GetAsync($"{Names.QuarantinePrefix}dt=2026-11-24/poison-21.json", Cancelled))!.Bytes);
        Assert.Equal("22P02: invalid input syntax for type json", parked.Reason);
        Assert.Equal(1, parked.Attempt);
        Assert.Equal("{\"name\":\"Ana Souza\"", parked.Change.Document);
    }

    private static Task<List<string>> CountsAsync(NpgsqlDataSource database) => database.RowsAsync("""
        SELECT (SELECT count(*) FROM order_changes) AS a, (SELECT count(*) FROM orders) AS b, (SELECT count(*) FROM load_ledger) AS c,
               (SELECT count(*) FROM waiting_changes) AS d, (SELECT count(*) FROM load_failures) AS e
        """);
}
