using System.Globalization;
using System.Runtime.CompilerServices;

namespace Pipeline.Simulation;

/// <summary>
/// One thread, one clock, one source of chance. Processes hand their tasks to it; it runs one after the other, in an
/// order drawn from the seed, and when none is left it moves the clock to the next event. Nothing in it asks for the
/// real time, so the same seed does the same thing every time.
/// </summary>
internal sealed class World(ulong seed, TextWriter? trace)
{
    /// <summary>A schedule takes some ten thousand steps; one that takes this many turns in a circle.</summary>
    private const int StepsMax = 3_000_000;

    private readonly int _thread = Environment.CurrentManagedThreadId;
    private readonly PriorityQueue<Action, (long At, long Order)> _events = new();
    private readonly List<(Process Process, Task Task)> _ready = [];
    private readonly Chance _chance = new(seed);
    private ulong _hash = 14695981039346656037;
    private long _order;
    private volatile string? _strayed;

    /// <summary>Some seconds before the end of an hour that is also the end of a day: partitions change in the middle of a schedule.</summary>
    public DateTimeOffset Now { get; private set; } = new(2026, 11, 24, 23, 59, 40, TimeSpan.Zero);

    public int Steps { get; private set; }

    /// <summary>Of all that happened, in its order: equal hashes mean equal runs.</summary>
    public ulong TraceHash => _hash;

    /// <summary>What was done how often, by name.</summary>
    public Dictionary<string, long> Exercised { get; } = new(StringComparer.Ordinal);

    /// <summary>The first invariant that does not hold; the run ends with it.</summary>
    public string? Violation { get; private set; }

    public void Violate(string what)
    {
        if (Violation is null)
        {
            Violation = what;
            Note("VIOLATION", what);
        }
    }

    public void Count(string what) =>
        System.Runtime.InteropServices.CollectionsMarshal.GetValueRefOrAddDefault(Exercised, what, out _)++;

    /// <summary>Puts an event into the trace and its hash.</summary>
    public void Note(string kind, string? what = null, long number = 0, string? more = null)
    {
        Mix((ulong)Now.UtcTicks);
        Mix(kind);
        Mix(what);
        Mix((ulong)number);
        Mix(more);
        if (trace is not null)
        {
            var text = what is null ? "" : $" {what}";
            var count = number == 0 ? "" : number.ToString(" #0", CultureInfo.InvariantCulture);
            trace.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Now:HH:mm:ss.ffffff} {kind,-16}{text}{count}{(more is null ? "" : $" {more}")}"));
        }
    }

    /// <summary>Something happens outside of the processes: an answer arrives, a timer runs out, a server notices a closed connection.</summary>
    public void After(TimeSpan delay, Action happens)
    {
        Check();
        _events.Enqueue(happens, ((Now + (delay > TimeSpan.Zero ? delay : TimeSpan.Zero)).UtcTicks, _order++));
    }

    /// <summary>Runs until the time, or until a violation.</summary>
    public void RunUntil(DateTimeOffset deadline)
    {
        while (Violation is null)
        {
            if (_strayed is { } strayed)
            {
                Violate(strayed);
                return;
            }

            if (_ready.Count > 0)
            {
                var next = _chance.Below(_ready.Count);
                var (process, task) = _ready[next];
                _ready[next] = _ready[^1];
                _ready.RemoveAt(_ready.Count - 1);
                process.Run(task);
                if (++Steps > StepsMax)
                {
                    Violate($"the simulation did not come to rest within {StepsMax} steps");
                }

                continue;
            }

            if (!_events.TryPeek(out var happens, out var when) || when.At > deadline.UtcTicks)
            {
                Now = deadline > Now ? deadline : Now;
                return;
            }

            _events.Dequeue();
            Now = new DateTimeOffset(when.At, TimeSpan.Zero);
            happens();
        }
    }

    public void Enqueue(Process process, Task task)
    {
        Check();
        _ready.Add((process, task));
    }

    /// <summary>
    /// Whatever is brought here from another thread has left the simulation's order, and the seed would not bring it back.
    /// An exception alone would be lost with the task that it is thrown in.
    /// </summary>
    private void Check()
    {
        if (Environment.CurrentManagedThreadId != _thread)
        {
            _strayed = $"something of the simulation ran on another thread, so a seed would not repeat it: {Environment.StackTrace}";
            throw new InvalidOperationException(_strayed);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Mix(ulong value) => _hash = (_hash ^ value) * 1099511628211;

    private void Mix(string? text)
    {
        foreach (var c in text ?? "")
        {
            Mix(c);
        }

        Mix(0xFFFF);
    }
}

/// <summary>SplitMix64: small, good enough, and the same on every platform and in every version of .NET, which System.Random does not promise.</summary>
internal sealed class Chance(ulong seed)
{
    private ulong _state = seed;

    public ulong Next()
    {
        _state += 0x9E3779B97F4A7C15;
        return Mixed(_state);
    }

    public int Below(int bound) => (int)(((Next() >> 32) * (ulong)bound) >> 32);

    public int Between(int least, int most) => least + Below(most - least + 1);

    public bool OneIn(int n) => Below(n) == 0;

    /// <summary>From 0 up to, but not, 1.</summary>
    public double Fraction() => (Next() >> 11) * (1.0 / (1UL << 53));

    public T Of<T>(IReadOnlyList<T> choices) => choices[Below(choices.Count)];

    public TimeSpan Time(double secondsLeast, double secondsMost) =>
        TimeSpan.FromTicks((long)((secondsLeast + (Fraction() * (secondsMost - secondsLeast))) * TimeSpan.TicksPerSecond));

    public static ulong Mixed(ulong value)
    {
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }
}

/// <summary>
/// A process of the pipeline: a task scheduler under which all of its code runs, and its own clock. Killed, none of its
/// tasks is run any more, wherever it stood; paused, all of it stands still, timers included, and goes on later as if
/// no time had passed for it.
/// </summary>
internal sealed class Process : TimeProvider
{
    private readonly World _world;
    private readonly Scheduler _scheduler;
    private readonly List<Task> _held = [];
    private readonly TimeSpan _skew;

    /// <param name="world">In which it runs.</param>
    /// <param name="name">For the trace.</param>
    /// <param name="skew">How far its clock is ahead of the world's.</param>
    public Process(World world, string name, TimeSpan skew)
    {
        (_world, Name, _skew) = (world, name, skew);
        _scheduler = new Scheduler(this);
    }

    public string Name { get; }

    public bool IsDead { get; private set; }

    public bool IsPaused { get; private set; }

    /// <summary>Called once when it is killed: what the other sides of its connections notice.</summary>
    public event Action? Died;

    /// <summary>Called once when its main method ended by itself, with the reason if it failed.</summary>
    public event Action<Exception?>? Ended;

    /// <summary>Asks it to end in good order.</summary>
    public CancellationTokenSource Stop { get; } = new();

    public void Start(Func<Task> main)
    {
        // Whatever captures the execution context takes it from here: nothing of the machine's is in it.
        var run = Task.Factory.StartNew(main, CancellationToken.None, TaskCreationOptions.None, _scheduler).Unwrap();
        run.ContinueWith(
            ended => Ended?.Invoke(ended.IsCanceled || Stop.IsCancellationRequested ? null : ended.Exception?.InnerException),
            CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, _scheduler);
    }

    /// <summary>SIGKILL: nothing of it runs any more, and nothing is cleaned up.</summary>
    public void Kill()
    {
        if (!IsDead)
        {
            IsDead = true;
            _world.Note("killed", Name);
            _held.Clear();
            Died?.Invoke();
        }
    }

    public void Pause(TimeSpan time)
    {
        if (IsDead || IsPaused)
        {
            return;
        }

        IsPaused = true;
        _world.Note("paused", Name, (long)time.TotalMilliseconds);
        _world.After(time, Resume);
    }

    public void Resume()
    {
        if (IsPaused)
        {
            IsPaused = false;
            _world.Note("resumed", Name);
            foreach (var task in _held)
            {
                _world.Enqueue(this, task);
            }

            _held.Clear();
        }
    }

    /// <summary>Runs a callback as part of this process.</summary>
    public void Post(Action callback) => Task.Factory.StartNew(callback, CancellationToken.None, TaskCreationOptions.None, _scheduler);

    public void Run(Task task)
    {
        if (IsPaused)
        {
            _held.Add(task);
        }
        else if (!IsDead)
        {
            _scheduler.Run(task);
        }
    }

    public override DateTimeOffset GetUtcNow() => _world.Now + _skew;

    public override long GetTimestamp() => _world.Now.UtcTicks;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) =>
        new Timer(this, callback, state, dueTime, period);

    private sealed class Scheduler(Process process) : TaskScheduler
    {
        public void Run(Task task) => TryExecuteTask(task);

        protected override void QueueTask(Task task) => process._world.Enqueue(process, task);

        /// <summary>Never: each step is one that chance may put behind another process's.</summary>
        protected override bool TryExecuteTaskInline(Task task, bool taskWasPreviouslyQueued) => false;

        protected override IEnumerable<Task> GetScheduledTasks() => [];
    }

    private sealed class Timer : ITimer
    {
        private readonly Process _process;
        private readonly TimerCallback _callback;
        private readonly object? _state;
        private TimeSpan _period;
        private int _setting;

        public Timer(Process process, TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            (_process, _callback, _state) = (process, callback, state);
            Change(dueTime, period);
        }

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            _setting++;
            _period = period;
            Set(dueTime, _setting);
            return true;
        }

        public void Dispose() => _setting++;

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }

        private void Set(TimeSpan due, int setting)
        {
            if (due != Timeout.InfiniteTimeSpan)
            {
                _process._world.After(due, () => RunOut(setting));
            }
        }

        private void RunOut(int setting)
        {
            if (setting != _setting || _process.IsDead)
            {
                return;
            }

            _process.Post(() =>
            {
                if (setting == _setting)
                {
                    _callback(_state);
                }
            });
            if (_period > TimeSpan.Zero)
            {
                Set(_period, setting);
            }
        }
    }
}
