using System.Text.Json;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>How far one mapping is with one stream, wherever that survives a restart.</summary>
public interface ICheckpointStore
{
    /// <summary>Its name, for messages.</summary>
    string Path { get; }

    /// <summary>The positions by shard; null if this mapping has never read this stream.</summary>
    /// <exception cref="InvalidDataException">They cannot be read: starting anywhere else would skip or repeat records.</exception>
    Dictionary<string, ShardPosition>? Load();

    /// <exception cref="IOException">What was saved before stands.</exception>
    void Save(IReadOnlyDictionary<string, ShardPosition> positions);
}

/// <summary>
/// How far one mapping is with one stream, on disk. A save writes another file, flushes it to the disk and renames it
/// over the old one, so a kill at any instant leaves the old state or the new one, whole. What is on disk may lag
/// behind what is processed (those records are delivered again), it is never ahead.
/// </summary>
/// <remarks>
/// The file is named after mapping and stream: a table that was deleted and created anew has another stream, so its
/// positions are not mistaken for those of the old one.
/// </remarks>
public sealed class CheckpointFile : ICheckpointStore
{
    private const string TrimHorizon = "TRIM_HORIZON";
    private const string Finished = "SHARD_END";

    private readonly string _mapping;
    private readonly string _streamArn;

    public CheckpointFile(string folder, Guid mapping, string streamArn)
    {
        _mapping = mapping.ToString();
        _streamArn = streamArn;
        var label = streamArn.Split('/')[^1].Replace(':', '-');
        Path = System.IO.Path.Combine(folder, $"{_mapping}-{label}.json");
    }

    public string Path { get; }

    private sealed record Content(string? Mapping, string? StreamArn, Dictionary<string, string>? Shards);

    public Dictionary<string, ShardPosition>? Load()
    {
        if (!File.Exists(Path))
        {
            return null;
        }

        Content? content;
        try
        {
            content = JsonSerializer.Deserialize<Content>(File.ReadAllBytes(Path), JsonSerializerOptions.Web);
        }
        catch (JsonException e)
        {
            throw Corrupt(e.Message);
        }

        if (content is not { Mapping: { } mapping, StreamArn: { } streamArn, Shards: { } shards })
        {
            throw Corrupt("a part of it is missing");
        }

        if (mapping != _mapping || streamArn != _streamArn)
        {
            throw Corrupt($"it belongs to mapping {mapping} and stream {streamArn}");
        }

        return shards.ToDictionary(shard => shard.Key, shard => Parse(shard.Value));
    }

    public void Save(IReadOnlyDictionary<string, ShardPosition> positions)
    {
        var content = new Content(_mapping, _streamArn, positions.ToDictionary(shard => shard.Key, shard => Format(shard.Value)));
        var temporary = Path + ".tmp";
        using (var file = new FileStream(temporary, FileMode.Create, FileAccess.Write, FileShare.None))
        {
            JsonSerializer.Serialize(file, content, JsonSerializerOptions.Web);
            file.Flush(flushToDisk: true);
        }

        File.Move(temporary, Path, overwrite: true);
    }

    private ShardPosition Parse(string text) => text switch
    {
        TrimHorizon => new ShardPosition.TrimHorizon(),
        Finished => new ShardPosition.Finished(),
        { Length: > 0 } when text.All(char.IsAsciiDigit) => new ShardPosition.After(text),
        _ => throw Corrupt($"\"{text}\" is not a position"),
    };

    private static string Format(ShardPosition position) => position switch
    {
        ShardPosition.TrimHorizon => TrimHorizon,
        ShardPosition.Finished => Finished,
        ShardPosition.After after => after.SequenceNumber,
        _ => throw new ArgumentOutOfRangeException(nameof(position), position, null),
    };

    private InvalidDataException Corrupt(string what) => new(
        $"The checkpoint file {Path} cannot be used: {what}. Restore it, or delete it to start the mapping again at its StartingPosition.");
}
