using System.Diagnostics;
using System.Globalization;

namespace Pipeline.Bench;

/// <summary>
/// A profile by phases: the spans that code in this process makes for its traces, summed up by what they are of. For a run of its
/// own beside the measured ones, since making spans costs something.
/// </summary>
internal sealed class SpanTimes : IDisposable
{
    /// <summary>Of a statement: enough to tell one from the other.</summary>
    private const int WordsOfStatement = 3;

    private readonly ActivityListener _listener;
    private readonly Lock _lock = new();
    private readonly Dictionary<string, double> _milliseconds = new(StringComparer.Ordinal);

    /// <param name="sources">Whose spans; those of Npgsql are told by the statement.</param>
    public SpanTimes(params IReadOnlyList<string> sources)
    {
        _listener = new ActivityListener
        {
            ShouldListenTo = source => sources.Contains(source.Name),
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = activity =>
            {
                lock (_lock)
                {
                    var name = NameOf(activity);
                    _milliseconds[name] = _milliseconds.GetValueOrDefault(name) + activity.Duration.TotalMilliseconds;
                }
            },
        };
        ActivitySource.AddActivityListener(_listener);
    }

    /// <summary>The longest first.</summary>
    /// <param name="max">How many.</param>
    public string Longest(int max)
    {
        lock (_lock)
        {
            return string.Join(", ", _milliseconds.OrderByDescending(one => one.Value).Take(max)
                .Select(one => string.Create(CultureInfo.InvariantCulture, $"{one.Key} {one.Value:F0} ms")));
        }
    }

    public void Dispose() => _listener.Dispose();

    private static string NameOf(Activity activity) =>
        (activity.GetTagItem("db.query.text") ?? activity.GetTagItem("db.statement")) is string statement
            ? $"`{string.Join(' ', statement.Split('\n').First(line => !line.StartsWith("--", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries).Take(WordsOfStatement))}`"
            : activity.DisplayName;
}
