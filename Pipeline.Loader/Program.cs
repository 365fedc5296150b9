using Amazon.S3;
using Microsoft.Extensions.Options;
using Pipeline.Loader;

var builder = WebApplication.CreateBuilder(args);
builder.AddServiceDefaults();

// Npgsql tells every command; the loader tells every load.
builder.Logging.AddFilter("Npgsql", LogLevel.Warning);

builder.Services.AddOptions<LoaderOptions>().BindConfiguration(LoaderOptions.Section).ValidateOnStart();
builder.Services.AddSingleton<IValidateOptions<LoaderOptions>, LoaderOptionsValidator>();

var warehouse = builder.Configuration.GetConnectionString("warehouse");
if (string.IsNullOrWhiteSpace(warehouse))
{
    await Console.Error.WriteLineAsync(
        "The setting ConnectionStrings__warehouse is not set. Set it to the warehouse's connection string, " +
        "for example Host=127.0.0.1;Port=15432;Database=warehouse;Username=postgres.");
    return 1;
}

builder.Services.AddNpgsqlDataSource(PostgresWarehouse.ConnectionString(warehouse));
builder.Services.AddSingleton<IAmazonS3>(_ => new AmazonS3Client(new AmazonS3Config { Timeout = TimeSpan.FromSeconds(30), MaxErrorRetry = 2 }));
builder.Services.AddSingleton<IObjectStore>(services => new S3ObjectStore(
    services.GetRequiredService<IAmazonS3>(), services.GetRequiredService<IOptions<LoaderOptions>>().Value.BucketName));
builder.Services.AddSingleton<IWarehouse, PostgresWarehouse>();
builder.Services.AddSingleton(TimeProvider.System);
builder.Services.AddSingleton<LoaderStatus>();
builder.Services.AddSingleton<LoaderTelemetry>();
builder.Services.AddSingleton<Discovery>();
builder.Services.AddSingleton<Loader>();
builder.Services.AddSingleton<Migrator>();
builder.Services.AddSingleton<LoadWorker>();
builder.Services.AddHostedService(services => services.GetRequiredService<LoadWorker>());
builder.Services.AddHealthChecks().AddCheck<LoaderStatus>("loader");

var app = builder.Build();
app.MapDefaultEndpoints();

// The host also ends in good order when its worker fails; whoever watches the process must see the difference.
var worker = app.Services.GetRequiredService<LoadWorker>();
await app.RunAsync();
return worker.HasGivenUp ? 1 : 0;
