using Amazon.DynamoDBv2;
using Amazon.S3;
using Amazon.SQS;
using Pipeline.LambdaEmulator;
using Pipeline.LambdaEmulator.Functions;
using Pipeline.LambdaEmulator.Stack;
using Pipeline.LambdaEmulator.Streams;

// The web host ends the process on SIGTERM and Ctrl-C, not the command line's parser.
return await EmulatorOptions.Command(RunAsync).Parse(args).InvokeAsync(new() { ProcessTerminationTimeout = null });

static async Task<int> RunAsync(EmulatorOptions options)
{
    var plan = TemplateReader.Read(File.ReadAllText(options.TemplatePath), options.Stack, EmulatorOptions.Account, options.Region);
    options.RequireEndpoints(plan);

    var app = Build(options, plan);
    await app.RunAsync();
    return Environment.ExitCode;
}

static WebApplication Build(EmulatorOptions options, StackPlan plan)
{
    var builder = WebApplication.CreateBuilder();
    builder.WebHost.UseLambdaRuntimeLimits();
    if (string.IsNullOrEmpty(builder.Configuration[WebHostDefaults.ServerUrlsKey]))
    {
        builder.WebHost.UseUrls("http://127.0.0.1:5090");
    }

    builder.AddTelemetry();
    builder.Services.AddSingleton(options);
    builder.Services.AddSingleton(plan);
    builder.Services.AddSingleton(TimeProvider.System);
    builder.Services.AddSingleton(_ => new Telemetry(options.TraceAttribute, options.Region));

    // The local servers. They may be restarted under the emulator: it waits and tries again itself.
    builder.Services.AddSingleton<IAmazonDynamoDB>(_ => new AmazonDynamoDBClient());
    builder.Services.AddSingleton<IAmazonS3>(_ => new AmazonS3Client());
    builder.Services.AddSingleton<IAmazonSQS>(_ => new AmazonSQSClient());
    builder.Services.AddSingleton(_ => DynamoDbStreamsClient.For(options.StreamsEndpoint, options.Region));
    builder.Services.AddSingleton<Provisioner>();

    // The functions, and the mappings that feed them.
    builder.Services.AddEmulator(plan);

    var app = builder.Build();
    app.MapRuntimeApi();
    app.MapInvokeApi();
    app.MapStatusApi();
    return app;
}
