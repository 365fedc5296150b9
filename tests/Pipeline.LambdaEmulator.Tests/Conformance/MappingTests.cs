using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Stack;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>
/// A whole mapping between a scripted stream and a function behind the Runtime API. The mapping's time is virtual and goes
/// on while something is waited for; the function's and the HTTP client's is real.
/// </summary>
public sealed class MappingTests : IAsyncLifetime
{
    private static readonly MappingSettings Settings = ScriptedShard.Defaults with { ReportBatchItemFailures = true };

    private readonly string _state = Directory.CreateTempSubdirectory().FullName;
    private readonly List<int> _processed = [];
    private readonly Telemetry _telemetry = new("trace_parent", "us-east-1");
    private readonly FakeTimeProvider _time = new(DateTimeOffset.UtcNow);
    private ScriptedStream _stream = null!;
    private FunctionHost _function = null!;

    public async ValueTask InitializeAsync()
    {
        _stream = await ScriptedStream.StartAsync();
        _function = await FunctionHost.StartAsync();
        _ = _function.StartEnvironment(Handle);
    }

    public async ValueTask DisposeAsync()
    {
        await _function.DisposeAsync();
        await _stream.DisposeAsync();
        _telemetry.Dispose();
        Directory.Delete(_state, recursive: true);
    }

    [Fact]
    [Rule(Pages.Create, "TRIM_HORIZON: from the oldest record in the stream.")]
    public async Task Trim_horizon_reads_what_is_there_and_what_comes()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1, 2, 3);
        await using var mapping = Start();
        await ProcessedAsync(1, 2, 3);
        _stream.Write("s", 4);
        await ProcessedAsync(1, 2, 3, 4);
        Assert.Equal(MappingState.Enabled, mapping.State);
    }

    [Fact]
    [Rule(Pages.Create, "LATEST: only what is written after the mapping exists.")]
    public async Task Latest_skips_what_is_there()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1, 2, 3);
        await using var mapping = Start(Settings with { StartingPosition = StartingPosition.Latest });
        await UntilAsync(() => mapping.Mapping.Shards().Count == 1);
        _stream.Write("s", 4, 5);
        await ProcessedAsync(4, 5);
    }

    [Fact]
    [Rule(Pages.Create, "LATEST is where the mapping begins, not where every start of it begins.")]
    public async Task Latest_does_not_skip_what_is_written_while_the_emulator_is_down()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1);
        await using (var first = Start(Settings with { StartingPosition = StartingPosition.Latest }))
        {
            await UntilAsync(() => first.Mapping.Shards().Count == 1);
            // On disk before anything is read: a kill right now would not lose it.
            var saved = new CheckpointFile(_state, first.Mapping.Plan.Id, _stream.StreamArn).Load();
            Assert.Equal(new ShardPosition.After(ScriptedShard.SequenceNumber(1)), saved!["s"]);
        }

        _stream.Write("s", 2);
        await using var second = Start(Settings with { StartingPosition = StartingPosition.Latest });
        await ProcessedAsync(2);
    }

    [Fact]
    [Rule(Pages.Create, "LATEST: closed shards are behind it, shards that appear later are read from their beginning.")]
    public async Task Latest_skips_closed_shards_and_reads_new_ones_whole()
    {
        _stream.AddShard("parent");
        _stream.Write("parent", 1);
        _stream.Close("parent");
        _stream.AddShard("child", "parent");
        _stream.Write("child", 2);
        await using (var first = Start(Settings with { StartingPosition = StartingPosition.Latest }))
        {
            await UntilAsync(() => first.Mapping.Shards().Count == 1);
        }

        _stream.Close("child");
        _stream.AddShard("grandchild", "child");
        _stream.Write("grandchild", 3);
        await using var second = Start(Settings with { StartingPosition = StartingPosition.Latest });
        await ProcessedAsync(3);
    }

    [Fact]
    [Rule(Pages.Streams, "Parents are processed before their children, closed and empty shards included.")]
    public async Task A_split_shard_is_read_parents_first()
    {
        _stream.ShardsPerPage = 2;
        _stream.AddShard("child 1", "empty");
        _stream.AddShard("child 2", "empty");
        _stream.AddShard("empty", "parent");
        _stream.AddShard("parent");
        _stream.Write("parent", 1, 2);
        _stream.Write("child 1", 3, 5);
        _stream.Write("child 2", 4);
        _stream.Close("empty");
        _stream.Close("parent");
        await using var mapping = Start();
        await UntilAsync(() => Processed().Count == 5);
        Assert.Equal([1, 2], Processed().Take(2));
        Assert.Equal([1, 2, 3, 4, 5], Processed().Order());
    }

    [Fact]
    [Rule(Pages.Streams, "A shard splits while it is read: its last records come before its child's first.")]
    public async Task A_shard_that_splits_while_it_is_read_is_finished_first()
    {
        _stream.AddShard("parent");
        _stream.Write("parent", 1);
        await using var mapping = Start();
        await ProcessedAsync(1);
        _stream.AddShard("child", "parent");
        _stream.Write("child", 3);
        _stream.Write("parent", 2);
        _stream.Close("parent");
        await ProcessedAsync(1, 2, 3);
    }

    [Fact]
    [Rule(Pages.Iterator, "An iterator expires after 15 minutes: reading goes on from the last record.")]
    public async Task Reading_goes_on_after_an_iterator_expired()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1);
        await using var mapping = Start();
        await ProcessedAsync(1);
        _stream.ExpireIterators();
        _stream.Write("s", 2);
        await ProcessedAsync(1, 2);
    }

    [Fact]
    [Rule(Pages.Streams, "Records are trimmed after 24 hours: a position that is gone goes on with the oldest that is left.")]
    public async Task A_trimmed_position_goes_on_with_the_oldest_record()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1);
        await using (var first = Start())
        {
            await ProcessedAsync(1);
            await CheckpointAsync(first, 1);
        }

        _stream.Write("s", 2, 3, 4);
        _stream.Trim("s", 3);
        await using var mapping = Start();
        await ProcessedAsync(1, 4);
    }

    [Fact]
    [Rule(Pages.Streams, "A shard that was trimmed away is no obstacle for its children.")]
    public async Task A_shard_that_is_gone_does_not_stop_its_children()
    {
        _stream.AddShard("parent");
        _stream.Write("parent", 1);
        await using (var first = Start())
        {
            await ProcessedAsync(1);
            await CheckpointAsync(first, 1);
        }

        _stream.AddShard("child", "parent");
        _stream.Write("child", 2);
        _stream.Remove("parent");
        await using var mapping = Start();
        await ProcessedAsync(1, 2);
    }

    [Fact]
    [Rule(Pages.Streams, "A shard is trimmed away when it is neither listed nor found.", Choice = "Undocumented: a shard that is not listed is read on, and a read that fails for another reason is repeated. A listing may be older than the shard.")]
    public async Task A_shard_that_is_only_not_listed_is_read_on()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1);
        await using var mapping = Start();
        await ProcessedAsync(1);
        _stream.List("s", false);
        await LookedAsync();
        _stream.FailNext("GetRecords", 3, 500, "InternalServerError");
        _stream.Write("s", 2);
        await ProcessedAsync(1, 2);

        _stream.List("s", true);
        await LookedAsync();
        _stream.FailNext("GetRecords", 3, 400, "ResourceNotFoundException");
        _stream.Write("s", 3);
        await ProcessedAsync(1, 2, 3);
    }

    [Fact]
    [Rule(Pages.Streams, "A shard that is trimmed away while it is read ends, and its children follow.")]
    public async Task A_shard_that_is_trimmed_away_while_it_is_read_makes_room_for_its_children()
    {
        _stream.AddShard("parent");
        _stream.Write("parent", 1);
        await using var mapping = Start();
        await ProcessedAsync(1);
        _stream.AddShard("child", "parent");
        _stream.Write("child", 2);
        _stream.Remove("parent");
        await ProcessedAsync(1, 2);
    }

    [Fact]
    [Rule(Pages.Using, "Throttled and failing reads of the stream are repeated.")]
    public async Task Reads_that_fail_are_repeated()
    {
        _stream.AddShard("s");
        _stream.FailNext("DescribeTable", 2, 500, "InternalServerError");
        _stream.FailNext("DescribeStream", 2, 400, "LimitExceededException");
        _stream.FailNext("GetShardIterator", 2, 500, "InternalServerError");
        _stream.FailNext("GetRecords", 2, 400, "ProvisionedThroughputExceededException");
        _stream.Write("s", 1, 2);
        await using var mapping = Start();
        await ProcessedAsync(1, 2);
    }

    [Fact]
    [Rule(Pages.Using, "Reads of the stream that time out are repeated.")]
    public async Task Reads_that_take_too_long_are_repeated()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1, 2);
        _stream.DelayNext("DescribeStream", 1, TimeSpan.FromSeconds(60));
        _stream.DelayNext("GetRecords", 1, TimeSpan.FromSeconds(60));
        await using var mapping = new RunningMapping(Create(Settings, callTimeout: TimeSpan.FromMilliseconds(500)));
        await ProcessedAsync(1, 2);
    }

    [Fact]
    [Rule(Pages.Using, "Each record is processed at least once; processing goes on behind the checkpoint.")]
    public async Task A_restart_skips_and_repeats_nothing_that_was_checkpointed()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1, 2, 3);
        await using (var first = Start())
        {
            await ProcessedAsync(1, 2, 3);
            await CheckpointAsync(first, 3);
        }

        _stream.Write("s", 4);
        await using var mapping = Start();
        await ProcessedAsync(1, 2, 3, 4);
    }

    [Fact]
    [Rule(Pages.Using, "A mapping belongs to a stream: a table that was created anew is read from the starting position.")]
    public async Task A_table_that_was_created_anew_is_read_from_the_start()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1, 2);
        await using (var first = Start())
        {
            await ProcessedAsync(1, 2);
            await CheckpointAsync(first, 2);
        }

        _stream.StreamArn = _stream.StreamArn.Replace("2026-01-01", "2026-02-02", StringComparison.Ordinal);
        await using var mapping = Start();
        await ProcessedAsync(1, 2, 1, 2);
    }

    [Fact]
    [Rule(Pages.Using, "A mapping belongs to a stream.", Choice = "In Lambda the mapping of a table that is deleted and created has to be made anew. Here it follows the table, within 10 seconds, and reads the new stream from the starting position.")]
    public async Task A_table_that_is_created_anew_meanwhile_is_read_from_the_start()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1, 2);
        await using var mapping = Start();
        await ProcessedAsync(1, 2);
        await CheckpointAsync(mapping, 2);
        _stream.FailNext("DescribeTable", 3, 400, "ResourceNotFoundException");
        _stream.StreamArn = _stream.StreamArn.Replace("2026-01-01", "2026-02-02", StringComparison.Ordinal);
        await ProcessedAsync(1, 2, 1, 2);
        Assert.Equal(_stream.StreamArn, mapping.Mapping.StreamArn);
        _stream.Write("s", 3);
        await ProcessedAsync(1, 2, 1, 2, 3);
    }

    [Fact]
    [Rule(Pages.Partial, "Reported records are retried until they succeed; nothing overtakes them.")]
    public async Task A_reported_record_is_retried_before_anything_behind_it()
    {
        _stream.AddShard("s");
        _stream.Write("s", [.. Enumerable.Range(1, 20)]);
        _failOnce.Add(7);
        await using var mapping = Start();
        await ProcessedAsync([.. Enumerable.Range(1, 20)]);
    }

    [Fact]
    [Rule(Pages.Create, "Enabled false: Lambda reads nothing and invokes nothing.")]
    public async Task A_disabled_mapping_reads_nothing()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1);
        var mapping = Create(Settings, isEnabled: false);
        await mapping.RunAsync(TestContext.Current.CancellationToken);
        Assert.Equal(MappingState.Disabled, mapping.State);
        Assert.Empty(_stream.Calls);
    }

    [Fact]
    public async Task A_corrupt_checkpoint_stops_the_mapping()
    {
        _stream.AddShard("s");
        var mapping = Create(Settings);
        await File.WriteAllTextAsync(new CheckpointFile(_state, mapping.Plan.Id, _stream.StreamArn).Path, "{", TestContext.Current.CancellationToken);
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        ends.CancelAfter(TimeSpan.FromSeconds(10));
        await Assert.ThrowsAsync<InvalidDataException>(() => mapping.RunAsync(ends.Token));
    }

    [Fact]
    public async Task A_stream_that_is_not_there_is_a_problem_that_can_be_seen()
    {
        _stream.FailNext("DescribeTable", 1000, 400, "ResourceNotFoundException");
        await using var mapping = Start();
        await UntilAsync(() => mapping.State == MappingState.Problem);
        Assert.Equal("ResourceNotFoundException on purpose", mapping.Mapping.Problem);
    }

    [Fact]
    public async Task What_a_shard_is_doing_can_be_seen()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1);
        await using (var first = Start())
        {
            await CheckpointAsync(first, 1);
            Assert.Equal(ShardState.Idle, first.Mapping.Shards().Single().State);
            _failAlways = 2;
            _stream.Write("s", 2);
            await UntilAsync(() => first.Mapping.Shards().Single() is { State: ShardState.Retrying, Attempts: >= 2, RecordsBuffered: 1 });
        }

        // Known from the checkpoint file, before anything is processed anew.
        await using var second = Start();
        await UntilAsync(() => second.Mapping.Shards() is [{ RecordsBuffered: 1 }]);
        Assert.Equal(ScriptedShard.SequenceNumber(1), second.Mapping.Shards().Single().Checkpoint);
    }

    [Fact]
    public async Task A_shard_that_cannot_be_read_is_a_problem_of_its_mapping()
    {
        _stream.AddShard("s");
        _stream.Write("s", 1);
        await using var mapping = Start();
        await ProcessedAsync(1);
        Assert.Null(mapping.Mapping.Problem);
        _stream.FailNext("GetRecords", 1000, 500, "InternalServerError");
        await UntilAsync(() => mapping.Mapping.Problem is not null);
        Assert.Equal("s cannot be read: InternalServerError on purpose", mapping.Mapping.Problem);
        Assert.Equal(ShardState.Unreadable, mapping.Mapping.Shards().Single().State);
    }

    private readonly HashSet<int> _failOnce = [];

    /// <summary>A record that is reported whenever it comes.</summary>
    private int? _failAlways;

    /// <summary>The function: takes note of what it got; reports a record that is to fail once and leaves the rest.</summary>
    private string Handle(string json)
    {
        foreach (var record in JsonNode.Parse(json)!["Records"]!.AsArray())
        {
            var sequenceNumber = record!["dynamodb"]!["SequenceNumber"]!.ToString();
            var number = int.Parse(sequenceNumber, System.Globalization.CultureInfo.InvariantCulture);
            if (_failOnce.Remove(number) || number == _failAlways)
            {
                return $$"""{"batchItemFailures":[{"itemIdentifier":"{{sequenceNumber}}"}]}""";
            }

            lock (_processed)
            {
                _processed.Add(number);
            }
        }

        return "{}";
    }

    private List<int> Processed()
    {
        lock (_processed)
        {
            return [.. _processed];
        }
    }

    /// <summary>Exactly these are processed until now, in this order.</summary>
    private async Task ProcessedAsync(params int[] numbers)
    {
        await UntilAsync(() => Processed().Count >= numbers.Length);
        Assert.Equal(numbers, Processed());
    }

    private EventSourceMapping Create(MappingSettings settings, bool isEnabled = true, TimeSpan? callTimeout = null)
    {
        var client = new DynamoDbStreamsClient(
            new BasicAWSCredentials("local", "local"),
            new AmazonDynamoDBConfig { ServiceURL = _stream.Url.ToString(), AuthenticationRegion = "us-east-1", MaxErrorRetry = 0, Timeout = callTimeout ?? TimeSpan.FromSeconds(20) });
        var plan = new MappingPlan(
            new Guid("11111111-2222-3333-4444-555555555555"), _function.Function.Definition, _stream.Table, null, settings.Validated(), null, isEnabled);
        return new EventSourceMapping(
            plan, streamArn => new CheckpointFile(_state, plan.Id, streamArn), "us-east-1", _function.Function, client, null, _telemetry, _time, NullLoggerFactory.Instance);
    }

    /// <summary>What the function got is only done once its answer has arrived.</summary>
    private Task CheckpointAsync(RunningMapping mapping, int sequenceNumber) =>
        UntilAsync(() => mapping.Mapping.Shards().Any(shard => shard.Checkpoint == ScriptedShard.SequenceNumber(sequenceNumber)));

    /// <summary>Lets the mapping's waits pass, however many there are, until something has happened.</summary>
    private Task UntilAsync(Func<bool> condition) => Poll.UntilAsync(() =>
    {
        _time.Advance(TimeSpan.FromMilliseconds(50));
        return condition();
    });

    /// <summary>The mapping has looked at the stream's shards and taken note of what it saw.</summary>
    private async Task LookedAsync()
    {
        var before = Looks();
        // When the second look begins, the first one that began after now is over.
        await UntilAsync(() => Looks() >= before + 2);

        int Looks() => _stream.Calls.Count(call => call == "DescribeStream");
    }

    private RunningMapping Start(MappingSettings? settings = null) => new(Create(settings ?? Settings));

    private sealed class RunningMapping : IAsyncDisposable
    {
        private readonly CancellationTokenSource _ends = new();
        private readonly Task _run;

        public RunningMapping(EventSourceMapping mapping)
        {
            Mapping = mapping;
            _run = mapping.RunAsync(_ends.Token);
        }

        public EventSourceMapping Mapping { get; }

        public MappingState State => Mapping.State;

        public async ValueTask DisposeAsync()
        {
            await _ends.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => _run);
            _ends.Dispose();
        }
    }
}
