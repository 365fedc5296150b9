using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Pipeline.Bench;

/// <summary>What a row is to reach.</summary>
/// <param name="Bound">Of the ratio ours / against; where there is nothing to hold against, of the figure itself.</param>
/// <param name="IsUpper">True: at most the bound; false: at least.</param>
internal sealed record Goal(double Bound, bool IsUpper)
{
    public static Goal AtMost(double bound) => new(bound, IsUpper: true);

    public static Goal AtLeast(double bound) => new(bound, IsUpper: false);

    public bool IsReached(double measured) => IsUpper ? measured <= Bound : measured >= Bound;
}

/// <summary>One line of the table.</summary>
internal sealed record Row
{
    /// <summary>What is measured, in the words of the table.</summary>
    public required string Stage { get; init; }

    /// <summary>The limit or the baseline.</summary>
    public required string Against { get; init; }

    /// <summary>Of both figures: ms, rows/s, bytes.</summary>
    public required string Unit { get; init; }
    public required Sample Ours { get; init; }

    /// <summary>Null: the goal is one for the figure itself.</summary>
    public Sample? Other { get; init; }

    public required Goal Goal { get; init; }

    /// <summary>What was measured with what, and for a goal that is missed what stands in the way. May be empty.</summary>
    public string Note { get; init; } = "";

    /// <summary>Ratio of the medians, or the median itself.</summary>
    public double Measured => Other is null ? Ours.Median : Ours.Median / Other.Median;

    public bool IsReached => Goal.IsReached(Measured);

    public static Row Of(string stage, string against, string unit, Pairs pairs, Goal goal, string note = "") => new()
    {
        Stage = stage,
        Against = against,
        Unit = unit,
        Ours = pairs.Ours,
        Other = pairs.Against,
        Goal = goal,
        Note = note,
    };
}

/// <summary>Figures over time, such as the memory of each process: a table in the report.</summary>
/// <param name="Title">What it shows.</param>
/// <param name="Columns">The first is what the points are at, with units.</param>
/// <param name="Points">As many figures each as there are columns.</param>
internal sealed record Curve(string Title, IReadOnlyList<string> Columns, IReadOnlyList<IReadOnlyList<double>> Points);

/// <summary>A stage that could not be measured.</summary>
internal sealed record Failure(string Stage, string Error);

/// <summary>All of a run, written as Markdown for people and as JSON for programs.</summary>
internal sealed record Report
{
    public required Machine Machine { get; init; }
    public required string Input { get; init; }
    public required bool IsQuick { get; init; }
    public required DateTimeOffset StartedAt { get; init; }

    /// <summary>What went into what the build had left out, before the run.</summary>
    public required TimeSpan Building { get; init; }
    public required TimeSpan Duration { get; init; }
    public required string LoadAfter { get; init; }
    public required IReadOnlyList<Row> Rows { get; init; }
    public required IReadOnlyList<Curve> Curves { get; init; }
    public required IReadOnlyList<Failure> Failures { get; init; }

    /// <summary>Writes both files, over those of an earlier run.</summary>
    /// <param name="folder">Where; it is made if it is not there.</param>
    /// <param name="name">Of the files, without an ending.</param>
    /// <returns>The path of the Markdown file.</returns>
    public async Task<string> WriteAsync(string folder, string name)
    {
        Directory.CreateDirectory(folder);
        await File.WriteAllTextAsync(Path.Combine(folder, $"{name}.json"), JsonSerializer.Serialize(this, ReportJsonContext.Default.Report) + "\n");
        var markdown = Path.Combine(folder, $"{name}.md");
        await File.WriteAllTextAsync(markdown, ToMarkdown());
        return markdown;
    }

    public string ToMarkdown()
    {
        var text = new StringBuilder();
        Line($"# Benchmarks, {StartedAt.UtcDateTime:yyyy-MM-dd HH:mm} UTC");
        Line($"");
        Line($"{Machine.Processor}, {Machine.Cores} cores, {Machine.MemoryBytes / 1e9:F0} GB, {Machine.System}, {Machine.Runtime}.");
        Line($"Load average {Machine.LoadBefore} before and {LoadAfter} after. {(IsQuick ? "Quick run" : "Full run")} of {Duration.TotalMinutes:F1} minutes{(Building.TotalSeconds < 1 ? "" : FormattableString.Invariant($", after {Building.TotalMinutes:F1} that went into the native program of process_orders"))}. Input: {Input}.");
        Line($"Figures are medians, with lower and upper quartile; a ratio is that of the two medians. Rounds of ours and of the other take turns, but for the sustained load and its memory, which are one run.");
        Line($"");
        Line($"| stage | against | ours | other | ratio | goal | |");
        Line($"|---|---|---|---|---|---|---|");
        foreach (var row in Rows)
        {
            var goal = $"{(row.Goal.IsUpper ? "≤" : "≥")} {Number(row.Goal.Bound)}{(row.Other is null ? $" {row.Unit}" : " ×")}";
            var other = row.Other is null ? "" : Figure(row.Other, row.Unit);
            var ratio = row.Other is null ? "" : $"{Number(row.Measured)} ×";
            Line($"| {row.Stage} | {row.Against} | {Figure(row.Ours, row.Unit)} | {other} | {ratio} | {goal} | {Verdict(row)} |");
        }

        foreach (var failure in Failures)
        {
            Line($"| {failure.Stage} | | | | | | **not measured**: {failure.Error.ReplaceLineEndings(" ")} |");
        }

        foreach (var row in Rows.Where(row => row.Note.Length > 0))
        {
            Line($"");
            Line($"**{row.Stage} / {row.Against}** {row.Note}");
        }

        foreach (var curve in Curves)
        {
            Line($"");
            Line($"## {curve.Title}");
            Line($"");
            Line($"| {string.Join(" | ", curve.Columns)} |");
            Line($"|{string.Concat(curve.Columns.Select(_ => "---:|"))}");
            foreach (var point in curve.Points)
            {
                Line($"| {string.Join(" | ", point.Select(Number))} |");
            }
        }

        return text.ToString();

        void Line(FormattableString line) => text.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
    }

    private static string Verdict(Row row) => row.IsReached
        ? "reached"
        : $"**missed**, by a factor of {Number(row.Goal.IsUpper ? row.Measured / row.Goal.Bound : row.Goal.Bound / row.Measured)}";

    private static string Figure(Sample sample, string unit) => sample.Values.Count == 1
        ? $"{Number(sample.Median)} {unit}"
        : $"{Number(sample.Median)} {unit} ({Number(sample.LowerQuartile)} to {Number(sample.UpperQuartile)}, n={sample.Values.Count})";

    /// <summary>Three digits that matter.</summary>
    private static string Number(double value) => Math.Abs(value) switch
    {
        >= 100 => value.ToString("N0", CultureInfo.InvariantCulture),
        >= 10 => value.ToString("0.#", CultureInfo.InvariantCulture),
        >= 1 => value.ToString("0.##", CultureInfo.InvariantCulture),
        _ => value.ToString("0.###", CultureInfo.InvariantCulture),
    };
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(Report))]
internal sealed partial class ReportJsonContext : JsonSerializerContext;
