using Amazon.DynamoDBv2;
using Pipeline.OrdersApi.Orders;
using Scalar.AspNetCore;

// appsettings.json lies beside the program, from wherever it is started.
var builder = WebApplication.CreateBuilder(new WebApplicationOptions { Args = args, ContentRootPath = AppContext.BaseDirectory });

// Telemetry, health endpoints, resilience: the same for every service.
builder.AddServiceDefaults();

// The table behind the orders: its name from the settings, the client, the health check.
builder.AddOrdersTable();

// Optional: the warehouse, to tell when a version is to be seen there.
builder.Services.AddSingleton(WarehouseView.Of(builder.Configuration.GetConnectionString(WarehouseView.ConnectionStringName)));

// Who may do what: a bearer token names scopes and one merchant.
builder.AddAccess();

// Every error is application/problem+json (RFC 9457), whoever finds it: a handler, the router or a failing table.
builder.Services.AddProblemDetails(options => options.CustomizeProblemDetails = Problems.Complete);
builder.Services.AddExceptionHandler<TableUnavailableHandler>();

builder.Services.ConfigureHttpJsonOptions(options => OrderItems.UseOrderJson(options.SerializerOptions));
builder.Services.AddOpenApi(OrdersOpenApi.DocumentName, OrdersOpenApi.Describe);

builder.WebHost.ConfigureKestrel(kestrel =>
{
    kestrel.AddServerHeader = false;
    kestrel.Limits.MaxRequestBodySize = RequestJson.MaxBodyBytes;
});

var app = builder.Build();

app.UseResponseHeaders();
app.UseExceptionHandler(new ExceptionHandlerOptions
{
    // What the server itself refuses (a body that ends early, say) keeps the status that it chose.
    StatusCodeSelector = error => error is BadHttpRequestException refused ? refused.StatusCode : StatusCodes.Status500InternalServerError,
});
app.UseStatusCodePages();
app.UseAuthentication();
app.UseAuthorization();

app.MapDefaultEndpoints();
app.MapOrders();

// The description asks for a token like everything else, but on a developer's machine, where the page shows it.
var openApi = app.MapOpenApi();
if (app.Environment.IsDevelopment())
{
    openApi.AllowAnonymous();
    app.MapScalarApiReference(ResponseHeaders.DocsPath, OrdersOpenApi.ShowPage).AllowAnonymous();
}

// A setting that is missing for the client stops the start, not the first request.
_ = app.Services.GetRequiredService<IAmazonDynamoDB>();
app.Run();
