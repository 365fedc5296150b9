namespace Aspire.Hosting.ApplicationModel;

/// <summary>Handed to the callback of a command.</summary>
public sealed class ExecuteCommandContext
{
    public required string ResourceName { get; init; }

    public required CancellationToken CancellationToken { get; init; }
}

public sealed class ExecuteCommandResult
{
    public required bool Success { get; init; }

    public string? Message { get; init; }
}

public static class CommandResults
{
    public static ExecuteCommandResult Success(string message) => new() { Success = true, Message = message };

    public static ExecuteCommandResult Failure(string? errorMessage = null) => new() { Success = false, Message = errorMessage };
}

public sealed class CommandOptions
{
    public string? Description { get; set; }

    public string? IconName { get; set; }
}

/// <summary>What a resource can be told beside start, stop and restart.</summary>
internal sealed record Command(string Name, string DisplayName, CommandOptions Options, Func<ExecuteCommandContext, Task<ExecuteCommandResult>> Execute);
