using Amazon.DynamoDBv2;
using Pipeline.OrdersApi.Orders;

// appsettings.json lies beside the program, from wherever it is started.
var builder = WebApplication.CreateBuilder(new WebApplicationOptions { Args = args, ContentRootPath = AppContext.BaseDirectory });

// Telemetry, health endpoints, resilience: the same for every service.
builder.AddServiceDefaults();

// The table behind the orders: its name from the settings, the client, the health check.
builder.AddOrdersTable();

// Every error is application/problem+json (RFC 9457), whoever finds it: a handler, the router or a failing table.
builder.Services.AddProblemDetails();
builder.Services.AddExceptionHandler<TableUnavailableHandler>();

builder.Services.ConfigureHttpJsonOptions(options => OrderItems.UseOrderJson(options.SerializerOptions));
builder.Services.AddOpenApi(OrdersOpenApi.DocumentName, OrdersOpenApi.Describe);

builder.WebHost.ConfigureKestrel(kestrel =>
{
    kestrel.AddServerHeader = false;
    kestrel.Limits.MaxRequestBodySize = RequestJson.MaxBodyBytes;
});

var app = builder.Build();

app.UseExceptionHandler(new ExceptionHandlerOptions
{
    // What the server itself refuses (a body that ends early, say) keeps the status that it chose.
    StatusCodeSelector = error => error is BadHttpRequestException refused ? refused.StatusCode : StatusCodes.Status500InternalServerError,
});
app.UseStatusCodePages();

app.MapDefaultEndpoints();
app.MapOpenApi();
app.MapOrders();

// A setting that is missing for the client stops the start, not the first request.
_ = app.Services.GetRequiredService<IAmazonDynamoDB>();
app.Run();
