using System.Diagnostics;
using Pipeline.Core;
using Pipeline.NativeServers;

namespace Pipeline.AppHost;

/// <summary>What the services get from the place where they run.</summary>
internal sealed partial record Platform
{
    /// <summary>The synthesized template; the build of Pipeline.Cdk writes it.</summary>
    public required string TemplateFile { get; init; }

    /// <summary>The folder where the Lambda emulator keeps its checkpoints.</summary>
    public required string EmulatorState { get; init; }

    /// <summary>Whether the emulator is the one that creates the template's tables, buckets and queues.</summary>
    public required string[] EmulatorArguments { get; init; }

    /// <summary>Endpoints, region, credentials and names, as environment variables.</summary>
    public required IReadOnlyDictionary<string, ReferenceExpression> Environment { get; init; }

    /// <summary>What has to be there before a service may start.</summary>
    public required IReadOnlyList<IResourceBuilder<IResource>> Servers { get; init; }

    public required IResourceBuilder<IResourceWithConnectionString> Warehouse { get; init; }

    public required IResourceBuilder<IResource> WarehouseServer { get; init; }

    /// <summary>How long the question for a Docker engine may take: it answers at once or it is not there.</summary>
    private static readonly TimeSpan DockerDeadline = TimeSpan.FromSeconds(3);

    /// <summary>Where builds and local runs leave what they make.</summary>
    public static string ArtifactsOf(IDistributedApplicationBuilder builder) =>
        Path.GetFullPath(Path.Combine(builder.AppHostDirectory, "..", "artifacts"));

    /// <exception cref="DistributedApplicationException">The chosen platform does not work here; the message says why.</exception>
    public static Platform Add(IDistributedApplicationBuilder builder, AppHostOptions options)
    {
        var artifacts = ArtifactsOf(builder);
        var template = Path.Combine(artifacts, "cdk.out", $"{Names.Stack}.template.json");
        if (!File.Exists(template))
        {
            throw new DistributedApplicationException($"{template} does not exist. `dotnet build Pipeline.Cdk` writes it.");
        }

        // The one thing that the sets differ in here: the official packages can start containers, and a dashboard.
        var isOfficialSet = false;
        IsOfficialSet(ref isOfficialSet);
        if (options.Dashboard && isOfficialSet)
        {
            Console.WriteLine("--dashboard changes nothing here: the official Aspire packages bring the dashboard by themselves.");
        }

        Platform? platform = null;
        switch (options.Platform ?? (isOfficialSet && DockerAnswers() ? PlatformName.LocalStack : PlatformName.Native))
        {
            case PlatformName.Native:
                return NativePlatform.Add(
                    builder, template, Path.GetFullPath(builder.Configuration["Data"] ?? Path.Combine(artifacts, LocalSettings.DataFolder)), options.Fresh);
            case PlatformName.LocalStack:
                AddLocalStack(builder, template, Path.Combine(artifacts, "localstack"), ref platform);
                return platform ?? throw new DistributedApplicationException(
                    "The platform localstack needs the official Aspire packages, which this machine could not restore "
                    + "(artifacts/package-set). Run with --platform native.");
            default:
                throw new DistributedApplicationException(
                    "On AWS the pipeline runs by itself once its stack is deployed (Pipeline.Cdk); the AppHost runs it on "
                    + "this machine: --platform native or --platform localstack.");
        }
    }

    /// <summary>
    /// The port of a resource: <c>Ports:NAME</c> in the configuration, else the standard one. Fixed ports, so that a
    /// command line or a bookmark works tomorrow, too.
    /// </summary>
    /// <exception cref="DistributedApplicationException">It is no port, or somebody listens on it.</exception>
    public static int Port(IDistributedApplicationBuilder builder, string resource, int standard)
    {
        var key = $"Ports:{resource}";
        var configured = builder.Configuration[key];
        var port = standard;
        if (configured is not null && (!int.TryParse(configured, out port) || port is < 1 or > 65535))
        {
            throw new DistributedApplicationException($"{key} is `{configured}`; it must be a number from 1 to 65535.");
        }

        return LoopbackPorts.IsTaken(port)
            ? throw new DistributedApplicationException(
                $"Port {port} of {resource} is taken by another process. Stop that one, or give {resource} another port: --{key}={port + 100}")
            : port;
    }

    private static bool DockerAnswers()
    {
        try
        {
            using var docker = Process.Start(new ProcessStartInfo("docker", ["version", "--format", "{{.Server.Version}}"])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            })!;
            if (docker.WaitForExit(DockerDeadline))
            {
                return docker.ExitCode == 0;
            }

            docker.Kill();
            return false;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            // There is no docker at all.
            return false;
        }
    }

    static partial void IsOfficialSet(ref bool isOfficial);

    static partial void AddLocalStack(IDistributedApplicationBuilder builder, string template, string dataDirectory, ref Platform? platform);
}

internal static class PlatformExtensions
{
    public static int Port(this IDistributedApplicationBuilder builder, string resource, int standard) =>
        Platform.Port(builder, resource, standard);

    /// <summary>Gives a service the platform's environment, and starts it after the platform's servers.</summary>
    public static IResourceBuilder<T> On<T>(this IResourceBuilder<T> service, Platform platform)
        where T : IResourceWithEnvironment, IResourceWithWaitSupport
    {
        foreach (var (name, value) in platform.Environment)
        {
            service.WithEnvironment(name, value);
        }

        foreach (var server in platform.Servers)
        {
            service.WaitFor(server);
        }

        return service;
    }
}
