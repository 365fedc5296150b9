using Amazon.DynamoDBv2.Model;
using Pipeline.LambdaEmulator.Functions;
using Pipeline.LambdaEmulator.Stack;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>The states of an event source mapping as far as they exist locally.</summary>
public enum MappingState
{
    Creating,
    Enabled,
    Disabled,

    /// <summary>It does not read: the message says why. It goes on by itself once that is mended.</summary>
    Problem,
}

/// <summary>A mapping of either kind, as the emulator runs and shows it.</summary>
public interface IEventSourceMapping
{
    /// <summary>Stays the same from run to run.</summary>
    Guid Id { get; }

    string FunctionName { get; }

    /// <summary>The name of the table or queue.</summary>
    string Source { get; }

    MappingState State { get; }

    /// <summary>What is wrong; null if nothing is.</summary>
    string? Problem { get; }

    /// <summary>Runs until cancelled.</summary>
    Task RunAsync(CancellationToken cancellationToken);
}

/// <summary>
/// One event source mapping of a stream: finds its stream, starts its shards as their parents are finished, and keeps their
/// checkpoints. What happens to a batch is decided in <see cref="ShardProcessor"/>.
/// </summary>
public sealed partial class EventSourceMapping(
    MappingPlan plan,
    Func<string, ICheckpointStore> checkpointsOf,
    string region,
    LambdaFunction function,
    DynamoDbStreamsClient streams,
    OnFailureDestination? onFailure,
    Telemetry telemetry,
    TimeProvider time,
    ILoggerFactory loggers) : IEventSourceMapping
{
    /// <summary>Between two looks at the table and the shards of its stream; also done at once when a shard has ended.</summary>
    private static readonly TimeSpan LookEvery = TimeSpan.FromSeconds(10);

    private readonly ILogger _logger = loggers.CreateLogger<EventSourceMapping>();
    private readonly Dictionary<string, (ShardWorker Worker, Task Run)> _running = [];
    private Checkpoints? _checkpoints;
    private string? _problem;

    public MappingPlan Plan => plan;

    public Guid Id => plan.Id;

    public string FunctionName => plan.Function.Name;

    public string Source => plan.Table;

    public MappingState State { get; private set; } = plan.IsEnabled ? MappingState.Creating : MappingState.Disabled;

    /// <summary>What is wrong; null if nothing is.</summary>
    public string? Problem => _problem ?? _checkpoints?.Problem
        ?? (Shards().FirstOrDefault(shard => shard.ReadProblem is not null) is { } shard ? $"{shard.ShardId} cannot be read: {shard.ReadProblem}" : null);

    public string? StreamArn { get; private set; }

    /// <summary>Runs until cancelled.</summary>
    /// <exception cref="InvalidDataException">The checkpoint file is corrupt.</exception>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        if (!plan.IsEnabled)
        {
            return;
        }

        while (true)
        {
            var stream = await UntilItWorksAsync(OpenAsync, cancellationToken);
            await ReadAsync(stream, _checkpoints!, cancellationToken);
            LogAnotherStream(plan.Table, StreamArn!);
        }
    }

    /// <summary>Finds the stream, and how far it is processed.</summary>
    private async Task<StreamSource> OpenAsync(CancellationToken cancellationToken)
    {
        StreamArn = await FindStreamAsync(cancellationToken);
        var file = checkpointsOf(StreamArn);
        var stream = new StreamSource(streams, StreamArn, new StreamRecordFormat(region, StreamArn), time);
        var positions = file.Load() ?? await StartAsync(stream, file, cancellationToken);
        _checkpoints = new Checkpoints(file, positions, time, loggers.CreateLogger<Checkpoints>());
        return stream;
    }

    /// <summary>Until the table has another stream, or it is cancelled.</summary>
    private async Task ReadAsync(StreamSource stream, Checkpoints checkpoints, CancellationToken cancellationToken)
    {
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var saving = checkpoints.SaveAsync(ends.Token);
        try
        {
            while (await UntilItWorksAsync(ct => LookAsync(stream, ct), cancellationToken) is { } shards)
            {
                Forget(shards, checkpoints);
                Start(shards, stream, checkpoints, ends.Token);
                await Wait.ForAnyAsync(_running.Values.Select(shard => shard.Run), LookEvery, time, cancellationToken);
                cancellationToken.ThrowIfCancellationRequested();
                await CollectFinishedAsync();
            }
        }
        finally
        {
            ends.Cancel();
            await EndWorkersAsync(ends.Token);
            await saving;
        }
    }

    /// <summary>The shards that are being read, as they are now.</summary>
    public IReadOnlyList<ShardStatus> Shards()
    {
        lock (_running)
        {
            return [.. _running.Values.Select(shard => shard.Worker.Status)];
        }
    }

    /// <summary>The stream that the template names, or that of the table.</summary>
    private async Task<string> FindStreamAsync(CancellationToken cancellationToken)
    {
        if (plan.StreamArn is { } given)
        {
            return given;
        }

        var table = (await streams.DescribeTableAsync(plan.Table, cancellationToken)).Table;
        return table.LatestStreamArn ?? throw new ResourceNotFoundException($"Table {plan.Table} has no stream.");
    }

    /// <summary>The stream's shards; null: the table was created anew, or its stream was, and this one is no longer its own.</summary>
    private async Task<IReadOnlyList<Shard>?> LookAsync(StreamSource stream, CancellationToken cancellationToken) =>
        await FindStreamAsync(cancellationToken) == StreamArn ? await stream.ListShardsAsync(cancellationToken) : null;

    /// <summary>Where a mapping begins that has not read this stream before; on disk before the first record is read.</summary>
    private async Task<Dictionary<string, ShardPosition>> StartAsync(StreamSource stream, ICheckpointStore file, CancellationToken cancellationToken)
    {
        var positions = new Dictionary<string, ShardPosition>();
        if (plan.Settings.StartingPosition == StartingPosition.Latest)
        {
            foreach (var shard in await stream.ListShardsAsync(cancellationToken))
            {
                positions[shard.Id] = shard.IsClosed
                    ? new ShardPosition.Finished()
                    : await ShardCursor.LatestAsync(stream, shard.Id, cancellationToken);
            }
        }

        file.Save(positions);
        return positions;
    }

    private void Start(IReadOnlyList<Shard> shards, StreamSource stream, Checkpoints checkpoints, CancellationToken cancellationToken)
    {
        var positions = checkpoints.Snapshot();
        foreach (var shard in ShardOrder.Startable(shards, positions, _running.Keys.ToHashSet()))
        {
            var from = positions.GetValueOrDefault(shard.Id) ?? new ShardPosition.TrimHorizon();
            var worker = new ShardWorker(
                plan.Settings,
                new BatchOrigin(plan.Function.Arn, StreamArn!, shard.Id),
                new ShardCursor(stream, shard.Id, from),
                function,
                onFailure,
                checkpoints,
                telemetry,
                time,
                loggers.CreateLogger<ShardWorker>());
            LogStarted(shard.Id, from);
            lock (_running)
            {
                _running[shard.Id] = (worker, worker.RunAsync(cancellationToken));
            }
        }
    }

    private async Task CollectFinishedAsync()
    {
        foreach (var (shardId, (_, run)) in _running.Where(shard => shard.Value.Run.IsCompleted).ToList())
        {
            lock (_running)
            {
                _running.Remove(shardId);
            }

            await run;
        }
    }

    private async Task EndWorkersAsync(CancellationToken cancelled)
    {
        try
        {
            await Task.WhenAll(_running.Values.Select(shard => shard.Run));
        }
        catch (OperationCanceledException) when (cancelled.IsCancellationRequested)
        {
            // As they were asked to.
        }

        lock (_running)
        {
            _running.Clear();
        }
    }

    /// <summary>Drops the positions of shards that the stream has trimmed away, so that the state stays small.</summary>
    private void Forget(IReadOnlyList<Shard> shards, Checkpoints checkpoints)
    {
        var listed = shards.Select(shard => shard.Id).ToHashSet();
        foreach (var (shardId, (worker, _)) in _running)
        {
            // A listing may also be older than the shard.
            worker.IsListed = listed.Contains(shardId);
        }

        var (forgotten, lost) = ShardOrder.Unlisted(shards, checkpoints.Snapshot());
        foreach (var shardId in lost.Where(shardId => !_running.ContainsKey(shardId)))
        {
            LogGone(shardId);
            checkpoints.Forget(shardId);
        }

        foreach (var shardId in forgotten.Where(shardId => !_running.ContainsKey(shardId)))
        {
            checkpoints.Forget(shardId);
        }
    }

    /// <summary>Tries a call until it works: servers may start late or be restarted under the emulator.</summary>
    private async Task<T> UntilItWorksAsync<T>(Func<CancellationToken, Task<T>> call, CancellationToken cancellationToken)
    {
        for (var failures = 1; ; failures++)
        {
            try
            {
                var result = await call(cancellationToken);
                State = MappingState.Enabled;
                _problem = null;
                return result;
            }
            catch (Exception e) when (ServerFailure.MayPass(e, cancellationToken))
            {
                State = MappingState.Problem;
                _problem = e.Message;
                if (failures is 1 or 10)
                {
                    LogProblem(plan.Table, e.Message, failures);
                }

                await Task.Delay(Backoff.OfServer(failures), time, cancellationToken);
            }
        }
    }

    [LoggerMessage(LogLevel.Information, "{ShardId} is read from {Position}")]
    private partial void LogStarted(string shardId, ShardPosition position);

    [LoggerMessage(LogLevel.Error, "{ShardId} was trimmed from the stream before it was processed to its end: records that were written to it since are lost to this mapping")]
    private partial void LogGone(string shardId);

    [LoggerMessage(LogLevel.Warning, "Table {Table} has another stream than {StreamArn}: that one is not read any more, the new one from the mapping's StartingPosition on")]
    private partial void LogAnotherStream(string table, string streamArn);

    [LoggerMessage(LogLevel.Warning, "The stream of table {Table} cannot be used ({Failures} times in a row), trying again: {Message}")]
    private partial void LogProblem(string table, string message, int failures);
}
