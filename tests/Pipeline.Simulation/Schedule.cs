using Pipeline.LambdaEmulator.EventSource;
using Pipeline.Loader;

namespace Pipeline.Simulation;

/// <summary>What somebody or something does to the system at a given time.</summary>
internal enum OperationKind
{
    Create,
    Update,
    Remove,

    /// <summary>Another writer than the API puts something in that cannot be decoded.</summary>
    WritePoison,

    /// <summary>A value that decodes and that the warehouse does not take, until it is mended.</summary>
    WriteRefused,

    /// <summary>Close to DynamoDB's limit of 400 KB, with texts above 64 KB.</summary>
    WriteLarge,
    SplitShard,

    /// <summary>A shard is closed, and one takes its place, as every few hours.</summary>
    RollShard,
    TrimStream,

    /// <summary>Somebody puts something else into the prefix of the change files.</summary>
    PutJunk,
    RemoveJunk,

    /// <summary>A change file comes once more, under another key: restored or copied.</summary>
    CopyFile,
    MendWarehouse,

    /// <summary>The operator brings back all that is parked.</summary>
    Redrive,

    /// <summary>The operator takes a parked change out for good.</summary>
    Discard,

    /// <summary>All items are read from the table, as by a backfill, and written to a change file some time later.</summary>
    ReadTable,

    /// <summary>The operator merges small change files into large ones.</summary>
    Compact,
    KillEmulator,
    StopEmulator,
    PauseEmulator,
    KillEnvironment,
    PauseEnvironment,
    KillLoader,
    StopLoader,
    PauseLoader,
}

/// <param name="At">From the start.</param>
/// <param name="Kind">What is done.</param>
/// <param name="Target">Which order, shard, file or process, modulo how many there are.</param>
/// <param name="Detail">A number to draw from.</param>
internal readonly record struct Operation(TimeSpan At, OperationKind Kind, int Target, ulong Detail)
{
    public override string ToString() => $"{At.TotalSeconds:F3} s: {Kind} {Target}";
}

/// <summary>How the system is set up in one schedule: small limits, so that a few changes reach all of them.</summary>
internal sealed record Settings
{
    public required int Orders { get; init; }

    /// <summary>These many of them are written by something that knows no versions.</summary>
    public required int UnversionedOrders { get; init; }

    /// <summary>These many are in the table before its stream begins, so that only a backfill tells of them. One of them is never written to.</summary>
    public required int OrdersBefore { get; init; }
    public required int Environments { get; init; }
    public required int Loaders { get; init; }
    public required double FaultRate { get; init; }

    /// <summary>By <see cref="Fault"/>. Each seed does without some of them, so that they do not hide each other.</summary>
    public required bool[] FaultsEnabled { get; init; }
    public required TimeSpan RandomPhase { get; init; }

    /// <summary>Clocks of the processes are off by up to this much.</summary>
    public required TimeSpan SkewMax { get; init; }
    public required int StreamPage { get; init; }
    public required int ListPage { get; init; }
    public required MappingSettings Mapping { get; init; }
    public required LoaderOptions Loader { get; init; }
}

/// <summary>
/// One run, wholly determined: who does what when, and, once it is known which faults it had, which of them it has.
/// </summary>
internal sealed record Schedule(ulong Seed, Settings Settings, IReadOnlyList<Operation> Operations, IReadOnlyList<Injected>? Faults)
{
    public static Schedule Of(ulong seed)
    {
        var chance = new Chance(Chance.Mixed(seed));
        var settings = SettingsOf(chance);
        return new Schedule(seed, settings, OperationsOf(settings, chance), Faults: null);
    }

    private static Settings SettingsOf(Chance chance)
    {
        var orders = chance.Between(1, 5);
        return new Settings
        {
            Orders = orders,
            UnversionedOrders = chance.OneIn(4) ? chance.Between(1, orders) : 0,
            OrdersBefore = chance.OneIn(4) ? chance.Between(1, orders + 1) : 0,
            Environments = chance.Between(1, 3),
            Loaders = chance.OneIn(2) ? 2 : 1,
            FaultRate = chance.Of([0, 0.005, 0.02, 0.05, 0.12]),
            FaultsEnabled = [.. Enum.GetValues<Fault>().Select(_ => !chance.OneIn(4))],
            RandomPhase = chance.Time(2, 40),
            SkewMax = TimeSpan.FromSeconds(chance.Of([0, 0, 1, 30, 300])),
            StreamPage = chance.Of([1, 3, 1_000]),
            ListPage = chance.Of([1, 3, 1_000]),
            Mapping = new MappingSettings
            {
                StartingPosition = StartingPosition.TrimHorizon,
                BatchSize = chance.Of([1, 2, 5, 100]),
                BatchingWindow = TimeSpan.FromSeconds(chance.Of([0, 0, 1, 3])),
                ParallelizationFactor = chance.Of([1, 1, 2, 3]),
                BisectOnError = !chance.OneIn(3),
                ReportBatchItemFailures = true,
            },
            Loader = new LoaderOptions
            {
                BucketName = "bucket",
                PollInterval = chance.Time(0.2, 2),
                SweepInterval = chance.Time(10, 30),
                FullSweepInterval = chance.Time(30, 90),
                Limits = new LoadLimits(BytesMax: chance.Of([1L, 8_000, 1 << 24]), FilesMax: chance.Of([1, 2, 500]), RowsMax: chance.Of([1, 4, 100_000])),
                DownloadParallelism = chance.Between(1, 4),
                PendingMax = chance.Of([2, 4, 1_000]),
                ReleaseInterval = chance.Time(0.5, 5),
                ReleaseMax = chance.Of([1, 2, 1_000]),
                ParkedMax = chance.Of([1, 100]),
                RetryFirst = TimeSpan.FromSeconds(1),
                FileRetryMax = TimeSpan.FromSeconds(20),
                OutageRetryMax = TimeSpan.FromSeconds(5),
            },
        };
    }

    private static List<Operation> OperationsOf(Settings settings, Chance chance)
    {
        var operations = new List<Operation>();
        Add(chance.Between(5, 35), [
            OperationKind.Create, OperationKind.Create, OperationKind.Create, OperationKind.Update, OperationKind.Update, OperationKind.Update,
            OperationKind.Update, OperationKind.Update, OperationKind.Update, OperationKind.Remove, OperationKind.Remove]);
        if (chance.OneIn(3))
        {
            Add(chance.Between(1, 3), [OperationKind.WritePoison]);
        }

        if (chance.OneIn(5))
        {
            Add(chance.Between(1, 2), [OperationKind.WriteRefused]);
            Add(chance.Below(2), [OperationKind.MendWarehouse]);

            // One snapshot of an order may be refused, and another one loaded.
            Add(chance.Below(3), [OperationKind.ReadTable]);
        }

        if (settings.OrdersBefore > 0 || operations.Exists(o => o.Kind is OperationKind.WritePoison or OperationKind.WriteRefused))
        {
            Add(chance.Below(3), [OperationKind.Redrive]);
            Add(chance.Below(4), [OperationKind.Discard]);
        }

        if (chance.OneIn(60))
        {
            Add(1, [OperationKind.WriteLarge]);
        }

        Add(chance.Between(0, 4), [OperationKind.SplitShard, OperationKind.RollShard, OperationKind.TrimStream]);
        if (chance.OneIn(3))
        {
            Add(chance.Between(1, 2), [OperationKind.PutJunk]);
            Add(1, [OperationKind.RemoveJunk]);
        }

        Add(chance.Between(0, 1), [OperationKind.CopyFile]);
        if (settings.OrdersBefore > 0 || chance.OneIn(4))
        {
            Add(chance.Between(1, 2), [OperationKind.ReadTable]);
        }

        if (chance.OneIn(4))
        {
            Add(chance.Between(1, 2), [OperationKind.Compact]);
        }

        if (settings.FaultRate > 0)
        {
            Add(chance.Between(0, 4), [
                OperationKind.KillEmulator, OperationKind.StopEmulator, OperationKind.PauseEmulator, OperationKind.KillEnvironment, OperationKind.PauseEnvironment,
                OperationKind.KillLoader, OperationKind.StopLoader, OperationKind.PauseLoader]);
        }

        operations.Sort((a, b) => a.At.CompareTo(b.At));
        return operations;

        void Add(int count, OperationKind[] kinds)
        {
            for (var i = 0; i < count; i++)
            {
                operations.Add(new Operation(settings.RandomPhase * chance.Fraction(), chance.Of(kinds), chance.Below(1 << 20), chance.Next()));
            }
        }
    }
}
