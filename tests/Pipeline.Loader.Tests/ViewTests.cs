using Npgsql;
using Pipeline.Core;

namespace Pipeline.Loader.Tests;

public class ViewTests(PostgresFixture postgres)
{
    private const Operation I = Operation.Insert, M = Operation.Modify, R = Operation.Remove, S = Operation.Snapshot;

    [Fact]
    public async Task The_history_shows_each_version_from_its_write_to_the_next_over_all_lives()
    {
        await using var database = await LoadedAsync(
            Changes.Change("o-1", 1, 1, I), Changes.Change("o-1", 3, 2, M), Changes.Change("o-1", 5, 2, R), Changes.Change("o-1", 7, 1, I));

        Assert.Equal(
        [
            "0|1|insert|08:31|08:33|false|false",
            "0|2|modify|08:33|08:35|false|false",
            "0|2|remove|08:35|08:37|false|true",
            "1|1|insert|08:37|true|false",
        ], await HistoryAsync(database));
    }

    [Fact]
    public async Task A_writer_whose_clock_is_behind_makes_no_interval_that_ends_before_it_begins()
    {
        await using var database = await LoadedAsync(
            Changes.Change("o-1", 5, 1, I),
            Changes.Change("o-1", 6, 2, M) with { UpdatedAt = Harness.Start.AddMinutes(1) },
            Changes.Change("o-1", 7, 3, M) with { UpdatedAt = null, ChangedAt = Harness.Start.AddMinutes(9) },
            // As in DynamoDB Local: the time of the removal is cut to the minute and lies before the version it removed.
            Changes.Change("o-1", 8, 3, R) with { ChangedAt = Harness.Start.AddMinutes(8) });

        Assert.Equal(
        [
            "0|1|insert|08:35|08:35|false|false",
            "0|2|modify|08:35|08:39|false|false",
            "0|3|modify|08:39|08:39|false|false",
            "0|3|remove|08:39|true|true",
        ], await HistoryAsync(database));
    }

    [Fact]
    public async Task A_snapshot_is_shown_only_where_the_change_of_the_stream_is_missing()
    {
        var zero = SequenceNumber.Zero;
        await using var database = await LoadedAsync(
            // Read before the stream was: what it read is known from nowhere else.
            Changes.Change("o-1", 1, 4, S) with { SequenceNumber = zero },
            Changes.Change("o-1", 5, 5, M),
            // Read in the second life of the order, whose changes are all there.
            Changes.Change("o-1", 6, 5, R),
            Changes.Change("o-1", 7, 1, I),
            Changes.Change("o-1", 8, 2, M),
            Changes.Change("o-1", 8, 2, S) with { SequenceNumber = zero });

        Assert.Equal(
        [
            "0|4|snapshot|08:31|08:35|false|false",
            "0|5|modify|08:35|08:36|false|false",
            "0|5|remove|08:36|08:37|false|true",
            "1|1|insert|08:37|08:38|false|false",
            "1|2|modify|08:38|true|false",
        ], await HistoryAsync(database));
    }

    [Fact]
    public async Task A_snapshot_that_mends_a_version_is_the_current_one()
    {
        await using var database = await LoadedAsync(
            Changes.Change("o-1", 1, 1, I) with { Document = """{"damaged":true}""" },
            Changes.Change("o-1", 1, 1, S) with { SequenceNumber = Changes.Sequence(1).Next() });

        Assert.Equal(
        [
            "0|1|insert|08:31|08:31|false|false",
            "0|1|snapshot|08:31|true|false",
        ], await HistoryAsync(database));
    }

    [Fact]
    public async Task Lines_and_payments_are_one_row_each_of_the_orders_that_are_not_removed()
    {
        const string Document = """
            {"items":[{"line":1,"product_id":"p-1","seller_id":"s-1","quantity":2,"unit_price":10.5,"freight":4.25},{"line":2,"product_id":"p-2"}],
             "payments":[{"sequence":1,"method":"credit_card","installments":3,"amount":25.25}]}
            """;
        await using var database = await LoadedAsync(
            Changes.Change("o-1", 1, 1, I) with { Document = Document },
            Changes.Change("o-2", 2, 1, I) with { Document = Document },
            Changes.Change("o-2", 3, 1, R) with { Document = Document });

        Assert.Equal(["o-1|1|p-1|s-1|2|10.5|4.25", "o-1|2|p-2"], await database.RowsAsync("SELECT * FROM order_lines ORDER BY order_id, line"));
        Assert.Equal(["o-1|1|credit_card|3|25.25"], await database.RowsAsync("SELECT * FROM order_payments ORDER BY order_id, sequence"));
    }

    [Theory]
    [InlineData("""{}""")]
    [InlineData("""{"items":null,"payments":null}""")]
    [InlineData("""{"items":"none","payments":7}""")]
    [InlineData("""{"items":{"line":1},"payments":{"amount":1}}""")]
    [InlineData("""{"items":["x",1,null,[{"line":1}]],"payments":[true]}""")]
    public async Task A_document_of_another_shape_has_no_lines_and_no_payments(string document)
    {
        await using var database = await LoadedAsync(Changes.Change("o-1", 1, 0, I) with { Document = document });

        Assert.Empty(await database.RowsAsync("SELECT * FROM order_lines"));
        Assert.Empty(await database.RowsAsync("SELECT * FROM order_payments"));
    }

    [Fact]
    public async Task A_member_of_another_type_or_beyond_any_range_does_not_stop_the_views()
    {
        await using var database = await LoadedAsync(Changes.Change("o-1", 1, 0, I) with
        {
            Document = """
                {"items":[{"line":"first","product_id":7,"seller_id":{},"quantity":1E+125,"unit_price":"10.5","freight":[]}],
                 "payments":[{"sequence":1E+40,"method":[],"installments":-1.5,"amount":12345678901234567890123456789012345678}]}
                """,
        });

        // Without a number of its own a line has its place in the list.
        Assert.Equal([$"o-1|1|1{new string('0', 125)}"], await database.RowsAsync("SELECT * FROM order_lines"));
        Assert.Equal([$"o-1|1{new string('0', 40)}|-1.5|12345678901234567890123456789012345678"], await database.RowsAsync("SELECT * FROM order_payments"));
    }

    [Fact]
    public async Task Every_query_of_the_documentation_runs_and_every_column_it_names_exists()
    {
        await using var database = await LoadedAsync(Changes.Change("o-1", 1, 1, I));
        var text = await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "warehouse.md"), TestContext.Current.CancellationToken);
        var queries = text.Split("```sql\n").Skip(1)
            .SelectMany(block => block.Split("```")[0].Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
            .Where(query => !query.Contains("read_parquet", StringComparison.Ordinal))
            .ToList();

        Assert.True(queries.Count >= 6);
        foreach (var query in queries)
        {
            await database.ExecuteAsync(query);
        }

        var columns = await database.RowsAsync("SELECT DISTINCT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'schema_migrations'");
        Assert.All(columns, column => Assert.Contains($"`{column}`", text, StringComparison.Ordinal));
    }

    private async Task<NpgsqlDataSource> LoadedAsync(params Change[] changes)
    {
        var database = await postgres.CreateDatabaseAsync();
        using var harness = new Harness(new PostgresWarehouse(database));
        await harness.Objects.PutAsync(changes);
        await harness.DrainAsync();
        return database;
    }

    private static Task<List<string>> HistoryAsync(NpgsqlDataSource database) => database.RowsAsync("""
        SELECT life, version, operation, to_char(valid_from AT TIME ZONE 'UTC', 'HH24:MI') AS f, to_char(valid_to AT TIME ZONE 'UTC', 'HH24:MI') AS t,
               is_current, is_deleted
        FROM order_history
        ORDER BY order_id, life, is_deleted, version, sequence_number
        """);
}
