namespace Pipeline.Simulation;

/// <summary>Finds a smaller schedule that fails in the same way: drops operations, faults and settings for as long as it still does.</summary>
/// <param name="warehouseOf">An empty warehouse for each run.</param>
/// <param name="runsMax">After so many runs it takes what it has; each is some milliseconds.</param>
internal sealed class Shrinker(Func<ISimulatedWarehouse> warehouseOf, int runsMax = 1_500)
{
    private int _runs;

    public Outcome Shrink(Outcome failing)
    {
        // The invariant that is hurt: another one would be another bug.
        var symptom = SymptomOf(failing.Violation!);
        var best = failing;
        for (var again = true; again && _runs < runsMax;)
        {
            again = false;
            again |= Drop(s => s.Operations, (s, operations) => s with { Operations = operations });
            again |= Drop(s => s.Faults!, (s, faults) => s with { Faults = faults });
            foreach (var simpler in Simpler(best.Schedule.Settings))
            {
                again |= simpler != best.Schedule.Settings && Try(best.Schedule with { Settings = simpler });
            }
        }

        return best;

        bool Drop<T>(Func<Schedule, IReadOnlyList<T>> of, Func<Schedule, IReadOnlyList<T>, Schedule> with)
        {
            // Halves first, then quarters, and so on down to single ones.
            var dropped = false;
            for (var size = Math.Max(of(best.Schedule).Count, 1); size >= 1; size /= 2)
            {
                for (var from = 0; from < of(best.Schedule).Count && _runs < runsMax;)
                {
                    var all = of(best.Schedule);
                    if (Try(with(best.Schedule, [.. all.Take(from), .. all.Skip(from + size)])))
                    {
                        dropped = true;
                    }
                    else
                    {
                        from += size;
                    }
                }
            }

            return dropped;
        }

        bool Try(Schedule schedule)
        {
            _runs++;
            var outcome = Run.Of(schedule, warehouseOf(), trace: null);
            if (outcome.Violation is null || SymptomOf(outcome.Violation) != symptom)
            {
                return false;
            }

            // Without the faults that the run did not come to.
            best = outcome;
            return true;
        }
    }

    private static string SymptomOf(string violation) => violation[..Math.Min(violation.Length, 2)];

    private static IEnumerable<Settings> Simpler(Settings settings)
    {
        yield return settings with { Loaders = 1 };
        yield return settings with { Environments = 1 };
        yield return settings with { SkewMax = TimeSpan.Zero };
        yield return settings with { UnversionedOrders = 0 };
        yield return settings with { Mapping = settings.Mapping with { ParallelizationFactor = 1 } };
        yield return settings with { Mapping = settings.Mapping with { BatchSize = 100, BatchingWindow = TimeSpan.Zero } };
        yield return settings with { ListPage = 1_000, StreamPage = 1_000 };
    }
}
