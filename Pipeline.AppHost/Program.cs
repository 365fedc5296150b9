using Pipeline.AppHost;
using Pipeline.Core;
using Pipeline.NativeServers;

if (AppHostOptions.Parse(args, out var exitCode) is not { } options)
{
    return exitCode;
}

try
{
    var builder = DistributedApplication.CreateBuilder(options.HostArguments);

    // Where the table, the bucket, the queue and the warehouse are.
    var platform = Platform.Add(builder, options);

    // Runs the template's functions behind their event source mappings.
    var emulator = builder.AddProject("lambda-emulator", "../Pipeline.LambdaEmulator/Pipeline.LambdaEmulator.csproj")
        .WithHttpEndpoint(port: builder.Port("lambda-emulator", LocalSettings.EmulatorPort), isProxied: false)
        .WithHttpHealthCheck("/health")
        .WithArgs("--template", platform.TemplateFile, "--state", platform.EmulatorState)
        .WithArgs(platform.EmulatorArguments)
        .On(platform);

    // The Lambda: a process that asks the emulator for its next batch, as it asks AWS there.
    builder.AddProject("process-orders", "../Pipeline.Processor/Pipeline.Processor.csproj")
        .WithEnvironment("AWS_LAMBDA_RUNTIME_API", $"{emulator.GetEndpoint("http").Property(EndpointProperty.HostAndPort)}/{Names.Function}")
        .On(platform)
        .WaitFor(emulator);

    // The emulator creates the local slice, so the table is there when it is healthy.
    builder.AddProject("orders-api", "../Pipeline.OrdersApi/Pipeline.OrdersApi.csproj")
        .WithHttpEndpoint(port: builder.Port("orders-api", LocalSettings.OrdersApiPort), isProxied: false)
        .WithHttpHealthCheck("/health")
        .On(platform)
        .WaitFor(emulator);

    builder.AddProject("loader", "../Pipeline.Loader/Pipeline.Loader.csproj")
        .WithHttpEndpoint(port: builder.Port("loader", LocalSettings.LoaderPort), isProxied: false)
        .WithHttpHealthCheck("/health")
        .WithReference(platform.Warehouse)
        .On(platform)
        .WaitFor(emulator)
        .WaitFor(platform.WarehouseServer);

    builder.Build().Run();
    return 0;
}
catch (Exception e) when (e is DistributedApplicationException or PrerequisiteException)
{
    Console.Error.WriteLine(e.Message);
    return 1;
}
