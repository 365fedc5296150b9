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

    // What personal data is protected with on this machine.
    var personalDataKey = Convert.ToBase64String(LocalKey.In(Platform.ArtifactsOf(builder), LocalKey.PersonalData));

    // The Lambda: a process that asks the emulator for its next batch, as it asks AWS there.
    builder.AddProject("process-orders", "../Pipeline.Processor/Pipeline.Processor.csproj")
        .WithEnvironment("AWS_LAMBDA_RUNTIME_API", $"{emulator.GetEndpoint("http").Property(EndpointProperty.HostAndPort)}/{Names.Function}")
        .WithEnvironment(Names.Settings.PersonalDataKey, personalDataKey)
        .On(platform)
        .WaitFor(emulator);

    // Who issues the tokens that the API asks for: here it is this machine itself.
    var issuer = LocalIssuer.In(Platform.ArtifactsOf(builder));

    // The emulator creates the local slice, so the table is there when it is healthy.
    var api = builder.AddProject("orders-api", "../Pipeline.OrdersApi/Pipeline.OrdersApi.csproj")
        // For its documentation page, and cursors that it signs with a key of its own.
        .WithEnvironment("ASPNETCORE_ENVIRONMENT", "Development")
        .WithHttpEndpoint(port: builder.Port("orders-api", LocalSettings.OrdersApiPort), isProxied: false)
        .WithHttpHealthCheck("/health")
        // To tell when a version is to be seen there; the API works without it, too.
        .WithReference(platform.Warehouse)
        .On(platform)
        .WaitFor(emulator);
    foreach (var (name, value) in issuer.ApiSettings)
    {
        api.WithEnvironment(name, value);
    }

    var loader = builder.AddProject("loader", "../Pipeline.Loader/Pipeline.Loader.csproj")
        .WithHttpEndpoint(port: builder.Port("loader", LocalSettings.LoaderPort), isProxied: false)
        .WithHttpHealthCheck("/health")
        .WithReference(platform.Warehouse)
        .On(platform)
        .WaitFor(emulator)
        .WaitFor(platform.WarehouseServer);

    // What people do to a running pipeline, as buttons of the dashboard.
    var settings = new Dictionary<string, ReferenceExpression>(platform.Environment)
    {
        ["ConnectionStrings__warehouse"] = platform.Warehouse.Resource.ConnectionStringExpression,
        [Names.Settings.PersonalDataKey] = ReferenceExpression.Create($"{personalDataKey}"),
        [LocalIssuer.KeySetting] = ReferenceExpression.Create($"{issuer.ApiSettings[LocalIssuer.KeySetting]}"),
    };
    api.WithOperatorCommand(
        "place-orders",
        "Place 100 orders",
        new CommandOptions { IconName = "Cart", Description = "Sends the whole lives of 100 generated orders through the API." },
        settings,
        () => OperatorCommands.PlaceOrders(api.GetEndpoint("http").Url));
    loader.WithOperatorCommand(
        "reconcile",
        "Reconcile",
        new CommandOptions { IconName = "Scales", Description = "Compares the table with the warehouse; nothing is changed." },
        settings,
        () => ["reconcile"]);
    loader.WithOperatorCommand(
        "replay-today",
        "Replay today",
        new CommandOptions { IconName = "ArrowRepeatAll", Description = "Loads the change files of today (UTC) again; what is there stays as it is." },
        settings,
        () => OperatorCommands.ReplayDayOf(DateTime.UtcNow));

    Console.WriteLine("A token for the Orders API, for the merchant m-1 and 12 hours (another: dotnet run --project Pipeline.Ops -- token --help):");
    Console.WriteLine($"TOKEN={issuer.Token("m-1", TimeSpan.FromHours(12), LocalIssuer.AllScopes)}");
    builder.Build().Run();
    return 0;
}
catch (Exception e) when (e is DistributedApplicationException or PrerequisiteException)
{
    Console.Error.WriteLine(e.Message);
    return 1;
}
