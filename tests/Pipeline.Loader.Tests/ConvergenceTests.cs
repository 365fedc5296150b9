using Pipeline.Core;
using Pipeline.Loader.Tests.Redshift;

namespace Pipeline.Loader.Tests;

/// <summary>
/// However the changes of an order arrive (in any order, in any files, again and again), the warehouse shows at every
/// step what the rule says for the changes it has, and in the end what the table had last.
/// </summary>
public class ConvergenceTests(PostgresFixture postgres)
{
    private const Operation I = Operation.Insert, M = Operation.Modify, R = Operation.Remove, S = Operation.Snapshot;

    /// <summary>Small histories in the order in which they happened; the sequence numbers follow the places in the list, but for a snapshot's, which is zero.</summary>
    private static readonly (string Name, (Operation Operation, long Version)[] Changes)[] Histories =
    [
        ("one_life", [(I, 1), (M, 2), (M, 3), (M, 4)]),
        ("removed", [(I, 1), (M, 2), (R, 2)]),
        ("created_again", [(I, 1), (M, 2), (R, 2), (I, 1)]),
        ("created_again_and_changed", [(I, 1), (M, 2), (M, 3), (R, 3), (I, 1), (M, 2)]),
        ("three_lives", [(I, 1), (M, 2), (R, 2), (I, 1), (R, 1), (I, 1)]),
        ("removed_three_times", [(I, 1), (R, 1), (I, 1), (R, 1), (I, 1), (R, 1)]),
        ("removed_again_at_a_greater_version", [(I, 1), (R, 1), (I, 1), (M, 2), (R, 2), (I, 1)]),
        ("no_versions", [(I, 0), (M, 0), (M, 0), (R, 0), (I, 0)]),
        ("versions_start_late", [(M, 0), (M, 0), (M, 1), (M, 2)]),
        ("backfilled", [(S, 3)]),
        ("backfilled_before_the_stream", [(S, 3), (M, 4), (M, 5), (R, 5)]),
        ("backfilled_while_it_changes", [(I, 1), (M, 2), (S, 2), (M, 3)]),
        ("backfilled_and_removed", [(S, 3), (R, 3), (I, 1), (M, 2)]),
        ("backfilled_in_its_second_life", [(I, 1), (R, 1), (I, 1), (M, 2), (S, 2)]),
    ];

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Every_order_of_arrival_converges(bool withKeys)
    {
        await using var database = await postgres.CreateDatabaseAsync();
        if (!withKeys)
        {
            await database.DropKeysAsync();
        }

        using var harness = new Harness(new PostgresWarehouse(database));
        await ConvergeAsync(harness, database);
    }

    [Fact]
    public async Task Every_order_of_arrival_converges_in_the_dialect_of_Redshift()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        using var harness = new Harness(redshift.Warehouse, redshift.Objects);
        await ConvergeAsync(harness, redshift.Postgres);
    }

    private static async Task ConvergeAsync(Harness harness, Npgsql.NpgsqlDataSource database)
    {
        // Each permutation of each history is an order of its own, so that one load checks thousands of them. A seeded
        // choice cuts it into files, and repeats what came before in some of them.
        const int Numbers = 10;
        var random = new Random(20261124);
        var orders = Histories.SelectMany(h => Permutations([.. Enumerable.Range(1, h.Changes.Length)]).Select((permutation, n) => ($"{h.Name}-{n}", h.Changes, permutation))).ToArray();
        random.Shuffle(orders);
        var arrivals = new List<List<List<Change>>>();
        var last = new Dictionary<string, Change>();
        foreach (var (orderId, history, permutation) in orders)
        {
            // Each order has later numbers than the one before it: what is new to the warehouse is also newer than all it has.
            var before = Numbers * arrivals.Count;
            Change ChangeAt(int place)
            {
                var change = Changes.Change(orderId, before + place, history[place - 1].Version, history[place - 1].Operation);
                return change.Operation == S ? change with { SequenceNumber = SequenceNumber.Zero } : change;
            }

            var files = new List<List<Change>>();
            foreach (var place in permutation)
            {
                if (files.Count == 0 || random.Next(2) == 0)
                {
                    files.Add([]);
                }

                files[^1].Add(ChangeAt(place));
                if (random.Next(4) == 0)
                {
                    files[^1].Add(ChangeAt(permutation[random.Next(Array.IndexOf(permutation, place) + 1)]));
                }
            }

            arrivals.Add(files);
            // A snapshot repeats what the change before it wrote.
            var lastWrite = Array.FindLastIndex(history, change => change.Operation != S) + 1;
            last[orderId] = ChangeAt(lastWrite > 0 ? lastWrite : history.Length);
        }

        Assert.True(arrivals.Count > 2_000);

        // One group of orders after the other, the first changes of one together with the last ones of that before it.
        const int Groups = 4, RoundsApart = 3;
        var groups = arrivals.Chunk((arrivals.Count / Groups) + 1).ToList();
        var known = new Dictionary<string, List<Change>>();
        var notStaged = 0;
        for (var round = 0; round < (RoundsApart * (Groups - 1)) + Histories.Max(h => h.Changes.Length); round++)
        {
            var arriving = groups.SelectMany((group, g) => group.SelectMany(files => files.ElementAtOrDefault(round - (RoundsApart * g)) ?? [])).ToList();
            if (arriving.Count == 0)
            {
                continue;
            }

            if (known.Count > 0)
            {
                var keys = StagedKeys.Of(arriving, [], known.Values.Max(changes => changes.Max(c => c.SequenceNumber)), someWait: false);
                notStaged += keys.Distinct.Count - keys.Rows.Count;
            }

            await harness.Objects.PutAsync(arriving, $"{Names.ChangesPrefix}round-{round:D2}.parquet");
            harness.Time.Advance(TimeSpan.FromDays(1));
            await harness.DrainAsync();

            foreach (var change in arriving)
            {
                if (!known.TryGetValue(change.OrderId, out var changes))
                {
                    known[change.OrderId] = changes = [];
                }

                changes.Add(change);
            }

            var expected = known.Values.Select(changes => Row(Winner(changes))).Order(StringComparer.Ordinal);
            Assert.Equal(expected, (await database.RowsAsync(Current)).Order(StringComparer.Ordinal));
            Assert.Empty(await database.RowsAsync(HistoryDisagrees));
        }

        // What does not have to be asked about was not, in a warehouse that holds something.
        Assert.True(notStaged > 100, $"{notStaged} changes were left out of the staging table");

        // A life whose versions grow ends as the table had it last.
        Assert.Equal(last.Values.Select(Row).Order(StringComparer.Ordinal), (await database.RowsAsync(Current)).Order(StringComparer.Ordinal));

        // Each change once, whatever was repeated.
        Assert.Equal([$"{arrivals.Count}|{known.Sum(order => order.Value.Distinct().Count())}"], await database.RowsAsync(
            "SELECT (SELECT count(*) FROM orders) AS a, (SELECT count(*) FROM order_changes) AS b"));
        await HistoryIsWithoutHolesAsync(database);
    }

    private const string Current = "SELECT order_id, version, sequence_number, is_deleted FROM orders";

    private const string HistoryDisagrees = """
        SELECT coalesce(o.order_id, h.order_id) AS order_id
        FROM orders o
        FULL JOIN (SELECT * FROM order_history WHERE is_current) h
            ON h.order_id = o.order_id AND h.version = o.version AND h.sequence_number = o.sequence_number AND h.is_deleted = o.is_deleted
        WHERE o.order_id IS NULL OR h.order_id IS NULL
        """;

    private static async Task HistoryIsWithoutHolesAsync(Npgsql.NpgsqlDataSource database) => Assert.Empty(await database.RowsAsync("""
        SELECT * FROM (
            SELECT order_id, valid_from, valid_to, is_current,
                   lead(valid_from) OVER w AS next_from, count(*) FILTER (WHERE is_current) OVER (PARTITION BY order_id) AS currents
            FROM order_history
            WINDOW w AS (PARTITION BY order_id ORDER BY life, is_deleted, version, sequence_number)
        ) h
        WHERE valid_to IS DISTINCT FROM next_from OR valid_to < valid_from OR currents <> 1 OR is_current <> (valid_to IS NULL)
        """));

    private static string Row(Change c) =>
        $"{c.OrderId}|{c.Version}|{c.SequenceNumber}|{(c.Operation == Operation.Remove ? "true" : "false")}";

    /// <summary>The rule of docs/decisions/0004-which-change-wins.md, over all changes at once.</summary>
    private static Change Winner(IReadOnlyCollection<Change> changes)
    {
        var removals = changes.Where(c => c.Operation == Operation.Remove).Select(c => c.SequenceNumber).ToList();
        var lastRemoval = removals.Count > 0 ? removals.Max() : (SequenceNumber?)null;
        return changes
            .OrderByDescending(c => lastRemoval is null || c.SequenceNumber > lastRemoval)
            .ThenByDescending(c => c.SequenceNumber == lastRemoval)
            .ThenByDescending(c => c.Version)
            .ThenByDescending(c => c.SequenceNumber)
            .First();
    }

    private static IEnumerable<int[]> Permutations(int[] items) => items.Length == 0
        ? [[]]
        : items.SelectMany(first => Permutations([.. items.Where(i => i != first)]).Select(rest => (int[])[first, .. rest]));
}
