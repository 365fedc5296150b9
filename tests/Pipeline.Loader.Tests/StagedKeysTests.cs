using Pipeline.Core;

namespace Pipeline.Loader.Tests;

public class StagedKeysTests
{
    private static readonly SequenceNumber Newest = Changes.Sequence(10);

    [Fact]
    public void Of_new_changes_only_the_last_of_each_order_is_staged()
    {
        var keys = Of([Changes.Change("a", 11, 1), Changes.Change("b", 12, 1), Changes.Change("a", 13, 2), Changes.Change("a", 14, 3)]);

        Assert.Equal([0, 1, 2, 3], keys.Distinct);
        Assert.Equal([1, 3], keys.Rows.Order());
        Assert.False(keys.MayBeKnown);
    }

    [Fact]
    public void What_the_history_may_have_is_staged()
    {
        var keys = Of([Changes.Change("a", 9, 1), Changes.Change("a", 10, 2), Changes.Change("a", 11, 3)]);

        Assert.Equal([0, 1, 2], keys.Rows.Order());
        Assert.True(keys.MayBeKnown);
    }

    [Fact]
    public void A_change_that_is_there_twice_counts_once_and_the_first_stays()
    {
        var keys = Of([Changes.Change("a", 11, 1), Changes.Change("a", 11, 1), Changes.Change("a", 11, 2)]);

        Assert.Equal([0, 2], keys.Distinct);
    }

    [Fact]
    public void Removals_are_staged_and_so_are_changes_of_which_neither_is_behind_the_other()
    {
        // The version starts anew after the removal: which of the two wins depends on where the last removal is.
        var keys = Of([Changes.Change("a", 11, 5), Changes.Change("a", 12, 5, Operation.Remove), Changes.Change("a", 13, 1), Changes.Change("a", 14, 2)]);

        Assert.Equal([0, 1, 3], keys.Rows.Order());
    }

    [Fact]
    public void When_something_waits_all_may_have_waited_and_what_has_to_wait_is_staged_too()
    {
        Assert.Equal([0, 1], Of([Changes.Change("a", 11, 1), Changes.Change("a", 12, 2)], someWait: true).Rows.Order());
        Assert.Equal([0, 1], Of([Changes.Change("a", 11, 1)], waiting: [Changes.Change("b", 12, 2)]).Rows.Order());
    }

    /// <summary>By the rule of docs/decisions/0004-which-change-wins.md, wherever the order's last removal is.</summary>
    [Fact]
    public void What_is_not_staged_never_wins()
    {
        var random = new Random(20261124);
        for (var run = 0; run < 20_000; run++)
        {
            List<Change> changes = [.. Enumerable.Range(0, random.Next(1, 7)).Select(_ => Changes.Change(
                "a", random.Next(11, 20), random.Next(1, 4), random.Next(4) == 0 ? Operation.Remove : Operation.Modify))];
            var staged = Of(changes).Rows.Select(row => changes[row]).ToList();
            foreach (var border in Enumerable.Range(0, 21).Select(Changes.Sequence))
            {
                Assert.Equal(Best(changes, border), Best(staged, border));
            }
        }

        static (long, SequenceNumber) Best(IEnumerable<Change> changes, SequenceNumber border) => changes
            .OrderByDescending(c => c.SequenceNumber > border)
            .ThenByDescending(c => c.SequenceNumber == border)
            .ThenByDescending(c => c.Version)
            .ThenByDescending(c => c.SequenceNumber)
            .Select(c => (c.Version, c.SequenceNumber))
            .First();
    }

    private static StagedKeys Of(IReadOnlyList<Change> changes, IReadOnlyList<Change>? waiting = null, bool someWait = false) =>
        StagedKeys.Of(changes, waiting ?? [], Newest, someWait);
}
