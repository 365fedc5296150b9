using System.Diagnostics;

namespace Pipeline.Cdk.Tests;

/// <summary>A program that may be installed, or not.</summary>
internal static class Tool
{
    public static bool IsInstalled(string name) => (Environment.GetEnvironmentVariable("PATH") ?? "")
        .Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
        .Any(folder => File.Exists(Path.Combine(folder, name)) || File.Exists(Path.Combine(folder, $"{name}.exe")));

    /// <summary>Runs a program for at most five minutes, which is a lot but on a busy machine; what it printed.</summary>
    /// <param name="name">Found on PATH, or a path.</param>
    /// <param name="arguments">One each.</param>
    /// <param name="folder">Where it runs.</param>
    /// <param name="environment">What is set besides this process's environment, or, with null, taken away from it.</param>
    public static async Task<(int ExitCode, string Output, string Errors)> RunAsync(
        string name, string[] arguments, string? folder = null, Dictionary<string, string?>? environment = null)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        timeout.CancelAfter(TimeSpan.FromMinutes(5));
        using var process = Start(name, arguments, folder, environment);
        try
        {
            var output = process.StandardOutput.ReadToEndAsync(timeout.Token);
            var errors = process.StandardError.ReadToEndAsync(timeout.Token);
            await process.WaitForExitAsync(timeout.Token);
            return (process.ExitCode, await output, await errors);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw;
        }
    }

    public static Process Start(string name, string[] arguments, string? folder = null, Dictionary<string, string?>? environment = null)
    {
        var start = new ProcessStartInfo(name, arguments)
        {
            WorkingDirectory = folder ?? "",
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (variable, value) in environment ?? [])
        {
            start.Environment[variable] = value;
        }

        return Process.Start(start)!;
    }
}
