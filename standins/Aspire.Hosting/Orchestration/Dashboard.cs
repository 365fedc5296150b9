using System.Reflection;
using System.Security.Cryptography;
using Aspire.Hosting.ApplicationModel;
using Microsoft.Extensions.Configuration;

namespace Aspire.Hosting.Orchestration;

/// <summary>
/// The real Aspire dashboard as one more process. It comes from npm (`dashboard/`) on its first use; pages and OTLP
/// listen on the addresses that an AppHost's launchSettings.json names.
/// </summary>
internal sealed class Dashboard
{
    /// <summary>The configuration key that asks for it.</summary>
    public const string Switch = "Dashboard";

    public const string ResourceName = "aspire-dashboard";

    /// <summary>Stands for the resource's name in <see cref="TelemetryEnvironment"/>.</summary>
    public const string NamePlaceholder = "{resource}";

    // What Aspire's own AppHosts use, shortened from 5 s, 5 s and 60 s: a developer looks at it now.
    private const string ExportDelayMilliseconds = "1000";

    private Dashboard(ExecutableResource resource, Dictionary<string, string> telemetryEnvironment) =>
        (Resource, TelemetryEnvironment) = (resource, telemetryEnvironment);

    public ExecutableResource Resource { get; }

    /// <summary>What a process needs to send its telemetry to it.</summary>
    public Dictionary<string, string> TelemetryEnvironment { get; }

    /// <exception cref="DistributedApplicationException">It could not be installed.</exception>
    public static async Task<Dashboard> PrepareAsync(
        IConfiguration configuration, ResourceServer server, ConsoleLog log, CancellationToken cancellationToken)
    {
        var folder = await InstallAsync(log, cancellationToken);
        var frontend = new Uri(configuration["ASPNETCORE_URLS"]?.Split(';')[0] ?? "http://localhost:18888");
        var otlp = new Uri(configuration["ASPIRE_DASHBOARD_OTLP_ENDPOINT_URL"] ?? "http://localhost:4317");
        var (browserToken, otlpKey) = (NewKey(), NewKey());

        var resource = new ExecutableResource(
            ResourceName, Path.Combine(folder, "node_modules", "@microsoft", "aspire-cli-linux-x64", "bin", "aspire"), folder);
        resource.Arguments.AddRange(
        [
            "dashboard", "run", "--nologo", "--non-interactive",
            "--frontend-url", frontend.GetLeftPart(UriPartial.Authority),
            "--otlp-grpc-url", otlp.GetLeftPart(UriPartial.Authority),
            // Everything here sends gRPC; 0 lets it pick a port that is free.
            "--otlp-http-url", "http://127.0.0.1:0",
        ]);
        foreach (var (name, value) in new Dictionary<string, string>
        {
            ["ASPIRE_RESOURCE_SERVICE_ENDPOINT_URL"] = server.DashboardServiceUrl,
            ["DASHBOARD__RESOURCESERVICECLIENT__AUTHMODE"] = "ApiKey",
            ["DASHBOARD__RESOURCESERVICECLIENT__APIKEY"] = server.ApiKey,
            ["DASHBOARD__FRONTEND__AUTHMODE"] = "BrowserToken",
            ["DASHBOARD__FRONTEND__BROWSERTOKEN"] = browserToken,
            ["DASHBOARD__OTLP__AUTHMODE"] = "ApiKey",
            ["DASHBOARD__OTLP__PRIMARYAPIKEY"] = otlpKey,
            ["ASPIRE_CLI_TELEMETRY_OPTOUT"] = "1",
            ["ASPIRE_VERSION_CHECK_DISABLED"] = "true",
        })
        {
            resource.Environment[name] = ReferenceExpression.Of(value);
        }

        resource.Endpoints.Add(new Endpoint("http", "http", frontend.Port, $"/login?t={browserToken}"));
        resource.HealthCheck = new HttpHealthCheck(new EndpointReference(resource, "http"), "/login", 200);
        return new Dashboard(resource, new Dictionary<string, string>
        {
            ["OTEL_EXPORTER_OTLP_ENDPOINT"] = otlp.GetLeftPart(UriPartial.Authority),
            ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc",
            ["OTEL_EXPORTER_OTLP_HEADERS"] = $"x-otlp-api-key={otlpKey}",
            ["OTEL_SERVICE_NAME"] = NamePlaceholder,
            ["OTEL_RESOURCE_ATTRIBUTES"] = $"service.instance.id={NamePlaceholder}",
            ["OTEL_BSP_SCHEDULE_DELAY"] = ExportDelayMilliseconds,
            ["OTEL_BLRP_SCHEDULE_DELAY"] = ExportDelayMilliseconds,
            ["OTEL_METRIC_EXPORT_INTERVAL"] = ExportDelayMilliseconds,
            ["OTEL_TRACES_SAMPLER"] = "always_on",
        });
    }

    private static async Task<string> InstallAsync(ConsoleLog log, CancellationToken cancellationToken)
    {
        var target = Metadata("NpmInstalled");
        if (Directory.Exists(target))
        {
            return target;
        }

        log.Info("Installing the Aspire dashboard with npm (once, 130 MB)…");
        using var npm = ChildProcess.Start(
            "node", [Metadata("NpmInstaller"), Metadata("NpmSource"), target], Metadata("NpmSource"),
            ChildProcess.OwnEnvironment(), (line, _) => log.Write(ResourceName, line));
        try
        {
            return await npm.Exited.WaitAsync(cancellationToken) == 0
                ? target
                : throw new DistributedApplicationException("The Aspire dashboard could not be installed (see above). Run without --dashboard.");
        }
        finally
        {
            npm.Kill();
        }
    }

    private static string Metadata(string key) => typeof(Dashboard).Assembly
        .GetCustomAttributes<AssemblyMetadataAttribute>()
        .Single(attribute => attribute.Key == key).Value!;

    private static string NewKey() => RandomNumberGenerator.GetHexString(32, lowercase: true);
}
