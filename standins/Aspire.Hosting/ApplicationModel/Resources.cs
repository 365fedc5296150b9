namespace Aspire.Hosting.ApplicationModel;

public interface IResource
{
    string Name { get; }
}

public interface IResourceWithEnvironment : IResource;

public interface IResourceWithArgs : IResource;

public interface IResourceWithEndpoints : IResource;

public interface IResourceWithWaitSupport : IResource;

public interface IResourceWithConnectionString : IResource
{
    ReferenceExpression ConnectionStringExpression { get; }
}

/// <summary>Handed to <c>OnResourceReady</c> callbacks.</summary>
public sealed class ResourceReadyEvent(IResource resource)
{
    public IResource Resource => resource;
}

public abstract class Resource(string name) : IResource
{
    public string Name => name;

    internal IResource? Parent { get; set; }
}

public sealed class ConnectionStringResource(string name, ReferenceExpression connectionString)
    : Resource(name), IResourceWithConnectionString, IResourceWithWaitSupport
{
    public ReferenceExpression ConnectionStringExpression => connectionString;
}

/// <summary>What the stand-in can run: a process of this machine.</summary>
public abstract class ProcessResource(string name)
    : Resource(name), IResourceWithEnvironment, IResourceWithArgs, IResourceWithEndpoints, IResourceWithWaitSupport
{
    internal List<Endpoint> Endpoints { get; } = [];

    internal Dictionary<string, ReferenceExpression> Environment { get; } = [];

    internal List<string> Arguments { get; } = [];

    internal List<IResource> WaitsFor { get; } = [];

    internal HttpHealthCheck? HealthCheck { get; set; }

    internal List<Func<ResourceReadyEvent, CancellationToken, Task>> OnReady { get; } = [];

    internal List<Command> Commands { get; } = [];

    internal abstract string Kind { get; }

    /// <summary>What it was made from.</summary>
    internal abstract string Source { get; }

    /// <summary>The program and what comes before <see cref="Arguments"/>.</summary>
    internal abstract (string FileName, IReadOnlyList<string> Arguments, string WorkingDirectory) Program();
}

public sealed class ExecutableResource(string name, string command, string workingDirectory) : ProcessResource(name)
{
    internal override string Kind => "Executable";

    internal override string Source => command;

    internal override (string FileName, IReadOnlyList<string> Arguments, string WorkingDirectory) Program() => (command, [], workingDirectory);
}

public sealed class ProjectResource(string name, string projectPath) : ProcessResource(name)
{
    internal override string Kind => "Project";

    internal override string Source => projectPath;

    /// <summary>
    /// The project's built output, beside the one of the running AppHost: <c>bin/{project}/{configuration}/{project}.dll</c>
    /// in the artifacts layout. The AppHost references its projects, so a build of it has built them.
    /// </summary>
    internal override (string FileName, IReadOnlyList<string> Arguments, string WorkingDirectory) Program()
    {
        var project = Path.GetFileNameWithoutExtension(projectPath);
        var own = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar));
        var assembly = Path.Combine(own.Parent!.Parent!.FullName, project, own.Name, project + ".dll");
        if (!File.Exists(assembly))
        {
            throw new DistributedApplicationException(
                $"{assembly} does not exist. Build {projectPath} ({own.Name}), or reference it from the AppHost's project so that it is built with it.");
        }

        var host = Path.GetFullPath(Path.Combine(
            System.Runtime.InteropServices.RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..",
            OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet"));
        return (host, ["exec", assembly], Path.GetDirectoryName(projectPath)!);
    }
}

/// <summary>An address of a process: on loopback, with <c>http</c> or <c>tcp</c>.</summary>
internal sealed class Endpoint(string name, string scheme, int? port, string path = "")
{
    public string Name => name;

    public string Scheme => scheme;

    public const string Host = "localhost";

    /// <summary>Null until the application starts, when a free one is to be taken.</summary>
    public int? Port { get; set; } = port;

    public int AllocatedPort => Port ?? throw new InvalidOperationException($"The port of endpoint `{name}` is known once the application starts.");

    public string Url => $"{scheme}://{Host}:{AllocatedPort}{path}";
}

internal sealed record HttpHealthCheck(EndpointReference Endpoint, string Path, int StatusCode);
