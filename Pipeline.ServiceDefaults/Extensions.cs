using System.Diagnostics;
using System.Globalization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Diagnostics.HealthChecks;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Logging;
using OpenTelemetry;
using OpenTelemetry.Metrics;
using OpenTelemetry.Trace;

namespace Microsoft.Extensions.Hosting;

/// <summary>What every service of the pipeline has in common: telemetry, health endpoints, service discovery, resilient HTTP clients.</summary>
public static class Extensions
{
    /// <summary>Healthy when the service can do its work: all checks.</summary>
    public const string HealthPath = "/health";

    /// <summary>Healthy when the process answers: only the checks tagged <c>live</c>.</summary>
    public const string AlivePath = "/alive";

    private const string LiveTag = "live";

    private const string SampledShareSetting = "OTEL_TRACES_SAMPLER_ARG";

    public static TBuilder AddServiceDefaults<TBuilder>(this TBuilder builder)
        where TBuilder : IHostApplicationBuilder
    {
        builder.ConfigureOpenTelemetry();
        builder.AddDefaultHealthChecks();

        builder.Services.AddServiceDiscovery();
        builder.Services.ConfigureHttpClientDefaults(http =>
        {
            http.AddStandardResilienceHandler();
            http.AddServiceDiscovery();
        });

        return builder;
    }

    public static TBuilder ConfigureOpenTelemetry<TBuilder>(this TBuilder builder)
        where TBuilder : IHostApplicationBuilder
    {
        // Each service's own ActivitySource and Meter bear the project's name.
        var ownSource = builder.Environment.ApplicationName;

        // Each request in six lines, health requests among them, would bury what the services themselves say.
        builder.Logging.AddFilter("Microsoft.AspNetCore", LogLevel.Warning);
        builder.Logging.AddFilter("System.Net.Http", LogLevel.Warning);

        builder.Logging.AddOpenTelemetry(logging =>
        {
            logging.IncludeFormattedMessage = true;
            logging.IncludeScopes = true;
        });

        var telemetry = builder.Services.AddOpenTelemetry()
            .WithMetrics(metrics => metrics
                .AddAspNetCoreInstrumentation()
                .AddHttpClientInstrumentation()
                .AddRuntimeInstrumentation()
                .AddMeter(ownSource, "Npgsql"))
            .WithTracing(tracing => tracing
                .AddSource(ownSource, "Npgsql")
                .SetSampler(new ParentBasedSampler(new NoPollsSampler(SampledShare(builder.Configuration))))
                // Health is asked for every second or so: its spans would bury all others.
                .AddAspNetCoreInstrumentation(options => options.Filter = context => !IsHealthRequest(context))
                .AddHttpClientInstrumentation(options => options.EnrichWithHttpRequestMessage = NameAwsCall));

        // Where to, with which protocol and headers: the exporter reads OTEL_EXPORTER_OTLP_* itself. Without an
        // endpoint it would try localhost for ever.
        if (!string.IsNullOrWhiteSpace(builder.Configuration["OTEL_EXPORTER_OTLP_ENDPOINT"]))
        {
            telemetry.UseOtlpExporter();
        }

        return builder;
    }

    public static TBuilder AddDefaultHealthChecks<TBuilder>(this TBuilder builder)
        where TBuilder : IHostApplicationBuilder
    {
        builder.Services.AddHealthChecks()
            .AddCheck("self", () => HealthCheckResult.Healthy(), [LiveTag]);

        return builder;
    }

    public static WebApplication MapDefaultEndpoints(this WebApplication app)
    {
        app.MapHealthChecks(HealthPath).AllowAnonymous();
        app.MapHealthChecks(AlivePath, new HealthCheckOptions { Predicate = check => check.Tags.Contains(LiveTag) }).AllowAnonymous();

        return app;
    }

    /// <summary>
    /// The AWS SDK makes no spans without a package of its own, and a span "POST" tells nothing. The JSON protocols
    /// (DynamoDB, SQS) name the operation in a header: DynamoDB_20120810.PutItem.
    /// </summary>
    private static void NameAwsCall(Activity activity, HttpRequestMessage request)
    {
        if (request.Headers.TryGetValues("X-Amz-Target", out var targets)
            && targets.First().Split('.') is [var service, var operation])
        {
            // The conventions have the service's id: SQS, where the protocol has AmazonSQS.
            var name = service.Split('_')[0].Replace("Amazon", "", StringComparison.Ordinal);
            activity.SetTag("rpc.system", "aws-api");
            activity.SetTag("rpc.service", name);
            activity.SetTag("rpc.method", operation);
            if (name == "DynamoDB")
            {
                activity.SetTag("db.system.name", "aws.dynamodb");
                activity.SetTag("db.operation.name", operation);
            }

            activity.DisplayName = $"{name}.{operation}";
        }
    }

    /// <summary>How much of what nobody else has decided on is traced: the standard setting, with everything as its default.</summary>
    private static double SampledShare(IConfiguration configuration) => configuration[SampledShareSetting] switch
    {
        null or "" => 1,
        var text when double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var share) && share <= 1 => share,
        var text => throw new InvalidOperationException($"The setting {SampledShareSetting} is {text}: it must be a number from 0 (no traces) to 1 (all), such as 0.05."),
    };

    private static bool IsHealthRequest(HttpContext context) =>
        context.Request.Path.StartsWithSegments(HealthPath, StringComparison.Ordinal)
        || context.Request.Path.StartsWithSegments(AlivePath, StringComparison.Ordinal);

    /// <summary>
    /// A call to a server that no request and no span of the service asked for is a poll. Several a second would
    /// bury the traces of orders. A batch is recorded with any of the requests that it is linked to, whatever the share: else a
    /// request's trace would end where it met others.
    /// </summary>
    private sealed class NoPollsSampler(double share) : Sampler
    {
        private readonly TraceIdRatioBasedSampler _others = new(share);

        public override SamplingResult ShouldSample(in SamplingParameters samplingParameters) =>
            samplingParameters.Kind == ActivityKind.Client ? new(SamplingDecision.Drop)
            : samplingParameters.Links?.Any(link => link.Context.TraceFlags.HasFlag(ActivityTraceFlags.Recorded)) == true ? new(SamplingDecision.RecordAndSample)
            : _others.ShouldSample(samplingParameters);
    }
}
