namespace Pipeline.Simulation;

/// <summary>Where a process meets something that is not in its own memory.</summary>
internal enum Port
{
    TableWrite,
    DescribeStream,
    GetShardIterator,
    GetRecords,
    SaveCheckpoint,
    FunctionAnswer,
    Put,
    List,
    Get,
    Delete,
    ReadLedger,
    ReadFailures,
    RecordFailure,
    ForgetFailure,
    CountWaiting,
    Releasable,
    ForgetWaiting,
    Begin,
    Settled,
    Stage,
    DropKnown,
    HoldBack,
    InsertHistory,
    MergeCurrent,
    RecordLedger,
    Commit,
    ForgetLedger,
}

/// <summary>What may go wrong with one call.</summary>
internal enum Fault
{
    /// <summary>503, throttled, or no connection: an error, and no effect.</summary>
    Refused,

    /// <summary>It took effect, and the caller gets an error.</summary>
    AnswerLost,

    /// <summary>It takes long, both ways.</summary>
    Slow,

    /// <summary>The caller gets an error, and the effect comes long after it.</summary>
    LateEffect,

    /// <summary>The caller is killed with the call on its lips.</summary>
    KilledBefore,

    /// <summary>It took effect, and the caller is killed before it knows.</summary>
    KilledAfter,

    /// <summary>The caller stands still before the call is sent, for seconds or minutes, and then goes on as if nothing had been.</summary>
    PausedBefore,

    /// <summary>The same between the effect and the answer.</summary>
    PausedAfter,

    /// <summary>Serialization failure or deadlock: the transaction is gone, and the caller is told so.</summary>
    Conflict,

    /// <summary>The iterator is older than it may be.</summary>
    ExpiredIterator,

    /// <summary>GetRecords gives fewer records than there are, or none.</summary>
    ShortPage,

    /// <summary>New shards are not listed yet.</summary>
    StaleListing,
}

/// <summary>One fault: the call, counted from 0 at its port, and what happened to it.</summary>
internal readonly record struct Injected(Port Port, int Call, Fault Fault)
{
    public override string ToString() => $"{Port} {Call}: {Fault}";
}

/// <summary>
/// Decides which calls go wrong. At first by chance, each seed with its own mixture; what was injected is kept, so that
/// a failing run can be repeated with fewer faults.
/// </summary>
internal sealed class Faults
{
    private static readonly Fault[] Everywhere =
        [Fault.Refused, Fault.AnswerLost, Fault.Slow, Fault.KilledBefore, Fault.KilledAfter, Fault.PausedBefore, Fault.PausedAfter];

    private static readonly Fault[][] ByPort = [.. Enum.GetValues<Port>().Select(Possible)];

    private readonly Dictionary<(Port, int), Fault>? _given;
    private readonly ulong _seed;
    private readonly double _rate;
    private readonly bool[] _enabled;
    private readonly int[] _calls = new int[ByPort.Length];

    public Faults(Schedule schedule)
    {
        _seed = Chance.Mixed(schedule.Seed ^ 0xFA17);
        _rate = schedule.Settings.FaultRate;
        _enabled = schedule.Settings.FaultsEnabled;
        _given = schedule.Faults?.ToDictionary(f => (f.Port, f.Call), f => f.Fault);
    }

    /// <summary>Off once the random phase is over.</summary>
    public bool IsOn { get; set; } = true;

    public List<Injected> Injected { get; } = [];

    /// <summary>Every fault that a port can have, for the summary of what was exercised.</summary>
    public static IEnumerable<(Port Port, Fault Fault)> All => Enum.GetValues<Port>().SelectMany(port => ByPort[(int)port].Select(fault => (port, fault)));

    public (int Call, Fault? Fault) Draw(Port port)
    {
        var call = _calls[(int)port]++;
        if (!IsOn)
        {
            return (call, null);
        }

        Fault? fault = null;
        if (_given is not null)
        {
            fault = _given.TryGetValue((port, call), out var given) ? given : null;
        }
        else if (_rate > 0)
        {
            // From the place alone, so that it does not depend on what else happened.
            var chance = new Chance(Chance.Mixed(_seed ^ ((ulong)port << 32) ^ (uint)call));
            if (chance.Fraction() < _rate * WeightOf(port))
            {
                var drawn = chance.Of(ByPort[(int)port]);
                fault = _enabled[(int)drawn] ? drawn : null;
            }
        }

        if (fault is { } injected)
        {
            Injected.Add(new Injected(port, call, injected));
        }

        return (call, fault);
    }

    /// <summary>What is called all the time, whether there is something to do or not, must not take all of the faults.</summary>
    private static double WeightOf(Port port) => port switch
    {
        Port.List or Port.GetRecords or Port.DescribeStream or Port.ReadLedger or Port.CountWaiting => 0.4,
        Port.ForgetFailure or Port.RecordFailure or Port.Releasable or Port.ForgetWaiting or Port.HoldBack or Port.Delete => 6,
        // Reached only where many calls before it went well, which is where faults are rare.
        Port.ForgetLedger => 30,
        _ => 2,
    };

    private static Fault[] Possible(Port port) => port switch
    {
        Port.TableWrite => [Fault.Refused, Fault.AnswerLost, Fault.Slow, Fault.LateEffect],
        Port.DescribeStream => [.. Everywhere, Fault.StaleListing],
        Port.GetRecords => [.. Everywhere, Fault.ExpiredIterator, Fault.ShortPage],
        // A file: it is written or not, at once.
        Port.SaveCheckpoint => [Fault.Refused, Fault.KilledBefore, Fault.KilledAfter],
        Port.Put => [.. Everywhere, Fault.LateEffect],
        Port.Begin or Port.Settled or Port.Stage or Port.DropKnown or Port.HoldBack or Port.InsertHistory or Port.MergeCurrent or Port.RecordLedger or Port.Commit or Port.RecordFailure =>
            [.. Everywhere, Fault.Conflict],
        _ => Everywhere,
    };
}

/// <summary>Makes the calls of one process, each with its latency and what may go wrong with it.</summary>
internal sealed class Caller(World world, Process process, Faults faults, ulong seed)
{
    private static readonly string[] Names = Enum.GetNames<Port>();

    private readonly Chance _chance = new(Chance.Mixed(seed));

    public World World => world;

    public Process Process => process;

    public Chance Chance => _chance;

    /// <summary>Sends a call whose effect takes place at one instant.</summary>
    public Task<T> CallAsync<T>(Port port, string? what, Func<Fault?, T> effect, Func<string, Exception> failed, CancellationToken cancellationToken) =>
        SendAsync(port, what, fault => Task.FromResult(effect(fault)), failed, cancellationToken);

    /// <summary>
    /// Sends a call: some time later it takes effect, which may itself have to wait for something, and some time after that
    /// the answer is there. A caller that does not wait any more does not take back the call.
    /// </summary>
    /// <param name="port">Where it goes.</param>
    /// <param name="what">For the trace.</param>
    /// <param name="effect">Done by the server. It is told of the fault, for those that only it can commit.</param>
    /// <param name="failed">The exception that the production code makes of an outage.</param>
    /// <param name="cancellationToken">Ends the wait for the answer.</param>
    public async Task<T> SendAsync<T>(Port port, string? what, Func<Fault?, Task<T>> effect, Func<string, Exception> failed, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var (call, fault) = faults.Draw(port);
        world.Note(Names[(int)port], process.Name, call, what);
        world.Count(Names[(int)port]);
        if (fault is { } injected)
        {
            var name = $"{port}: {injected}";
            world.Count(name);
            world.Note("fault", name);
        }

        switch (fault)
        {
            case Fault.KilledBefore:
                process.Kill();
                await new TaskCompletionSource().Task;
                break;
            case Fault.PausedBefore:
                process.Pause(PauseTime());
                await PauseAsync(TimeSpan.Zero);
                break;
        }

        var answer = new TaskCompletionSource<T>();
        switch (fault)
        {
            case Fault.Refused:
                world.After(_chance.Time(0.001, _chance.OneIn(4) ? 20 : 0.1), () => answer.TrySetException(failed("503 Slow Down")));
                break;
            case Fault.LateEffect:
                world.After(_chance.Time(0.1, 30), () => answer.TrySetException(failed("no answer")));
                world.After(_chance.Time(5, 90), () => effect(fault));
                break;
            default:
                world.After(fault == Fault.Slow ? _chance.Time(1, 45) : _chance.Time(0.0002, 0.005), () => TakeEffect(effect, fault, answer, failed));
                break;
        }

        return await (cancellationToken.CanBeCanceled ? answer.Task.WaitAsync(cancellationToken) : answer.Task);
    }

    /// <summary>Stands for time that passes in the world, not on the process's clock alone.</summary>
    public Task PauseAsync(TimeSpan time)
    {
        var over = new TaskCompletionSource();
        world.After(time, () => over.TrySetResult());
        return over.Task;
    }

    private TimeSpan PauseTime() => _chance.Time(0.5, _chance.OneIn(3) ? 150 : 10);

    private void TakeEffect<T>(Func<Fault?, Task<T>> effect, Fault? fault, TaskCompletionSource<T> answer, Func<string, Exception> failed)
    {
        Task<T> done;
        try
        {
            done = effect(fault);
        }
        catch (Exception e)
        {
            done = Task.FromException<T>(e);
        }

        if (done.IsCompleted)
        {
            Answer(done, fault, answer, failed);
        }
        else
        {
            done.ContinueWith(
                ended => Answer(ended, fault, answer, failed),
                CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
    }

    private void Answer<T>(Task<T> done, Fault? fault, TaskCompletionSource<T> answer, Func<string, Exception> failed)
    {
        switch (fault)
        {
            case Fault.KilledAfter:
                process.Kill();
                return;
            case Fault.AnswerLost:
                world.After(_chance.Time(0.001, _chance.OneIn(4) ? 30 : 0.1), () => answer.TrySetException(failed("the answer was lost")));
                return;
            case Fault.PausedAfter:
                process.Pause(PauseTime());
                break;
        }

        world.After(fault == Fault.Slow ? _chance.Time(1, 45) : _chance.Time(0.0002, 0.005), () =>
        {
            if (done.Exception is { } e)
            {
                answer.TrySetException(e.InnerException!);
            }
            else if (done.IsCanceled)
            {
                answer.TrySetCanceled();
            }
            else
            {
                answer.TrySetResult(done.Result);
            }
        });
    }
}
