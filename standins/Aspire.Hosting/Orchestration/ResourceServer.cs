using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Aspire.Hosting.ApplicationModel;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Aspire.Hosting.Orchestration;

/// <summary>
/// On loopback: the resources as JSON with start, stop and restart (HTTP/1.1, for curl), and the resource service
/// of the Aspire dashboard (gRPC, on a port of its own because HTTP/2 without TLS cannot share one).
/// </summary>
internal sealed class ResourceServer(Orchestrator orchestrator) : IAsyncDisposable
{
    // The same at every start, so that a command line can be repeated; another one when this is taken.
    private const int ControlPortPreferred = 18900;

    private WebApplication? _application;

    /// <summary>The dashboard has to send it: the resources' environment holds passwords.</summary>
    public string ApiKey { get; } = RandomNumberGenerator.GetHexString(32, lowercase: true);

    public string DashboardServiceUrl { get; private set; } = "";

    /// <returns>The URL of the JSON service.</returns>
    public async Task<string> StartAsync(CancellationToken cancellationToken)
    {
        var (controlPort, dashboardPort) = (FreePort(ControlPortPreferred), FreePort(0));
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(orchestrator);
        builder.Services.AddSingleton(this);
        // Signals are the orchestrator's: this server answers until the last resource has stopped.
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(IPAddress.Loopback, controlPort, listen => listen.Protocols = HttpProtocols.Http1);
            kestrel.Listen(IPAddress.Loopback, dashboardPort, listen => listen.Protocols = HttpProtocols.Http2);
        });

        _application = builder.Build();
        _application.Use(RefuseBrowsersAsync);
        _application.MapGrpcService<ResourceService>();
        _application.MapGet("/resources", () => orchestrator.Runs.Select(Describe));
        _application.MapPost("/resources/{name}/{command}", async (string name, string command, CancellationToken cancelled) =>
        {
            if (orchestrator.Find(name) is not { } run)
            {
                return Results.NotFound(new { message = $"There is no resource {name}." });
            }

            var result = await ExecuteAsync(run, command, cancelled);
            return Results.Json(new { message = result.Message }, statusCode: result.Success ? 200 : 400);
        });
        await _application.StartAsync(cancellationToken);

        DashboardServiceUrl = $"http://127.0.0.1:{dashboardPort}";
        return $"http://127.0.0.1:{controlPort}";
    }

    public static async Task<ExecuteCommandResult> ExecuteAsync(ResourceRun run, string command, CancellationToken cancellationToken)
    {
        if (run.Resource.Commands.Find(own => own.Name == command) is { } own)
        {
            return await own.Execute(new ExecuteCommandContext { ResourceName = run.Name, CancellationToken = cancellationToken });
        }

        if (command is not ("start" or "stop" or "restart"))
        {
            IEnumerable<string> known = ["start", "stop", "restart", .. run.Resource.Commands.Select(other => other.Name)];
            return CommandResults.Failure($"There is no command {command} of {run.Name}: {string.Join(", ", known)}.");
        }

        // For a dead one: the last of its life may still be under way.
        if (command != "start" || !run.Status.IsAlive)
        {
            await run.StopAsync();
        }

        if (command != "stop")
        {
            run.Start();
        }

        return CommandResults.Success($"{run.Name}: {command}.");
    }

    public async ValueTask DisposeAsync()
    {
        if (_application is not null)
        {
            await _application.DisposeAsync();
        }
    }

    /// <summary>A page on the web must not be able to stop resources through the browser of whoever looks at it.</summary>
    private static Task RefuseBrowsersAsync(HttpContext context, RequestDelegate next)
    {
        if (context.Request.Headers.Origin.Count == 0 && context.Request.Host.Host is "127.0.0.1" or "localhost")
        {
            return next(context);
        }

        context.Response.StatusCode = StatusCodes.Status403Forbidden;
        return Task.CompletedTask;
    }

    private static object Describe(ResourceRun run)
    {
        var status = run.Status;
        return new
        {
            name = run.Name,
            type = run.Resource.Kind,
            state = status.State.ToString(),
            ready = status.IsReady,
            problem = status.Problem,
            pid = status.ProcessId,
            exitCode = status.ExitCode,
            startedAt = status.StartedAt,
            urls = run.Resource.Endpoints.Select(endpoint => endpoint.Url),
        };
    }

    private static int FreePort(int preferred)
    {
        try
        {
            using var listener = new TcpListener(IPAddress.Loopback, preferred);
            listener.Start();
            return ((IPEndPoint)listener.LocalEndpoint).Port;
        }
        catch (SocketException) when (preferred != 0)
        {
            return FreePort(0);
        }
    }

    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
