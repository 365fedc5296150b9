using System.CommandLine;
using System.Globalization;

namespace Pipeline.Ops;

/// <summary>What several commands' options need.</summary>
internal static class Options
{
    public const string WarehouseSetting = "ConnectionStrings__warehouse";

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

    public static void MustBeIn<T>(this Option<T> option, int minimum, int maximum) => option.Validators.Add(result =>
    {
        if (result.GetValueOrDefault<T>() is int value && (value < minimum || value > maximum))
        {
            result.AddError(string.Create(CultureInfo.InvariantCulture, $"{option.Name} takes a number from {minimum} to {maximum}, not {value}."));
        }
    });
}
