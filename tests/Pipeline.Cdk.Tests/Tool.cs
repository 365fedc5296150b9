using System.Diagnostics;

namespace Pipeline.Cdk.Tests;

/// <summary>A program that may be installed, or not.</summary>
internal static class Tool
{
    public static bool IsInstalled(string name) => (Environment.GetEnvironmentVariable("PATH") ?? "")
        .Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
        .Any(folder => File.Exists(Path.Combine(folder, name)) || File.Exists(Path.Combine(folder, $"{name}.exe")));

    /// <summary>Runs a program for at most two minutes; what it printed.</summary>
    public static async Task<(int ExitCode, string Output, string Errors)> RunAsync(string name, string[] arguments, string? folder = null)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        timeout.CancelAfter(TimeSpan.FromMinutes(2));
        using var process = Start(name, arguments, folder);
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

    public static Process Start(string name, string[] arguments, string? folder = null) => Process.Start(new ProcessStartInfo(name, arguments)
    {
        WorkingDirectory = folder ?? "",
        RedirectStandardOutput = true,
        RedirectStandardError = true,
    })!;
}
