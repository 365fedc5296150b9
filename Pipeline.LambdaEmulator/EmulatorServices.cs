using Amazon.S3;
using Amazon.SQS;
using OpenTelemetry;
using OpenTelemetry.Metrics;
using OpenTelemetry.Trace;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Functions;
using Pipeline.LambdaEmulator.Stack;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator;

/// <summary>The emulator's parts, put together.</summary>
public static class EmulatorServices
{
    /// <summary>The plan's functions, and the mappings that feed them.</summary>
    public static void AddEmulator(this IServiceCollection services, StackPlan plan)
    {
        services.AddSingleton(provider => new FunctionRegistry(plan.Functions.Select(definition =>
            ActivatorUtilities.CreateInstance<LambdaFunction>(provider, definition))));
        services.AddSingleton<IReadOnlyList<IEventSourceMapping>>(provider =>
            [.. plan.Mappings.Select(mapping => Mapping(provider, mapping)), .. plan.QueueMappings.Select(mapping => Mapping(provider, mapping))]);
        services.AddSingleton<Emulator>();
        services.AddHostedService(provider => provider.GetRequiredService<Emulator>());
    }

    /// <summary>Limits of the HTTP server that are Lambda's, not a web site's.</summary>
    public static void UseLambdaRuntimeLimits(this IWebHostBuilder host) => host.ConfigureKestrel(kestrel =>
    {
        // The payload limit is checked where the answer is read, to tell the function; nothing else needs one.
        kestrel.Limits.MaxRequestBodySize = null;
        // Lambda's .NET client sends an error's X-Ray cause as a header of up to 1 MB.
        kestrel.Limits.MaxRequestHeadersTotalSize = 2 * 1024 * 1024;
        kestrel.Limits.MaxRequestBufferSize = 2 * 1024 * 1024;
        // A connection is idle while the handler works; a closed one means that the process is gone (RuntimeConnection).
        // The longest handler runs 15 minutes.
        kestrel.Limits.KeepAliveTimeout = TimeSpan.FromHours(1);
        // A process that stands in a debugger is slow, not an attacker.
        kestrel.Limits.MinRequestBodyDataRate = null;
        kestrel.Limits.MinResponseDataRate = null;
    });

    /// <summary>Traces, metrics and logs, exported only where OTEL_EXPORTER_OTLP_ENDPOINT says so.</summary>
    public static void AddTelemetry(this WebApplicationBuilder builder)
    {
        builder.Logging.AddFilter("Microsoft.AspNetCore", LogLevel.Warning);
        if (string.IsNullOrEmpty(builder.Configuration["OTEL_EXPORTER_OTLP_ENDPOINT"]))
        {
            return;
        }

        builder.Logging.AddOpenTelemetry(logging => logging.IncludeFormattedMessage = true);
        builder.Services.AddOpenTelemetry()
            .WithTracing(tracing => tracing.AddSource(Telemetry.Name))
            .WithMetrics(metrics => metrics.AddMeter(Telemetry.Name).AddAspNetCoreInstrumentation())
            .UseOtlpExporter();
    }

    private static QueueMapping Mapping(IServiceProvider provider, QueueMappingPlan plan) => new(
        plan,
        provider.GetRequiredService<EmulatorOptions>().Region,
        provider.GetRequiredService<FunctionRegistry>().Find(plan.Function.Name)!,
        provider.GetRequiredService<IAmazonSQS>(),
        provider.GetRequiredService<Telemetry>(),
        provider.GetRequiredService<TimeProvider>(),
        provider.GetRequiredService<ILogger<QueueMapping>>());

    private static EventSourceMapping Mapping(IServiceProvider provider, MappingPlan plan)
    {
        var options = provider.GetRequiredService<EmulatorOptions>();
        var time = provider.GetRequiredService<TimeProvider>();
        var loggers = provider.GetRequiredService<ILoggerFactory>();
        var onFailure = plan.OnFailure is null
            ? null
            : new OnFailureDestination(
                plan.OnFailure,
                plan.Id,
                provider.GetRequiredService<IAmazonSQS>(),
                provider.GetRequiredService<IAmazonS3>(),
                time,
                loggers.CreateLogger<OnFailureDestination>());
        return new EventSourceMapping(
            plan,
            streamArn => new CheckpointFile(options.StateFolder, plan.Id, streamArn),
            options.Region,
            provider.GetRequiredService<FunctionRegistry>().Find(plan.Function.Name)!,
            provider.GetRequiredService<DynamoDbStreamsClient>(),
            onFailure,
            provider.GetRequiredService<Telemetry>(),
            time,
            loggers);
    }
}
