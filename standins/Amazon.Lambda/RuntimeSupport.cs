using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using Amazon.Lambda.Core;
using Amazon.Lambda.RuntimeSupport.Bootstrap;

// What this project uses of Amazon.Lambda.RuntimeSupport 2.1.2: a client of the Lambda Runtime API
// (Lambda developer guide, "Using the Lambda runtime API for custom runtimes").
namespace Amazon.Lambda.RuntimeSupport.Bootstrap
{
    public class LambdaBootstrapOptions
    {
        /// <summary>Host and port, with an optional path, in place of the environment variable <c>AWS_LAMBDA_RUNTIME_API</c>.</summary>
        public string RuntimeApiEndpoint { get; set; }
    }
}

namespace Amazon.Lambda.RuntimeSupport
{
    /// <summary>Runs before the first event is asked for. Returns whether to go on; what it throws is reported as an init error.</summary>
    public delegate Task<bool> LambdaBootstrapInitializer();

    public class LambdaBootstrapBuilder
    {
        private readonly Func<Stream, ILambdaContext, Task<Stream>> _handler;
        private readonly ILambdaSerializer _serializer;
        private readonly LambdaBootstrapOptions _options = new();
        private HttpClient _httpClient;
        private LambdaBootstrapInitializer _initializer;

        private LambdaBootstrapBuilder(Func<Stream, ILambdaContext, Task<Stream>> handler, ILambdaSerializer serializer)
        {
            _handler = handler;
            _serializer = serializer;
        }

        public static LambdaBootstrapBuilder Create(Func<Stream, ILambdaContext, Task<Stream>> handler) => new(handler, null);
        public static LambdaBootstrapBuilder Create(Func<Stream, Task<Stream>> handler) => new((input, _) => handler(input), null);

        public static LambdaBootstrapBuilder Create(Func<ILambdaContext, Task> handler) =>
            new(async (_, context) =>
            {
                await handler(context);
                return Stream.Null;
            }, null);

        public static LambdaBootstrapBuilder Create<TInput>(Func<TInput, ILambdaContext, Task> handler, ILambdaSerializer serializer) =>
            new(async (input, context) =>
            {
                await handler(serializer.Deserialize<TInput>(input), context);
                return Stream.Null;
            }, serializer);

        public static LambdaBootstrapBuilder Create<TInput, TOutput>(
            Func<TInput, ILambdaContext, Task<TOutput>> handler, ILambdaSerializer serializer) =>
            new(async (input, context) =>
            {
                var output = new MemoryStream();
                serializer.Serialize(await handler(serializer.Deserialize<TInput>(input), context), output);
                output.Position = 0;
                return output;
            }, serializer);

        public static LambdaBootstrapBuilder Create<TInput, TOutput>(Func<TInput, Task<TOutput>> handler, ILambdaSerializer serializer) =>
            Create<TInput, TOutput>((input, _) => handler(input), serializer);

        public static LambdaBootstrapBuilder Create<TInput, TOutput>(
            Func<TInput, ILambdaContext, TOutput> handler, ILambdaSerializer serializer) =>
            Create<TInput, TOutput>((input, context) => Task.FromResult(handler(input, context)), serializer);

        public LambdaBootstrapBuilder UseHttpClient(HttpClient httpClient)
        {
            _httpClient = httpClient;
            return this;
        }

        public LambdaBootstrapBuilder UseBootstrapHandler(LambdaBootstrapInitializer lambdaBootstrapInitializer)
        {
            _initializer = lambdaBootstrapInitializer;
            return this;
        }

        public LambdaBootstrapBuilder ConfigureOptions(Action<LambdaBootstrapOptions> options = null)
        {
            options?.Invoke(_options);
            return this;
        }

        public LambdaBootstrap Build() => new(_httpClient, _handler, _serializer, _options, _initializer);
    }

    public class LambdaBootstrap : IDisposable
    {
        private const string ErrorContentType = "application/vnd.aws.lambda.error+json";

        private readonly Func<Stream, ILambdaContext, Task<Stream>> _handler;
        private readonly ILambdaSerializer _serializer;
        private readonly LambdaBootstrapInitializer _initializer;
        private readonly HttpClient _httpClient;
        private readonly bool _ownsHttpClient;
        private readonly string _runtime;

        internal LambdaBootstrap(
            HttpClient httpClient,
            Func<Stream, ILambdaContext, Task<Stream>> handler,
            ILambdaSerializer serializer,
            LambdaBootstrapOptions options,
            LambdaBootstrapInitializer initializer)
        {
            _handler = handler;
            _serializer = serializer;
            _initializer = initializer;
            _ownsHttpClient = httpClient is null;
            _httpClient = httpClient ?? ConstructHttpClient();
            // The next event is waited for without end, as in Lambda; the official client stops at 12 hours too.
            _httpClient.Timeout = TimeSpan.FromHours(12);
            var endpoint = string.IsNullOrEmpty(options.RuntimeApiEndpoint)
                ? Environment.GetEnvironmentVariable("AWS_LAMBDA_RUNTIME_API")
                : options.RuntimeApiEndpoint;
            _runtime = $"http://{endpoint}/2018-06-01/runtime";
        }

        public static HttpClient ConstructHttpClient()
        {
            // An idle connection stays open while a handler works: whoever answers the Runtime API can tell from
            // its end that this process is gone.
            var client = new HttpClient(new SocketsHttpHandler { PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan });
            client.DefaultRequestHeaders.TryAddWithoutValidation("User-Agent", $"aws-lambda-dotnet/{Environment.Version}-standin");
            return client;
        }

        /// <summary>Serves one event after another until cancelled.</summary>
        /// <exception cref="RuntimeApiClientException">The Runtime API refused a call: this environment must end.</exception>
        public async Task RunAsync(CancellationToken cancellationToken = default)
        {
            try
            {
                if (_initializer is not null && !await _initializer())
                {
                    return;
                }
            }
            catch (Exception exception)
            {
                LambdaLogger.Log(LogLevel.Error, exception, "The function's initialization failed");
                await ReportErrorAsync("/init/error", exception, cancellationToken);
                throw;
            }

            while (!cancellationToken.IsCancellationRequested)
            {
                try
                {
                    await InvokeOnceAsync(cancellationToken);
                }
                catch (OperationCanceledException)
                {
                    // Cancelled, or twelve hours without an event: the loop's condition tells which.
                }
            }
        }

        private async Task InvokeOnceAsync(CancellationToken cancellationToken)
        {
            using var next = await _httpClient.GetAsync($"{_runtime}/invocation/next", HttpCompletionOption.ResponseContentRead, cancellationToken);
            await ThrowUnlessAcceptedAsync(next, cancellationToken);
            var context = new LambdaContext(next.Headers, _serializer);
            Environment.SetEnvironmentVariable("_X_AMZN_TRACE_ID", context.TraceId);

            var batch = await next.Content.ReadAsByteArrayAsync(cancellationToken);
            using var input = new MemoryStream(batch, 0, batch.Length, writable: false, publiclyVisible: true);
            Stream output;
            try
            {
                output = await _handler(input, context);
            }
            catch (Exception exception)
            {
                context.Logger.LogError(exception, "The handler failed");
                await ReportErrorAsync($"/invocation/{context.AwsRequestId}/error", exception, cancellationToken);
                return;
            }

            using var content = new StreamContent(output);
            content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
            using var accepted = await _httpClient.PostAsync($"{_runtime}/invocation/{context.AwsRequestId}/response", content, cancellationToken);
            await ThrowUnlessAcceptedAsync(accepted, cancellationToken);
        }

        private async Task ReportErrorAsync(string path, Exception exception, CancellationToken cancellationToken)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, _runtime + path) { Content = new ByteArrayContent(ErrorJson(exception)) };
            request.Content.Headers.ContentType = new MediaTypeHeaderValue(ErrorContentType);
            request.Headers.TryAddWithoutValidation("Lambda-Runtime-Function-Error-Type", exception.GetType().Name);
            using var accepted = await _httpClient.SendAsync(request, cancellationToken);
            await ThrowUnlessAcceptedAsync(accepted, cancellationToken);
        }

        private static async Task ThrowUnlessAcceptedAsync(HttpResponseMessage response, CancellationToken cancellationToken)
        {
            if (!response.IsSuccessStatusCode)
            {
                var body = await response.Content.ReadAsStringAsync(cancellationToken);
                throw new RuntimeApiClientException(response.StatusCode, response.RequestMessage?.RequestUri, body);
            }
        }

        /// <summary><c>errorType</c>, <c>errorMessage</c>, <c>stackTrace</c> and the <c>cause</c>, as Lambda shows errors; 256 KB at most.</summary>
        private static byte[] ErrorJson(Exception exception)
        {
            const int BytesMax = 256 * 1024;
            using var buffer = new MemoryStream();
            using (var json = new Utf8JsonWriter(buffer))
            {
                WriteError(json, exception);
            }

            return buffer.Length <= BytesMax
                ? buffer.ToArray()
                : """{"errorMessage":"Exception exceeded maximum payload size of 256KB."}"""u8.ToArray();
        }

        private static void WriteError(Utf8JsonWriter json, Exception exception)
        {
            json.WriteStartObject();
            json.WriteString("errorType", exception.GetType().Name);
            json.WriteString("errorMessage", exception.Message);
            json.WriteStartArray("stackTrace");
            foreach (var line in (exception.StackTrace ?? "").Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
            {
                json.WriteStringValue(line);
            }

            json.WriteEndArray();
            if (exception.InnerException is not null)
            {
                json.WritePropertyName("cause");
                WriteError(json, exception.InnerException);
            }

            json.WriteEndObject();
        }

        public void Dispose()
        {
            Dispose(true);
            GC.SuppressFinalize(this);
        }

        protected virtual void Dispose(bool disposing)
        {
            if (disposing && _ownsHttpClient)
            {
                _httpClient.Dispose();
            }
        }
    }

    public class RuntimeApiClientException : Exception
    {
        internal RuntimeApiClientException(HttpStatusCode status, Uri uri, string response)
            : base($"The Lambda Runtime API answered {(int)status} to {uri}: {response}")
        {
            StatusCode = (int)status;
            Response = response;
        }

        public int StatusCode { get; }
        public string Response { get; }
    }

    internal sealed class LambdaContext : ILambdaContext, ILambdaLogger
    {
        private readonly HttpResponseHeaders _headers;
        private readonly DateTimeOffset _deadline;

        public LambdaContext(HttpResponseHeaders headers, ILambdaSerializer serializer)
        {
            _headers = headers;
            Serializer = serializer;
            _ = long.TryParse(Header("Lambda-Runtime-Deadline-Ms"), NumberStyles.None, CultureInfo.InvariantCulture, out var deadlineMs);
            _deadline = DateTimeOffset.FromUnixTimeMilliseconds(deadlineMs);
        }

        public string AwsRequestId => Header("Lambda-Runtime-Aws-Request-Id");
        public string InvokedFunctionArn => Header("Lambda-Runtime-Invoked-Function-Arn");
        public string TraceId => Header("Lambda-Runtime-Trace-Id");
        public string TenantId => Header("Lambda-Runtime-Aws-Tenant-Id");
        public TimeSpan RemainingTime => _deadline - DateTimeOffset.UtcNow;
        public ILambdaSerializer Serializer { get; }
        public ILambdaLogger Logger => this;
        public string FunctionName => Environment.GetEnvironmentVariable("AWS_LAMBDA_FUNCTION_NAME");
        public string FunctionVersion => Environment.GetEnvironmentVariable("AWS_LAMBDA_FUNCTION_VERSION");
        public string LogGroupName => Environment.GetEnvironmentVariable("AWS_LAMBDA_LOG_GROUP_NAME");
        public string LogStreamName => Environment.GetEnvironmentVariable("AWS_LAMBDA_LOG_STREAM_NAME");

        public int MemoryLimitInMB =>
            int.TryParse(Environment.GetEnvironmentVariable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), out var megabytes) ? megabytes : 0;

        /// <summary>Only the AWS Mobile SDK sends a client context and a Cognito identity.</summary>
        public IClientContext ClientContext => null;
        public ICognitoIdentity Identity => null;
        public void Log(string message) => Console.Write(message);
        public void LogLine(string message) => Log(LogLevel.Information.ToString(), message);
        public void Log(string level, string message) => Console.WriteLine($"{AwsRequestId}\t{level}\t{message}");

        private string Header(string name) => _headers.TryGetValues(name, out var values) ? values.FirstOrDefault() : null;
    }
}
