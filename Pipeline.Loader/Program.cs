using System.Runtime.InteropServices;
using Amazon.S3;
using Microsoft.Extensions.Options;
using Pipeline.Loader;

var builder = WebApplication.CreateBuilder(args);
builder.AddServiceDefaults();

// Npgsql tells every command; the loader tells every load.
builder.Logging.AddFilter("Npgsql", LogLevel.Warning);

builder.Services.AddOptions<LoaderOptions>().BindConfiguration(LoaderOptions.Section).ValidateOnStart();
builder.Services.AddSingleton<IValidateOptions<LoaderOptions>, LoaderOptionsValidator>();
try
{
    builder.AddWarehouse();
}
catch (InvalidOperationException e)
{
    await Console.Error.WriteLineAsync(e.Message);
    return 1;
}

builder.Services.AddSingleton<IAmazonS3>(_ => new AmazonS3Client(new AmazonS3Config { Timeout = TimeSpan.FromSeconds(30), MaxErrorRetry = 2 }));
builder.Services.AddSingleton<IObjectStore>(services => new S3ObjectStore(
    services.GetRequiredService<IAmazonS3>(), services.GetRequiredService<IOptions<LoaderOptions>>().Value.BucketName));
builder.Services.AddSingleton(TimeProvider.System);
builder.Services.AddSingleton<LoaderStatus>();
builder.Services.AddSingleton<LoaderTelemetry>();
builder.Services.AddSingleton<Discovery>();
builder.Services.AddSingleton<Loader>();

// In Lambda it works when it is woken, elsewhere all the time.
if (builder.Configuration["AWS_LAMBDA_RUNTIME_API"] is { Length: > 0 })
{
    builder.Services.AddSingleton<WakeUp>();
    await using var function = builder.Build();
    using var stop = new CancellationTokenSource();
    using var onTerminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal =>
    {
        signal.Cancel = true;
        stop.Cancel();
    });
    await function.Services.GetRequiredService<WakeUp>().RunAsync(stop.Token);
    return 0;
}

builder.Services.AddSingleton<LoadWorker>();
builder.Services.AddHostedService(services => services.GetRequiredService<LoadWorker>());
builder.Services.AddHealthChecks().AddCheck<LoaderStatus>("loader");

var app = builder.Build();
app.MapDefaultEndpoints();

// The host also ends in good order when its worker fails; whoever watches the process must see the difference.
var worker = app.Services.GetRequiredService<LoadWorker>();
await app.RunAsync();
return worker.HasGivenUp ? 1 : 0;
