using System.Diagnostics;

namespace Pipeline.AppHost;

/// <summary>Commands of Pipeline.Ops as buttons of the dashboard.</summary>
internal static class OperatorCommands
{
    /// <summary>Of what a command prints, as much as the dashboard shows in a message.</summary>
    private const int MessageLengthMax = 2_000;

    /// <summary>A replay of a day or a comparison of a large table takes minutes; what takes longer belongs into a terminal.</summary>
    private static readonly TimeSpan Deadline = TimeSpan.FromMinutes(10);

    /// <summary>The lives of a hundred orders, of others each time.</summary>
    public static string[] PlaceOrders(string api) => ["seed", "--api", api, "--generate", "100", "--seed", $"{Random.Shared.Next()}"];

    /// <summary>All hours of a day, which are named by their beginnings.</summary>
    public static string[] ReplayDayOf(DateTime utc) => ["replay", "--from", $"{utc:yyyy-MM-dd}T00:00Z", "--to", $"{utc:yyyy-MM-dd}T23:00Z"];

    /// <param name="builder">The resource that shows the button.</param>
    /// <param name="name">The command's name.</param>
    /// <param name="displayName">What the button says.</param>
    /// <param name="options">Its explanation and its icon.</param>
    /// <param name="settings">Environment variables: where the command finds everything.</param>
    /// <param name="arguments">Of Pipeline.Ops, made when the button is pressed.</param>
    public static IResourceBuilder<T> WithOperatorCommand<T>(
        this IResourceBuilder<T> builder,
        string name,
        string displayName,
        CommandOptions options,
        IReadOnlyDictionary<string, ReferenceExpression> settings,
        Func<string[]> arguments)
        where T : IResource => builder.WithCommand(name, displayName, context => RunAsync(settings, arguments(), context.CancellationToken), options);

    private static async Task<ExecuteCommandResult> RunAsync(
        IReadOnlyDictionary<string, ReferenceExpression> settings, string[] arguments, CancellationToken cancellationToken)
    {
        // The AppHost's own output lies beside it: bin/{project}/{configuration} in the artifacts layout.
        var own = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar));
        var assembly = Path.Combine(own.Parent!.Parent!.FullName, "Pipeline.Ops", own.Name, "Pipeline.Ops.dll");
        var start = new ProcessStartInfo("dotnet", ["exec", assembly, .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        foreach (var (setting, value) in settings)
        {
            start.Environment[setting] = await value.GetValueAsync(cancellationToken);
        }

        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(Deadline);
        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        try
        {
            var output = process.StandardOutput.ReadToEndAsync(deadline.Token);
            var errors = process.StandardError.ReadToEndAsync(deadline.Token);
            await process.WaitForExitAsync(deadline.Token);
            return ResultOf(process.ExitCode, await output, await errors);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            return CommandResults.Failure(cancellationToken.IsCancellationRequested ? "Cancelled." : $"Stopped after {Deadline.TotalMinutes} minutes.");
        }
    }

    /// <summary>What it printed, and when it failed also what it has to say about that; of both the end, where the result stands.</summary>
    internal static ExecuteCommandResult ResultOf(int exitCode, string output, string errors)
    {
        var hasFailed = exitCode != 0;
        var text = (hasFailed || string.IsNullOrWhiteSpace(output) ? $"{output.TrimEnd()}\n{errors}" : output).Trim();
        var shown = text.Length <= MessageLengthMax ? text : "…" + text[^MessageLengthMax..];
        return hasFailed ? CommandResults.Failure($"Exit code {exitCode}. {shown}") : CommandResults.Success(shown);
    }
}
