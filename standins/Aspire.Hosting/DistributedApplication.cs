using System.Reflection;
using Aspire.Hosting.ApplicationModel;
using Aspire.Hosting.Orchestration;
using Microsoft.Extensions.Configuration;

namespace Aspire.Hosting;

public interface IDistributedApplicationBuilder
{
    ConfigurationManager Configuration { get; }

    /// <summary>The folder of the AppHost's project; relative paths start here.</summary>
    string AppHostDirectory { get; }

    DistributedApplication Build();
}

public interface IResourceBuilder<out T>
    where T : IResource
{
    IDistributedApplicationBuilder ApplicationBuilder { get; }

    T Resource { get; }
}

/// <summary>The application cannot run as it is; the message says why.</summary>
public class DistributedApplicationException(string message) : Exception(message);

/// <summary>The resources of an AppHost as processes of this machine.</summary>
public sealed class DistributedApplication
{
    private readonly Orchestrator _orchestrator;

    internal DistributedApplication(Orchestrator orchestrator) => _orchestrator = orchestrator;

    /// <exception cref="DistributedApplicationException">This AppHost runs already.</exception>
    public static IDistributedApplicationBuilder CreateBuilder(string[] args)
    {
        var builder = new DistributedApplicationBuilder(args, ProjectDirectory(), AppContext.BaseDirectory, Console.Out);
        builder.RunRecord.StopLeftovers();
        return builder;
    }

    public void Run() => RunAsync().GetAwaiter().GetResult();

    /// <summary>Runs until Ctrl-C, SIGTERM or the token; then everything that it started is stopped.</summary>
    public Task RunAsync(CancellationToken cancellationToken = default) => _orchestrator.RunUntilSignalAsync(cancellationToken);

    private static string ProjectDirectory() => Assembly.GetEntryAssembly()!
        .GetCustomAttributes<AssemblyMetadataAttribute>()
        .FirstOrDefault(attribute => attribute.Key == "apphostprojectpath")?.Value ?? Environment.CurrentDirectory;
}

/// <param name="args">Configuration as <c>--key=value</c>.</param>
/// <param name="appHostDirectory">See <see cref="IDistributedApplicationBuilder.AppHostDirectory"/>.</param>
/// <param name="stateDirectory">Where the record of running processes is kept.</param>
/// <param name="output">The console.</param>
internal sealed class DistributedApplicationBuilder(string[] args, string appHostDirectory, string stateDirectory, TextWriter output)
    : IDistributedApplicationBuilder
{
    private readonly List<Resource> _resources = [];

    public ConfigurationManager Configuration { get; } = Configure(args);

    public string AppHostDirectory => appHostDirectory;

    public ConsoleLog Log { get; } = new(output);

    public RunRecord RunRecord => field ??= new RunRecord(Path.Combine(stateDirectory, "running.json"), Log);

    public IResourceBuilder<T> Add<T>(T resource)
        where T : Resource
    {
        if (_resources.Exists(other => string.Equals(other.Name, resource.Name, StringComparison.OrdinalIgnoreCase)))
        {
            throw new DistributedApplicationException($"There are two resources with the name `{resource.Name}`.");
        }

        _resources.Add(resource);
        return new Builder<T>(this, resource);
    }

    public IReadOnlyList<Resource> Resources => _resources;

    DistributedApplication IDistributedApplicationBuilder.Build() => new(new Orchestrator(_resources, Configuration, Log, RunRecord));

    private static ConfigurationManager Configure(string[] args)
    {
        var configuration = new ConfigurationManager();
        configuration.AddEnvironmentVariables();
        configuration.AddCommandLine(args);
        return configuration;
    }

    private sealed record Builder<T>(IDistributedApplicationBuilder ApplicationBuilder, T Resource) : IResourceBuilder<T>
        where T : IResource;
}
