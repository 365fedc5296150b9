using System.Globalization;
using System.Text;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>
/// A shard, its records and a function, driven step by step in virtual time. What the mapping does is given as text:
/// <c>invoke 1-3</c>, <c>discard 1-3 RetryAttemptsExhausted</c>, <c>nothing</c>.
/// </summary>
internal sealed class ScriptedShard(MappingSettings settings)
{
    private readonly ShardProcessor _processor = new(settings.Validated());
    private readonly List<ShardAction> _open = [];
    private int _written;

    public ScriptedShard()
        : this(new MappingSettings { StartingPosition = StartingPosition.TrimHorizon })
    {
    }

    public static MappingSettings Defaults { get; } = new() { StartingPosition = StartingPosition.TrimHorizon };

    /// <summary>Lets those records through that are written as matching.</summary>
    public static FilterCriteria Matching { get; } = FilterCriteria.Parse(["""{"matches":[true]}"""])!;

    public DateTimeOffset Now { get; private set; } = new(2026, 1, 1, 12, 0, 0, TimeSpan.Zero);

    public ShardProcessor Processor => _processor;

    /// <summary>The last sequence number before which all is processed; 0 for none.</summary>
    public int Checkpoint => int.Parse(_processor.Checkpoint ?? "0", CultureInfo.InvariantCulture);

    public static string SequenceNumber(int number) => number.ToString("D21", CultureInfo.InvariantCulture);

    /// <summary>Records are read as one page, made now, each of another item.</summary>
    public ScriptedShard Write(int count, int bytes = 100, bool matches = true)
    {
        PageIsWanted();
        for (var i = 0; i < count; i++)
        {
            WriteOf((ulong)(_written + 1), bytes, matches);
        }

        return this;
    }

    /// <summary>Records of these items are read as one page.</summary>
    public ScriptedShard WriteOf(params ulong[] items)
    {
        PageIsWanted();
        foreach (var item in items)
        {
            WriteOf(item, 100, true);
        }

        return this;
    }

    /// <summary>A record is read that was made some time ago.</summary>
    public ScriptedShard WriteOld(TimeSpan age)
    {
        PageIsWanted();
        Read(1, Now - age, 100, true);
        return this;
    }

    public ScriptedShard End()
    {
        _processor.EndOfShard();
        return this;
    }

    public ScriptedShard Wait(TimeSpan time)
    {
        Now += time;
        return this;
    }

    /// <summary>Waits until the mapping has something to do by itself.</summary>
    public ScriptedShard WaitForNext()
    {
        var next = _processor.NextAt(Now);
        Assert.NotNull(next);
        Now = next.Value > Now ? next.Value : Now;
        return this;
    }

    /// <summary>What the mapping does now.</summary>
    public string Next()
    {
        var action = _processor.Next(Now);
        if (action is null)
        {
            return "nothing";
        }

        _open.Add(action);
        return action switch
        {
            ShardAction.Discard discard => $"discard {Range(action.Batch)} {discard.Condition}",
            _ => $"invoke {Range(action.Batch)}",
        };
    }

    public ScriptedShard Succeeds() => Answers("");

    public ScriptedShard Answers(string json) => Ends(new InvocationOutcome.Answered(Encoding.UTF8.GetBytes(json)));

    public ScriptedShard Reports(params int[] failed) => Answers(
        $$"""{"batchItemFailures":[{{string.Join(',', failed.Select(number => $$"""{"itemIdentifier":"{{SequenceNumber(number)}}"}"""))}}]}""");

    public ScriptedShard Fails() => Ends(new InvocationOutcome.Failed("Error", "on purpose"));

    public ScriptedShard IsThrottled() => Ends(new InvocationOutcome.Throttled());

    /// <summary>The oldest open action ends: an invocation with this outcome, a discard by being delivered.</summary>
    public ScriptedShard Ends(InvocationOutcome outcome)
    {
        var action = _open[0];
        _open.RemoveAt(0);
        _processor.Complete(action.Batch, outcome, Now);
        return this;
    }

    public ScriptedShard IsDelivered()
    {
        var action = _open[0];
        _open.RemoveAt(0);
        _processor.Discarded(action.Batch);
        return this;
    }

    /// <summary>The last action, as it was handed out.</summary>
    public ShardAction LastAction => _open[^1];

    /// <summary>
    /// Runs until nothing is left to do, waiting as long as it takes; what was done, in order. The function fails every
    /// batch with one of the poisonous records.
    /// </summary>
    public IReadOnlyList<string> RunWithPoison(params int[] poison)
    {
        var log = new List<string>();
        for (var steps = 0; _processor.Buffered > 0; steps++)
        {
            Assert.True(steps < 100_000, "It does not come to an end.");
            var step = Next();
            if (step == "nothing")
            {
                WaitForNext();
                continue;
            }

            log.Add(step);
            if (LastAction is ShardAction.Discard)
            {
                IsDelivered();
            }
            else if (poison.Any(number => LastAction.Batch.Records.Any(record => record.SequenceNumber == SequenceNumber(number))))
            {
                Fails();
            }
            else
            {
                Succeeds();
            }
        }

        return log;
    }

    private static string Range(Batch batch)
    {
        var numbers = batch.Records.Select(record => int.Parse(record.SequenceNumber, CultureInfo.InvariantCulture)).ToList();
        var consecutive = numbers[^1] - numbers[0] == numbers.Count - 1;
        return numbers.Count == 1 ? $"{numbers[0]}" : consecutive ? $"{numbers[0]}-{numbers[^1]}" : string.Join(',', numbers);
    }

    /// <summary>Nothing is read that was not asked for: a case that goes on where reading has stopped would show nothing.</summary>
    private void PageIsWanted() => Assert.True(_processor.WantsMore, "The processor does not want to read more.");

    private void WriteOf(ulong item, int bytes, bool matches) => Read(item, Now, bytes, matches);

    private void Read(ulong item, DateTimeOffset createdAt, int bytes, bool matches) =>
        _processor.Read(
            new StreamRecord(
                SequenceNumber(++_written), item, createdAt, Encoding.UTF8.GetBytes($$"""{"n":{{_written}},"matches":{{(matches ? "true" : "false")}}}""".PadRight(bytes))),
            Now);
}
