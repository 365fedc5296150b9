using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator.Tests;

public sealed class CheckpointFileTests : IDisposable
{
    private const string Arn = "arn:aws:dynamodb:ddblocal:000000000000:table/T/stream/2026-01-01T00:00:00.000";

    private static readonly Guid Mapping = new("11111111-2222-3333-4444-555555555555");

    private static readonly Dictionary<string, ShardPosition> Old = new() { ["a"] = new ShardPosition.After("000000000000000000007") };

    private static readonly Dictionary<string, ShardPosition> New = new()
    {
        ["a"] = new ShardPosition.Finished(),
        ["b"] = new ShardPosition.TrimHorizon(),
        ["c"] = new ShardPosition.After("12345678901234567890123456789012345678901"),
    };

    private readonly string _folder = Directory.CreateTempSubdirectory().FullName;

    private CheckpointFile File => new(_folder, Mapping, Arn);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void What_is_saved_is_loaded()
    {
        Assert.Null(File.Load());
        File.Save(New);
        Assert.Equal(New, File.Load());
        File.Save(new Dictionary<string, ShardPosition>());
        Assert.Empty(File.Load()!);
    }

    /// <summary>
    /// A kill can leave any part of the temporary file, and the rename done or not: the old state or the new one is
    /// there, whole, and the next save works.
    /// </summary>
    [Fact]
    public void A_kill_at_any_instant_of_a_save_leaves_the_old_state_or_the_new_one()
    {
        File.Save(New);
        var written = System.IO.File.ReadAllBytes(File.Path);
        File.Save(Old);
        for (var length = 0; length <= written.Length; length++)
        {
            System.IO.File.WriteAllBytes(File.Path + ".tmp", written[..length]);
            Assert.Equal(Old, File.Load());
        }

        System.IO.File.Move(File.Path + ".tmp", File.Path, overwrite: true);
        Assert.Equal(New, File.Load());
        File.Save(Old);
        Assert.Equal(Old, File.Load());
        Assert.Equal([File.Path], Directory.GetFiles(_folder));
    }

    [Fact]
    public void A_table_that_was_created_anew_starts_without_a_checkpoint()
    {
        File.Save(Old);
        Assert.Null(new CheckpointFile(_folder, Mapping, Arn.Replace("2026-01-01", "2026-02-02", StringComparison.Ordinal)).Load());
        Assert.Null(new CheckpointFile(_folder, Guid.NewGuid(), Arn).Load());
    }

    [Theory]
    [InlineData("", "The input does not contain any JSON tokens")]
    [InlineData("{", "Expected depth to be zero")]
    [InlineData("null", "a part of it is missing")]
    [InlineData("{}", "a part of it is missing")]
    [InlineData("""{"mapping":"11111111-2222-3333-4444-555555555555","streamArn":"ARN"}""", "a part of it is missing")]
    [InlineData("""{"mapping":"11111111-2222-3333-4444-555555555555","streamArn":"ARN","shards":{"a":"LATEST"}}""", "\"LATEST\" is not a position")]
    [InlineData("""{"mapping":"11111111-2222-3333-4444-555555555555","streamArn":"ARN","shards":{"a":""}}""", "\"\" is not a position")]
    [InlineData("""{"mapping":"99999999-2222-3333-4444-555555555555","streamArn":"ARN","shards":{}}""", "it belongs to mapping 99999999")]
    [InlineData("""{"mapping":"11111111-2222-3333-4444-555555555555","streamArn":"other","shards":{}}""", "and stream other")]
    public void A_corrupt_file_is_reported_and_nothing_else_is_assumed(string content, string reason)
    {
        System.IO.File.WriteAllText(File.Path, content.Replace("ARN", Arn, StringComparison.Ordinal));
        var error = Assert.Throws<InvalidDataException>(File.Load);
        Assert.Contains(File.Path, error.Message, StringComparison.Ordinal);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }
}
