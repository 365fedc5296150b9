using System.Diagnostics.Metrics;
using System.IO.Pipelines;
using Amazon.Lambda.Core;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using Pipeline.Core;
using Pipeline.LambdaEmulator;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Functions;
using Pipeline.LambdaEmulator.Stack;
using Pipeline.Loader;
using Pipeline.Ops;
using Pipeline.Ops.Compact;
using Pipeline.Ops.Quarantine;
using Pipeline.Processor;

namespace Pipeline.Simulation;

/// <summary>
/// The whole system in one world: table, stream, event source mapping, function, bucket, loaders and warehouse. Starts its
/// processes, and starts them again after they died.
/// </summary>
internal sealed class OrderPipeline
{
    private static readonly FunctionDefinition Function = new(
        Names.Function, "arn:aws:lambda:us-east-1:000000000000:function:process_orders", TimeSpan.FromSeconds(60), ReservedConcurrency: null);

    private static readonly Guid MappingId = new("11111111-2222-3333-4444-555555555555");

    /// <summary>Nobody listens to spans and metrics, so one of each does for all runs.</summary>
    private static readonly Telemetry EmulatorTelemetry = new("trace_parent", "us-east-1");
    private static readonly LoaderTelemetry LoadTelemetry = new(new Meters(), new LoaderStatus());

    /// <summary>The worker wants one; its migrations are not part of what is simulated, so it never gets to connect.</summary>
    private static readonly Migrator Migrator = new(NpgsqlDataSource.Create("Host=simulation.invalid"), NullLogger<Migrator>.Instance);

    private static readonly PersonalDataProtector Protector = new(Item.PersonalDataKey);

    private readonly World _world;
    private readonly Schedule _schedule;
    private readonly Faults _faults;
    private readonly Chance _chance;
    private readonly Process[] _loaders;
    private readonly Process[] _environments;

    /// <summary>Deadlines are told as instants, so the mapping and the function share a clock, as on one machine.</summary>
    private readonly TimeSpan _lambdaSkew;
    private readonly Process _client;
    private readonly Caller _clientCalls;
    private Process _emulator;
    private LambdaFunction? _function;
    private int _incarnations;

    public OrderPipeline(World world, Schedule schedule, ISimulatedWarehouse warehouse, Action<Process> committed, Bucket? bucket = null)
    {
        _world = world;
        _schedule = schedule;
        _faults = new Faults(schedule);
        _chance = new Chance(Chance.Mixed(schedule.Seed ^ 0x5157));
        Table = new OrdersTable(world, schedule.Settings, schedule.Seed);
        Bucket = bucket ?? new Bucket(schedule.Settings.ListPage);
        Warehouse = warehouse;
        State = new WarehouseState(committed, key => Bucket.Get(key) is not null);
        _lambdaSkew = Skew();
        _client = NewProcess("client");
        _client.Ended += reason =>
        {
            if (reason is not null)
            {
                world.Violate($"the client failed: {reason}");
            }
        };
        _clientCalls = CallsOf(_client);
        _emulator = StartEmulator();
        _environments = [.. Enumerable.Range(0, schedule.Settings.Environments).Select(StartEnvironment)];
        _loaders = [.. Enumerable.Range(0, schedule.Settings.Loaders).Select(StartLoader)];
        foreach (var operation in schedule.Operations)
        {
            world.After(operation.At, () => Do(operation));
        }
    }

    public OrdersTable Table { get; }

    public Bucket Bucket { get; }

    public SavedCheckpoints Checkpoints { get; } = new();

    public ISimulatedWarehouse Warehouse { get; }

    public WarehouseState State { get; }

    /// <summary>Writes whose success the client knows: order and trace of each.</summary>
    public List<(string OrderId, string TraceParent, bool IsRemoval)> Acknowledged { get; } = [];

    /// <summary>Changes that are in files besides those of the stream, or will be.</summary>
    public HashSet<Change> Snapshots { get; } = [];

    /// <summary>Keys of objects that somebody else put among the change files.</summary>
    public HashSet<string> Junk { get; } = new(StringComparer.Ordinal);

    public IReadOnlyList<Injected> Injected => _faults.Injected;

    /// <summary>The random phase is over: nothing fails any more. Whoever stands still wakes up when it is time, which may be late.</summary>
    public void EndFaults()
    {
        _faults.IsOn = false;
        State.IsMended = true;
    }

    /// <param name="name">For the trace.</param>
    /// <param name="skew">Of its clock; null: a machine of its own, with a clock of its own.</param>
    private Process NewProcess(string name, TimeSpan? skew = null) => new(_world, $"{name}#{++_incarnations}", skew ?? Skew());

    private TimeSpan Skew() => _schedule.Settings.SkewMax * ((2 * _chance.Fraction()) - 1);

    private Caller CallsOf(Process process) => new(_world, process, _faults, _schedule.Seed + (ulong)_incarnations);

    /// <summary>Starts it again after it died or ended, as whoever watches over it would; ending by itself is a fault of its own.</summary>
    private void Supervise(Process process, Action restart)
    {
        void Restart() => _world.After(_chance.Time(0.05, _chance.OneIn(3) ? 20 : 1), restart);
        process.Died += Restart;
        process.Ended += reason =>
        {
            if (process.IsDead)
            {
                return;
            }

            process.Died -= Restart;
            process.Kill();
            if (reason is not null)
            {
                _world.Violate($"{process.Name} ended by itself: {reason}");
            }

            _world.Count("process: stopped in good order");
            Restart();
        };
    }

    private Process StartEmulator()
    {
        var process = NewProcess("emulator", _lambdaSkew);
        var calls = CallsOf(process);
        var function = new LambdaFunction(Function, process, NullLogger<LambdaFunction>.Instance);
        var mapping = new EventSourceMapping(
            new MappingPlan(MappingId, Function, Names.Table, OrdersTable.StreamArn, _schedule.Settings.Mapping.Validated(), null, IsEnabled: true),
            _ => new CheckpointPort(_world, process, _faults, Checkpoints),
            "us-east-1",
            function,
            new StreamPort(calls, Table),
            onFailure: null,
            EmulatorTelemetry,
            process,
            NullLoggerFactory.Instance);
        _function = function;
        Supervise(process, () => _emulator = StartEmulator());
        process.Start(() => mapping.RunAsync(process.Stop.Token));
        return process;
    }

    private Process StartEnvironment(int number)
    {
        var process = NewProcess($"environment {number}", _lambdaSkew);
        var calls = CallsOf(process);
        Supervise(process, () => _environments[number] = StartEnvironment(number));
        process.Start(() => new Environment(_world, calls, new ProcessOrders(new BucketPort(calls, Bucket), _ => ValueTask.FromResult(Protector), process)).RunAsync(() => (_emulator, _function!)));
        return process;
    }

    private Process StartLoader(int number)
    {
        var process = NewProcess($"loader {number}");
        var calls = CallsOf(process);
        var objects = new BucketPort(calls, Bucket);
        var warehouse = new WarehousePort(calls, Warehouse, State);
        var options = Microsoft.Extensions.Options.Options.Create(_schedule.Settings.Loader);
        var status = new LoaderStatus();
        var discovery = new Discovery(objects, warehouse, options, process, NullLogger<Discovery>.Instance);
        var loader = new Loader.Loader(discovery, objects, warehouse, status, LoadTelemetry, options, process, NullLogger<Loader.Loader>.Instance);
        var worker = new LoadWorker(loader, Migrator, status, options, process, NullLogger<LoadWorker>.Instance);
        Supervise(process, () => _loaders[number] = StartLoader(number));
        process.Start(async () =>
        {
            for (var restored = false; !restored;)
            {
                try
                {
                    await loader.RestoreAsync(process.Stop.Token);
                    restored = true;
                }
                catch (WarehouseException)
                {
                    await Task.Delay(TimeSpan.FromSeconds(1), process, process.Stop.Token);
                }
            }

            await worker.RunAsync(process.Stop.Token);
        });
        return process;
    }

    private void Do(Operation operation)
    {
        _world.Note("operation", operation.Kind.ToString(), operation.Target);
        _world.Count($"operation: {operation.Kind}");
        switch (operation.Kind)
        {
            case OperationKind.Create or OperationKind.Update or OperationKind.Remove
                or OperationKind.WritePoison or OperationKind.WriteRefused or OperationKind.WriteLarge:
                _client.Start(() => WriteAsync(operation));
                break;
            case OperationKind.SplitShard:
                Table.Close(operation.Target, split: true);
                break;
            case OperationKind.RollShard:
                Table.Close(operation.Target, split: false);
                break;
            case OperationKind.TrimStream:
                Table.Trim(Checkpoints.Positions ?? []);
                break;
            case OperationKind.PutJunk:
                var key = ObjectKeys.ChangePartition(_world.Now) + (operation.Target % 2 == 0 ? $"{operation.Target}.parquet" : $"{operation.Target}.txt");
                Bucket.Put(key, new byte[operation.Target % 100]);
                Junk.Add(key);
                break;
            case OperationKind.RemoveJunk:
                foreach (var junk in Junk)
                {
                    Bucket.Delete(junk);
                }

                break;
            case OperationKind.CopyFile:
                var files = Bucket.Objects.Where(o => o.Key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal) && !Junk.Contains(o.Key)).ToList();
                if (files.Count > 0)
                {
                    var (_, content) = files[operation.Target % files.Count];
                    var hour = _world.Now.AddHours(-(operation.Target % 50));
                    Bucket.Put($"{ObjectKeys.ChangePartition(hour)}copy-{operation.Target}.parquet", content.Bytes);
                    _world.Count("object: copied");
                }

                break;
            case OperationKind.MendWarehouse:
                State.IsMended = true;
                break;
            case OperationKind.Redrive:
                Redrive();
                break;
            case OperationKind.ReadTable:
                ReadTable(operation);
                break;
            case OperationKind.Compact:
                Compact();
                break;
            case OperationKind.Discard:
                Operate(desk => DiscardAsync(desk, operation.Target));
                break;
            case OperationKind.KillEmulator:
                _emulator.Kill();
                break;
            case OperationKind.StopEmulator:
                Stop(_emulator);
                break;
            case OperationKind.PauseEmulator:
                Pause(_emulator, operation);
                break;
            case OperationKind.KillEnvironment:
                _environments[operation.Target % _environments.Length].Kill();
                break;
            case OperationKind.PauseEnvironment:
                Pause(_environments[operation.Target % _environments.Length], operation);
                break;
            case OperationKind.KillLoader:
                _loaders[operation.Target % _loaders.Length].Kill();
                break;
            case OperationKind.StopLoader:
                Stop(_loaders[operation.Target % _loaders.Length]);
                break;
            case OperationKind.PauseLoader:
                Pause(_loaders[operation.Target % _loaders.Length], operation);
                break;
        }
    }

    /// <summary>The operator brings back all that is parked.</summary>
    public void Redrive() => Operate(async desk =>
    {
        var parked = await desk.ListAsync(progress: null, CancellationToken.None);
        foreach (var redriven in await desk.RedriveAsync([.. parked.Select(p => p.Key)], protector: null, progress: null, CancellationToken.None))
        {
            _world.Count($"redrive: {redriven.Result}");
        }
    });

    private async Task DiscardAsync(QuarantineDesk desk, int target)
    {
        var parked = await desk.ListAsync(progress: null, CancellationToken.None);
        if (parked.Count == 0)
        {
            return;
        }

        var key = parked[target % parked.Count].Key;
        try
        {
            await DiscardAsync();
        }
        catch (Loader.ObjectStoreException)
        {
            // The operator does not know whether it was done and enters the same command again.
            await DiscardAsync();
        }

        async Task DiscardAsync() => _world.Count($"discard: {await desk.DiscardAsync(key, "simulated", "operator", CancellationToken.None)}");
    }

    /// <summary>
    /// What a backfill does: the images as they are now, ranked before everything of the stream, in a change file that is
    /// written while changes go on. Killed or refused, it is started again until all that was read is stored.
    /// </summary>
    private void ReadTable(Operation operation)
    {
        var now = new DateTimeOffset(_world.Now.UtcTicks - (_world.Now.UtcTicks % TimeSpan.TicksPerSecond), TimeSpan.Zero);
        List<Change> read = [];
        foreach (var decoded in Table.Items.Select(item => item.Decoded).OfType<Change>())
        {
            var snapshot = decoded with { Operation = Core.Operation.Snapshot, SequenceNumber = SequenceNumber.Zero, ChangedAt = now };
            read.Add(snapshot with { EventId = ObjectKeys.SnapshotId(snapshot) });
        }

        Snapshots.UnionWith(read);
        Write();

        void Write()
        {
            var process = NewProcess("backfill");
            var calls = CallsOf(process);
            process.Died += Again;
            process.Ended += reason =>
            {
                _world.Count(reason is null ? "backfill: done" : "backfill: failed");
                if (reason is Loader.ObjectStoreException)
                {
                    Again();
                }
                else if (reason is not null)
                {
                    _world.Violate($"the backfill failed: {reason}");
                }
            };
            process.Start(async () =>
            {
                await calls.PauseAsync(new Chance(operation.Detail).Time(0, 20));
                var writer = new ChangeWriter(new BucketPort(calls, Bucket), process, rowsMax: 3);
                await writer.AddAsync(read, CancellationToken.None);
                await writer.FlushAsync(CancellationToken.None);
            });
        }

        void Again() => _world.After(_chance.Time(0.5, 5), Write);
    }

    /// <summary>The present hour counts as closed, too: files come to it while its other ones are merged.</summary>
    private void Compact()
    {
        var process = NewProcess("compaction");
        var calls = CallsOf(process);
        var warehouse = new WarehousePort(calls, Warehouse, State);
        var run = new CompactRun(
            new BucketPort(calls, Bucket), warehouse, warehouse.ForgetLedgerAsync, process.GetUtcNow().AddHours(1), new CompactLimits(RowsMax: 6), dryRun: false);
        process.Ended += reason =>
        {
            _world.Count(reason is null ? "compaction: done" : "compaction: failed");

            // Another compaction may have taken away what this one wrote.
            if (reason is not (null or Loader.ObjectStoreException or WarehouseException or OperatorException))
            {
                _world.Violate($"the compaction failed: {reason}");
            }
        };
        process.Start(() => run.RunAsync(CancellationToken.None));
    }

    /// <summary>A command of the operator's is a process of its own; a killed one is not started again.</summary>
    private void Operate(Func<QuarantineDesk, Task> command)
    {
        var process = NewProcess("operator");
        var desk = new QuarantineDesk(new BucketPort(CallsOf(process), Bucket), process);
        process.Ended += reason =>
        {
            _world.Count(reason is null ? "operator: done" : "operator: failed");
            if (reason is not (null or Loader.ObjectStoreException))
            {
                _world.Violate($"the operator's command failed: {reason}");
            }
        };
        process.Start(() => command(desk));
    }

    private static void Stop(Process process) => process.Post(process.Stop.Cancel);

    private static void Pause(Process process, Operation operation) =>
        process.Pause(new Chance(operation.Detail).Time(0.5, operation.Target % 3 == 0 ? 150 : 10));

    /// <summary>A client that writes as the Orders API does: conditionally, and once, also when an answer is lost.</summary>
    private async Task WriteAsync(Operation operation)
    {
        const int AttemptsMax = 2;
        var chance = new Chance(operation.Detail);
        var number = operation.Target % _schedule.Settings.Orders;
        var orderId = $"order-{number}";
        var known = Table.Read(orderId);
        var isVersioned = number >= _schedule.Settings.UnversionedOrders;
        Item? next = null;
        switch (operation.Kind)
        {
            case OperationKind.Create when known is not null:
            case OperationKind.Update or OperationKind.Remove when known is null:
                _world.Count("client: refused");
                return;
            case OperationKind.Remove:
                break;
            default:
                var now = _client.GetUtcNow();
                next = Item.Of(
                    orderId, (known?.Count ?? 0) + 1, isVersioned, known?.CreatedAt ?? now, now,
                    operation.Kind == OperationKind.WritePoison ? chance.Below(Item.PoisonKinds) : null,
                    operation.Kind == OperationKind.WriteRefused, operation.Kind == OperationKind.WriteLarge, chance);
                break;
        }

        for (var attempt = 1; attempt <= AttemptsMax; attempt++)
        {
            try
            {
                // With the item as it is when the condition fails (ALL_OLD).
                var (written, present) = await _clientCalls.CallAsync(
                    Port.TableWrite, orderId,
                    _ => (Table.TryWrite(orderId, known?.TraceParent, next), Table.Read(orderId)?.TraceParent),
                    message => new IOException(message), CancellationToken.None);

                // An item that has this write's own trace was written by an attempt whose answer was lost.
                if (written || (next is not null && present == next.TraceParent))
                {
                    Acknowledged.Add((orderId, next?.TraceParent ?? known!.TraceParent, next is null));
                    _world.Count(written ? "client: acknowledged" : "client: acknowledged after a lost answer");
                    return;
                }

                _world.Count("client: conflict");
                return;
            }
            catch (IOException)
            {
                await _clientCalls.PauseAsync(TimeSpan.FromMilliseconds(100 * attempt));
            }
        }

        _world.Count("client: gave up");
    }

    /// <summary>An environment of the function: asks for one batch after the other, as the Runtime API's client does.</summary>
    private sealed class Environment(World world, Caller calls, ProcessOrders function) : IConnectionLifetimeFeature, ILambdaContext, ILambdaLogger
    {
        private CancellationTokenSource Closed { get; } = new();
        private Delivery? _delivery;

        public CancellationToken ConnectionClosed
        {
            get => Closed.Token;
            set => throw new NotSupportedException();
        }

        /// <summary>The server closes no connection.</summary>
        public void Abort() => throw new NotSupportedException();

        public async Task RunAsync(Func<(Process Process, LambdaFunction Function)> emulator)
        {
            while (true)
            {
                var (process, served) = emulator();
                if (await NextAsync(process, served) is not { } delivery)
                {
                    await calls.PauseAsync(TimeSpan.FromMilliseconds(500));
                    continue;
                }

                _delivery = delivery;
                var outcome = await InvokeAsync(delivery.Invocation.Payload);
                try
                {
                    await calls.CallAsync(
                        Port.FunctionAnswer, outcome.GetType().Name,
                        _ =>
                        {
                            process.Post(() => world.Count(served.TryComplete(delivery.Invocation.RequestId, outcome) ? "answer: taken" : "answer: too late"));
                            return true;
                        },
                        message => new HttpRequestException(message), CancellationToken.None);
                }
                catch (HttpRequestException)
                {
                    // As in the entry point: the batch comes again, whatever became of the answer.
                    await calls.PauseAsync(TimeSpan.FromSeconds(1));
                }
            }
        }

        /// <summary>Null: the emulator is gone.</summary>
        private Task<Delivery?> NextAsync(Process emulator, LambdaFunction served)
        {
            var next = new TaskCompletionSource<Delivery?>();
            if (emulator.IsDead)
            {
                return Task.FromResult<Delivery?>(null);
            }

            var http = new DefaultHttpContext();
            http.Connection.Id = calls.Process.Name;
            http.Request.Headers.UserAgent = "aws-lambda-dotnet/simulation";
            http.Features.Set<IConnectionLifetimeFeature>(this);
            emulator.Died += () => world.After(TimeSpan.FromMilliseconds(1), () => next.TrySetResult(null));
            calls.Process.Died += () => emulator.Post(Closed.Cancel);
            emulator.Post(() => _ = AskAsync());
            return next.Task;

            async Task AskAsync()
            {
                try
                {
                    var delivery = await served.NextAsync(served.Client.Of(http), Closed.Token);
                    world.After(TimeSpan.FromMilliseconds(0.5), () => next.TrySetResult(delivery));
                }
                catch (OperationCanceledException)
                {
                    // The environment is gone.
                }
            }
        }

        private async Task<InvocationOutcome> InvokeAsync(EventPayload payload)
        {
            try
            {
                using var json = new MemoryStream((int)payload.Length);
                await payload.WriteToAsync(PipeWriter.Create(json, new StreamPipeWriterOptions(leaveOpen: true)), CancellationToken.None);
                var bytes = json.GetBuffer().AsMemory(0, (int)json.Length);
                using (var unused = new ChangeFileWriter())
                {
                    // Both ways have to be taken: a fault of the one that no batch takes would not be found.
                    world.Count(BatchReader.TryRead(bytes.Span, Protector, unused, traceParents: null) is null ? "function: record by record" : "function: one pass");
                }

                var response = await function.HandleAsync(bytes, this);
                world.Count(response.BatchItemFailures.Count == 0 ? "function: stored" : "function: reported a failure");
                using var answer = new MemoryStream();
                EntryPoint.Serializer.Serialize(response, answer);
                return new InvocationOutcome.Answered(answer.ToArray());
            }
            catch (Exception e) when (e is not InvalidOperationException)
            {
                world.Count("function: threw");
                world.Note("function threw", e.ToString());
                return new InvocationOutcome.Failed(e.GetType().Name, e.Message);
            }
        }

        public TimeSpan RemainingTime => _delivery!.Deadline - calls.Process.GetUtcNow();

        public string AwsRequestId => "simulated";

        public ILambdaLogger Logger => this;

        public string FunctionName => Names.Function;

        public string FunctionVersion => "$LATEST";

        public string InvokedFunctionArn => Function.Arn;

        public string LogGroupName => "";

        public string LogStreamName => "";

        public int MemoryLimitInMB => 1_769;

        public IClientContext ClientContext => null!;

        public ICognitoIdentity Identity => null!;

        public void Log(string message)
        {
        }

        public void LogLine(string message)
        {
        }

        public void Log(Amazon.Lambda.Core.LogLevel level, string message, params object[] args)
        {
        }

        public void Log(Amazon.Lambda.Core.LogLevel level, Exception exception, string message, params object[] args)
        {
        }

        public void LogInformation(string message, params object[] args)
        {
        }

        public void LogWarning(string message, params object[] args)
        {
        }

        public void LogError(string message, params object[] args)
        {
        }

        public void LogError(Exception exception, string message, params object[] args)
        {
        }
    }

    private sealed class Meters : IMeterFactory
    {
        public Meter Create(MeterOptions options) => new(options);

        public void Dispose()
        {
        }
    }
}
