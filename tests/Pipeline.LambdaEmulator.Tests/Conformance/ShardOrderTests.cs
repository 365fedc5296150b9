using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>Which shards are read, and when.</summary>
public sealed class ShardOrderTests
{
    private static readonly ShardPosition Finished = new ShardPosition.Finished();

    private static readonly IReadOnlyList<Shard> Family =
    [
        new("grandchild", "child 1", false),
        new("child 1", "parent", true),
        new("child 2", "parent", false),
        new("parent", null, true),
    ];

    [Fact]
    [Rule(Pages.Streams, "A parent shard must be processed before its children.")]
    public void Only_the_parent_is_started_first() => Assert.Equal(["parent"], Started([], []));

    [Fact]
    [Rule(Pages.Streams, "When a parent is processed, its children follow; their own children wait.")]
    public void The_children_follow_a_finished_parent()
    {
        Assert.Equal(["child 1", "child 2"], Started(new() { ["parent"] = Finished }, []));
        Assert.Equal(["grandchild", "child 2"], Started(new() { ["parent"] = Finished, ["child 1"] = Finished }, []));
    }

    [Fact]
    [Rule(Pages.Streams, "A parent that is being processed holds its children back.")]
    public void A_running_parent_holds_its_children_back() => Assert.Empty(Started([], ["parent"]));

    [Fact]
    [Rule(Pages.Streams, "A shard's parent may be gone: records older than 24 hours are trimmed, with their shards.")]
    public void A_shard_whose_parent_is_no_longer_listed_is_started()
    {
        var started = ShardOrder.Startable([new("child", "trimmed", false)], new Dictionary<string, ShardPosition>(), new HashSet<string>());
        Assert.Equal(["child"], started.Select(shard => shard.Id));
    }

    [Fact]
    public void Positions_of_trimmed_shards_are_forgotten_and_unfinished_ones_are_lost()
    {
        var (forgotten, lost) = ShardOrder.Unlisted(
            [new("open", null, false)],
            new Dictionary<string, ShardPosition>
            {
                ["open"] = new ShardPosition.After("1"),
                ["done"] = Finished,
                ["unread"] = new ShardPosition.After("2"),
            });
        Assert.Equal(["done"], forgotten);
        Assert.Equal(["unread"], lost);
    }

    private static IEnumerable<string> Started(Dictionary<string, ShardPosition> positions, HashSet<string> running) =>
        ShardOrder.Startable(Family, positions, running).Select(shard => shard.Id);
}
