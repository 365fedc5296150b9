using System.Threading.Channels;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>
/// The positions of a mapping's shards, saved as they move: at once, and under load as often as the disk can, always
/// the newest. Saves are of the whole, so a parent shard and its children are always consistent.
/// </summary>
public sealed partial class Checkpoints(ICheckpointStore file, Dictionary<string, ShardPosition> positions, TimeProvider time, ILogger<Checkpoints> logger)
{
    /// <summary>After a failed save: a full disk does not get better by trying at once.</summary>
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();

    /// <summary>One mark, however many changes: a save takes them all.</summary>
    private readonly Channel<bool> _changed = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });

    /// <summary>What is wrong with saving; null if nothing is.</summary>
    public string? Problem { get; private set; }

    public IReadOnlyDictionary<string, ShardPosition> Snapshot()
    {
        lock (_lock)
        {
            return new Dictionary<string, ShardPosition>(positions);
        }
    }

    public void Set(string shardId, ShardPosition position) => Change(() => positions[shardId] = position);

    public void Forget(string shardId) => Change(() => positions.Remove(shardId));

    /// <summary>Saves what changes until cancelled, and then once more.</summary>
    public async Task SaveAsync(CancellationToken cancellationToken)
    {
        while (!cancellationToken.IsCancellationRequested)
        {
            try
            {
                await _changed.Reader.ReadAsync(cancellationToken);
            }
            catch (OperationCanceledException)
            {
                // The last save, below.
            }

            try
            {
                file.Save(Snapshot());
                Problem = null;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                Problem = $"The checkpoint cannot be saved: {e.Message}";
                LogNotSaved(e, file.Path);
                await Task.Delay(RetryAfter, time, CancellationToken.None);
                Signal();
            }
        }
    }

    private void Change(Action change)
    {
        lock (_lock)
        {
            change();
        }

        Signal();
    }

    private void Signal() => _changed.Writer.TryWrite(true);

    [LoggerMessage(LogLevel.Error, "The checkpoint {Path} could not be saved. Records that are processed now will be delivered again after a restart")]
    private partial void LogNotSaved(Exception exception, string path);
}
