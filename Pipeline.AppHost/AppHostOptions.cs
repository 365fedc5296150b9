using System.CommandLine;

namespace Pipeline.AppHost;

internal enum PlatformName
{
    Native,
    LocalStack,
    Aws,
}

/// <summary>The command line.</summary>
/// <param name="Platform">Null: the AppHost picks one.</param>
/// <param name="Fresh">Start without the data of former runs.</param>
/// <param name="Dashboard">Show the Aspire dashboard.</param>
/// <param name="HostArguments">Configuration for the application's builder.</param>
internal sealed record AppHostOptions(PlatformName? Platform, bool Fresh, bool Dashboard, string[] HostArguments)
{
    /// <returns>Null when there is nothing to run: help was asked for, or an argument is wrong.</returns>
    public static AppHostOptions? Parse(string[] args, out int exitCode)
    {
        var platform = new Option<PlatformName?>("--platform")
        {
            Description = "Where table, bucket and warehouse run: native (plain processes) or localstack (containers). "
                + "Default: localstack where a Docker engine answers and the official Aspire packages are in use, else native.",
        };
        var fresh = new Option<bool>("--fresh") { Description = "Delete the data of former runs first." };
        var dashboard = new Option<bool>("--dashboard")
        {
            Description = "Show the Aspire dashboard; fetched with npm on first use. (With the official Aspire packages it is there anyway.)",
        };
        var command = new RootCommand(
            "Runs the order pipeline on this machine. Configuration follows as --KEY=VALUE, for example --Ports:orders-api=5180, "
            + "or --Data=FOLDER for the native servers' data.")
        {
            platform, fresh, dashboard,
        };
        command.TreatUnmatchedTokensAsErrors = false;

        var result = command.Parse(args);
        AppHostOptions? options = null;
        command.SetAction(_ =>
        {
            // The Aspire CLI has a language of its own (`--operation publish --step …`); from a person it is a typing error.
            if (!result.UnmatchedTokens.Contains("--operation")
                && result.UnmatchedTokens.FirstOrDefault(token => !token.Contains('=', StringComparison.Ordinal)) is { } unknown)
            {
                Console.Error.WriteLine($"Unknown argument `{unknown}`. Configuration is given as --KEY=VALUE; --help shows the options.");
                return 1;
            }

            options = new AppHostOptions(
                result.GetValue(platform),
                result.GetValue(fresh),
                result.GetValue(dashboard),
                [.. result.UnmatchedTokens, $"--Dashboard={result.GetValue(dashboard)}"]);
            return 0;
        });
        exitCode = result.Invoke();
        return options;
    }
}
