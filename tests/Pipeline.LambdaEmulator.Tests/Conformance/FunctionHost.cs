using System.Collections.Concurrent;
using System.Net.Http.Headers;
using System.Text;
using Amazon.Lambda.Core;
using Amazon.Lambda.RuntimeSupport;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Functions;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>The Runtime API and the Invoke API on a free port of this machine, for one function called <c>orders</c>.</summary>
internal sealed class FunctionHost : IAsyncDisposable
{
    public const string Name = "orders";

    private readonly WebApplication _app;
    private readonly CancellationTokenSource _ends = new();
    private readonly List<Task> _environments = [];

    private FunctionHost(WebApplication app, LambdaFunction function, CollectingLogger log)
    {
        _app = app;
        Function = function;
        Log = log;
        Http = new HttpClient { BaseAddress = new Uri(app.Urls.Single()) };
    }

    public LambdaFunction Function { get; }

    /// <summary>What the function's part of the emulator logged.</summary>
    public CollectingLogger Log { get; }

    public HttpClient Http { get; }

    /// <summary>What a function's process finds in AWS_LAMBDA_RUNTIME_API.</summary>
    public string RuntimeEndpoint => $"{Http.BaseAddress!.Authority}/{Name}";

    public static async Task<FunctionHost> StartAsync(TimeSpan? timeout = null, int? reservedConcurrency = null, TimeProvider? time = null)
    {
        var definition = new FunctionDefinition(
            Name, $"arn:aws:lambda:us-east-1:000000000000:function:{Name}", timeout ?? TimeSpan.FromSeconds(30), reservedConcurrency);
        var log = new CollectingLogger();
        var function = new LambdaFunction(definition, time ?? TimeProvider.System, log);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0").UseLambdaRuntimeLimits();
        builder.Services.AddSingleton(new FunctionRegistry([function]));
        var app = builder.Build();
        app.MapRuntimeApi();
        app.MapInvokeApi();
        await app.StartAsync();
        return new FunctionHost(app, function, log);
    }

    /// <summary>Starts an environment of the function in this process, with Lambda's own client.</summary>
    public Task StartEnvironment(LambdaBootstrapBuilder function)
    {
        var environment = function.ConfigureOptions(options => options.RuntimeApiEndpoint = RuntimeEndpoint).Build().RunAsync(_ends.Token);
        _environments.Add(environment);
        return environment;
    }

    public Task StartEnvironment(Func<string, string> handler) => StartEnvironment(LambdaBootstrapBuilder.Create(
        async (Stream input, ILambdaContext _) =>
        {
            using var reader = new StreamReader(input);
            return (Stream)new MemoryStream(Encoding.UTF8.GetBytes(handler(await reader.ReadToEndAsync())));
        }));

    public Task<InvocationOutcome> InvokeAsync(string json = "{}") =>
        Function.InvokeAsync(EventPayload.Of(Encoding.UTF8.GetBytes(json)), CancellationToken.None);

    /// <summary>Asks for the next event as a process without Lambda's client would.</summary>
    public Task<HttpResponseMessage> NextAsync(HttpClient? client = null) =>
        (client ?? Http).GetAsync($"/{Name}/2018-06-01/runtime/invocation/next");

    public static string RequestIdOf(HttpResponseMessage next) => next.Headers.GetValues("Lambda-Runtime-Aws-Request-Id").Single();

    public Task<HttpResponseMessage> RespondAsync(string requestId, string json, HttpClient? client = null) =>
        (client ?? Http).PostAsync($"/{Name}/2018-06-01/runtime/invocation/{requestId}/response", Json(json));

    public Task<HttpResponseMessage> PostErrorAsync(string path, string body, string? errorType = null, string? xrayCause = null)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, $"/{Name}/2018-06-01/runtime/{path}") { Content = new StringContent(body) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/vnd.aws.lambda.error+json");
        if (errorType is not null)
        {
            request.Headers.Add("Lambda-Runtime-Function-Error-Type", errorType);
        }

        if (xrayCause is not null)
        {
            request.Headers.Add("Lambda-Runtime-Function-XRay-Error-Cause", xrayCause);
        }

        return Http.SendAsync(request);
    }

    /// <summary>Ends the server as SIGTERM does; environments that wait hear of it.</summary>
    public Task StopAsync() => _app.StopAsync();

    public static StringContent Json(string json) => new(json, Encoding.UTF8, "application/json");

    public async ValueTask DisposeAsync()
    {
        await _ends.CancelAsync();
        // How an environment ended is the business of the test that looks at it.
        await Task.WhenAll(_environments).ContinueWith(_ => { }, TaskScheduler.Default);
        await _app.DisposeAsync();
        Http.Dispose();
        _ends.Dispose();
    }
}

/// <summary>Keeps the messages, for tests that have to know that something was noticed.</summary>
internal sealed class CollectingLogger : ILogger<LambdaFunction>
{
    private readonly ConcurrentQueue<string> _messages = new();

    public IEnumerable<string> Messages => _messages;

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(Microsoft.Extensions.Logging.LogLevel logLevel) => true;

    public void Log<TState>(Microsoft.Extensions.Logging.LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
        _messages.Enqueue(formatter(state, exception));
}
