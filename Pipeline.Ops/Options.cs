using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace Pipeline.Ops;

/// <summary>What several commands' options need.</summary>
internal static class Options
{
    public const string WarehouseSetting = "ConnectionStrings__warehouse";

    /// <summary>Read capacity units a second. The orders' table is in use, and so much is little for a table that has millions of orders.</summary>
    public const double RateOnAws = 500;

    // Without a default the description says what happens.
    public static Option<Uri?> Address(string name, string description, string? byDefault) => new(name)
    {
        Description = description,
        HelpName = "URL",
        DefaultValueFactory = byDefault is null ? null : _ => new Uri(byDefault),
        CustomParser = result =>
        {
            var text = result.Tokens.Single().Value;
            if (Uri.TryCreate(text, UriKind.Absolute, out var address) && address.Scheme is "http" or "https")
            {
                return address;
            }

            result.AddError($"{name} takes an address like {LocalDefaults.OrdersApi}, not {text}.");
            return null;
        },
    };

    /// <summary>An environment variable; an empty one is none.</summary>
    public static string? Setting(string name) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;

    public static Option<string?> Warehouse(string byDefault = "") => new("--warehouse")
    {
        Description = $"The warehouse's connection string. [default: {WarehouseSetting}, else that of the local AppHost{byDefault}]",
        HelpName = "STRING",
    };

    public static Option<bool> Json() => new("--json")
    {
        Description = "Print the result as JSON on standard output and everything else on standard error.",
    };

    public static Option<int> Segments() => new("--segments")
    {
        Description = "Into how many segments the scan of the table is divided, all read at the same time (1 to 256).",
        HelpName = "N",
        DefaultValueFactory = _ => 4,
    };

    /// <summary>Null on the local servers, which are nobody else's.</summary>
    public static Option<double?> Rate()
    {
        var rate = new Option<double?>("--rate")
        {
            Description = "Read capacity units a second that the table may be asked for, in all; one is 4 KB read consistently. "
                + $"[default: no bound; with --aws {RateOnAws}, which reads 2 MB/s]",
            HelpName = "UNITS",
        };
        rate.Validators.Add(result =>
        {
            if (Given(result) is { } text
                && !(double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var value) && value > 0 && double.IsFinite(value)))
            {
                result.AddError($"--rate takes a number above zero, not {text}.");
            }
        });
        return rate;
    }

    public static Option<DirectoryInfo?> Temporary(string what) => new("--temp")
    {
        Description = $"Folder for temporary files, {what}. [default: the system's]",
        HelpName = "DIR",
    };

    public static string TemporaryOf(ParseResult parsed, Option<DirectoryInfo?> temporary) => parsed.GetValue(temporary)?.FullName ?? Path.GetTempPath();

    /// <summary>A time like 90s, 5m, 1.5h or 00:01:30.</summary>
    public static Option<TimeSpan> Time(string name, string description, TimeSpan byDefault) => new(name)
    {
        Description = description,
        HelpName = "TIME",
        DefaultValueFactory = _ => byDefault,
        CustomParser = result =>
        {
            var text = result.Tokens.Single().Value;
            if (TryTime(text, out var time))
            {
                return time;
            }

            result.AddError($"{name} takes a time like 90s, 5m or 00:01:30, not {text}.");
            return default;
        },
    };

    private static bool TryTime(string text, out TimeSpan time)
    {
        time = default;
        var unit = text.Length > 0 ? text[^1] : ' ';
        var seconds = unit switch { 's' => 1, 'm' => 60, 'h' => 3_600, _ => 0 };
        if (seconds == 0)
        {
            return text.Contains(':', StringComparison.Ordinal) && TimeSpan.TryParse(text, CultureInfo.InvariantCulture, out time) && time >= TimeSpan.Zero;
        }

        if (!double.TryParse(text.AsSpan(0, text.Length - 1), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number) || number > 1_000_000)
        {
            return false;
        }

        time = TimeSpan.FromSeconds(number * seconds);
        return true;
    }

    public static void MustBeIn<T>(this Option<T> option, int minimum, int maximum) => option.Validators.Add(result =>
    {
        if (Given(result) is { } text
            && !(int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value) && value >= minimum && value <= maximum))
        {
            result.AddError(string.Create(CultureInfo.InvariantCulture, $"{option.Name} takes a number from {minimum} to {maximum}, not {text}."));
        }
    });

    /// <summary>
    /// What was given, as text; null when nothing was, and the default holds. Validators run before values are parsed, and
    /// asked for a value that cannot be the library throws instead of telling it as an error.
    /// </summary>
    private static string? Given(OptionResult result) => result.Tokens is [var token, ..] ? token.Value : null;
}
