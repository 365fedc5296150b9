using System.Collections.Concurrent;
using System.Net;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;
using Amazon.SQS;
using Amazon.SQS.Model;
using Npgsql;
using Pipeline.Core;
using Pipeline.Loader.Tests.Redshift;
using Pipeline.NativeServers;
using Pipeline.Processor;
using Pipeline.UnitTests;

namespace Pipeline.IntegrationTests;

/// <summary>
/// What is deployed is started as Lambda starts it, from the archives, with the template's own environment, against the
/// emulator's Runtime API; and it does its work. Redshift is the stand-in of the loader's tests, the Lambda Web Adapter and
/// the Secrets extension, which are layers of AWS's, are played here.
/// </summary>
[Collection(nameof(WholePipeline))]
public sealed class PublishedFunctionsTests(PublishedFunctions published) : IClassFixture<PublishedFunctions>
{
    private const string Region = "us-east-1";
    private const string AccessKey = "publishedfunctions";
    private const string SessionToken = "a-session-token";

    /// <summary>Of each step, on a busy machine.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private static string Bucket => Names.BucketFor(Names.LocalAccount, Region);

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_published_functions_carry_an_order_from_the_API_into_the_warehouse(bool isNative)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "An archive made on Windows cannot say that the API's start script is executable; deployments start elsewhere, too.");
        var folder = Directory.CreateTempSubdirectory("published-functions-run-").FullName;
        try
        {
            await CarryAsync(folder, isNative ? await PublishedFunctions.PublishNativeAsync(folder, Cancelled) : null);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <param name="folder">For what this run writes.</param>
    /// <param name="native">The folder of process_orders as a native program; null for its archive, which is managed.</param>
    private async Task CarryAsync(string folder, string? native)
    {
        await using var servers = await Servers.StartAsync(folder, Cancelled);
        using var s3 = new AmazonS3Client(
            new BasicAWSCredentials(AccessKey, AccessKey),
            new AmazonS3Config { ServiceURL = servers.S3Url, AuthenticationRegion = Region, ForcePathStyle = true });
        using var sqs = new AmazonSQSClient(
            new BasicAWSCredentials(AccessKey, AccessKey), new AmazonSQSConfig { ServiceURL = servers.S3Url, AuthenticationRegion = Region });
        await using var postgres = NpgsqlDataSource.Create(servers.WarehouseConnectionString);
        await using var redshift = await RedshiftStandIn.StartAsync(postgres, "loader", Bucket, (key, cancellationToken) => ReadAsync(s3, key, cancellationToken));
        await using var secrets = new SecretsExtension(SessionToken, redshift.Password);

        var emulatorPort = LoopbackPorts.Free();
        var emulatorUrl = $"http://127.0.0.1:{emulatorPort}";
        Dictionary<string, string> aws = new()
        {
            ["AWS_REGION"] = Region,
            ["AWS_ACCESS_KEY_ID"] = AccessKey,
            ["AWS_SECRET_ACCESS_KEY"] = AccessKey,
            ["AWS_ENDPOINT_URL_DYNAMODB"] = servers.DynamoDbUrl,
            ["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"] = servers.DynamoDbUrl,
            ["AWS_ENDPOINT_URL_S3"] = servers.S3Url,
            ["AWS_ENDPOINT_URL_SQS"] = servers.S3Url,
        };
        await using var emulator = new ServiceProcess(
            "Pipeline.LambdaEmulator",
            ["--template", published.TemplatePath, "--state", Path.Combine(folder, "emulator"), "--provision"],
            new Dictionary<string, string>(aws) { ["ASPNETCORE_URLS"] = emulatorUrl },
            new Uri($"{emulatorUrl}/health"));
        await emulator.StartAsync(Cancelled);

        // What CloudFormation would fill in, and what stands for the parts of AWS.
        var certificate = Path.Combine(folder, "redshift.pem");
        await File.WriteAllTextAsync(certificate, redshift.CertificatePem, Cancelled);
        var apiPort = LoopbackPorts.Free();
        await using var issuer = new OpenIdProvider();
        await using var api = Start("orders_api", new(issuer.ApiSettings)
        {
            [Names.Settings.CursorKey] = Convert.ToBase64String(System.Security.Cryptography.RandomNumberGenerator.GetBytes(32)),
            [Names.Settings.TableName] = Names.Table,
            [Names.Settings.IdempotencyTableName] = Names.IdempotencyTable,
            ["ASPNETCORE_URLS"] = $"http://127.0.0.1:{apiPort}",
        });
        await using var process = Start(Names.Function, new()
        {
            [Names.Settings.BucketName] = Bucket,
            [Names.Settings.PersonalDataSecretArn] = SecretsExtension.PersonalDataArn,
            ["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"] = $"{secrets.Port}",
        });
        await using var loader = Start("load_orders", new()
        {
            [Names.Settings.BucketName] = Bucket,
            [Names.Settings.WarehouseSecretArn] = SecretsExtension.SecretArn,
            [Names.Settings.WarehouseCopyRoleArn] = RedshiftStandIn.CopyRole,
            ["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"] = $"{secrets.Port}",
            ["SSL_CERT_FILE"] = certificate,
        });
        await using var adapter = new WebAdapter($"127.0.0.1:{emulatorPort}/orders_api", apiPort, Setting("orders_api", "AWS_LWA_READINESS_CHECK_PATH"));

        // A request, as API Gateway hands it to the function.
        using var http = new HttpClient { BaseAddress = new Uri(emulatorUrl), Timeout = Patience };
        var answer = await InvokeAsync(http, "orders_api", ApiEvent(issuer.Token("m-1"), "POST", "/orders", """
            {
              "order_id": "published-1", "merchant_id": "m-1", "currency": "BRL",
              "customer": { "customer_id": "c-1", "name": "Ana Souza", "city": "Recife", "state": "PE" },
              "items": [{ "product_id": "p-1", "seller_id": "s-1", "quantity": 2, "unit_price": 21.90, "freight": 7.5 }],
              "payments": [{ "method": "pix", "installments": 1, "amount": 51.30 }]
            }
            """));
        Assert.True((int)answer["statusCode"]! == 201, $"{answer}\n{api.Log}");

        // The stream brings it to process_orders, which writes the change file. S3's event wakes load_orders.
        await UntilAsync(async () => (await s3.ListObjectsV2Async(
            new ListObjectsV2Request { BucketName = Bucket, Prefix = Names.ChangesPrefix }, Cancelled)).S3Objects is { Count: > 0 }, "a change file is written", process);
        var queue = (await sqs.GetQueueUrlAsync("load_orders-wake-ups.fifo", Cancelled)).QueueUrl;
        await sqs.SendMessageAsync(new SendMessageRequest { QueueUrl = queue, MessageGroupId = "load", MessageBody = ChangeFileWritten() }, Cancelled);

        await UntilAsync(async () => await LoadedAsync(postgres) == "published-1|1|created|51.30", "the order is in the warehouse", loader);
        Assert.True(secrets.Asked.Contains(SecretsExtension.SecretArn) && secrets.Asked.Contains(SecretsExtension.PersonalDataArn));
        await using (var names = postgres.CreateCommand("SELECT document::jsonb #>> '{customer,name}' FROM orders"))
        {
            Assert.StartsWith("hmac:", (string?)await names.ExecuteScalarAsync(Cancelled), StringComparison.Ordinal);
        }

        Assert.Empty(redshift.Troubles);
        Assert.DoesNotContain(redshift.Password, loader.Log, StringComparison.Ordinal);

        // A wake-up by hand while nothing is left to do is answered at once, by the process that is warm.
        using var idle = await http.PostAsJsonAsync("/2015-03-31/functions/load_orders/invocations", new { }, Cancelled);
        Assert.False(idle.Headers.Contains("X-Amz-Function-Error"), loader.Log);
        Assert.False(loader.HasExited);

        // What the code makes of the golden events here, process_orders as it is deployed makes of them, too, byte for byte.
        foreach (var golden in Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "golden"), "*.json"))
        {
            var batch = JsonNode.Parse(await File.ReadAllTextAsync(golden, Cancelled))!["event"]!.AsObject();
            var expected = new MemoryObjects();
            await new ProcessOrders(expected, _ => ValueTask.FromResult(new PersonalDataProtector(SecretsExtension.PersonalDataKey)), TimeProvider.System)
                .HandleAsync(JsonSerializer.SerializeToUtf8Bytes(batch), new FakeInvocation());
            Assert.NotEmpty(expected.Stored);

            Assert.Equal("""{"batchItemFailures":[]}""", (await InvokeAsync(http, Names.Function, batch)).ToJsonString());
            foreach (var (key, content) in expected.Stored)
            {
                Assert.Equal(content, await ReadAsync(s3, key, Cancelled));
            }
        }

        FunctionProcess Start(string function, Dictionary<string, string> given)
        {
            var properties = published.Properties(function);
            var environment = new Dictionary<string, string>(aws)
            {
                ["AWS_SESSION_TOKEN"] = SessionToken,
                ["AWS_LAMBDA_RUNTIME_API"] = $"127.0.0.1:{emulatorPort}/{function}",
                ["AWS_LAMBDA_FUNCTION_NAME"] = function,
                ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = $"{properties["MemorySize"]}",
            };
            foreach (var (name, value) in properties["Environment"]!["Variables"]!.AsObject())
            {
                environment[name] = value is JsonValue text ? (string)text!
                    : name == "ConnectionStrings__warehouse" ? Local(value!)
                    : given.GetValueOrDefault(name) ?? throw new InvalidOperationException($"The template computes {name} of {function}; tell this test what it is here.");
            }

            foreach (var (name, value) in given)
            {
                environment[name] = value;
            }

            return native is not null && function == Names.Function
                ? new FunctionProcess(native, "bootstrap", environment)
                : new FunctionProcess(published.Unpack(function, folder), (string)properties["Handler"]!, environment);
        }

        string Setting(string function, string name) => (string)published.Properties(function)["Environment"]!["Variables"]![name]!;

        // The template's own connection string; of the cluster only the address differs.
        string Local(JsonNode join) => string.Concat(join["Fn::Join"]![1]!.AsArray().Select(part => part is JsonValue ? (string)part! : "localhost"))
            .Replace("Port=5439;", $"Port={redshift.Port};", StringComparison.Ordinal);
    }

    private static async Task<JsonNode> InvokeAsync(HttpClient http, string function, JsonObject payload)
    {
        using var answer = await http.PostAsJsonAsync($"/2015-03-31/functions/{function}/invocations", payload, Cancelled);
        return JsonNode.Parse(await answer.Content.ReadAsStringAsync(Cancelled))!;
    }

    /// <summary>Payload format 2.0 ("Create AWS Lambda proxy integrations for HTTP APIs" in API Gateway's developer guide).</summary>
    private static JsonObject ApiEvent(string token, string method, string path, string body) => new()
    {
        ["version"] = "2.0",
        ["routeKey"] = "$default",
        ["rawPath"] = path,
        ["rawQueryString"] = "",
        ["headers"] = new JsonObject { ["authorization"] = $"Bearer {token}", ["content-type"] = "application/json", ["host"] = "api.example.com" },
        ["requestContext"] = new JsonObject { ["http"] = new JsonObject { ["method"] = method, ["path"] = path, ["protocol"] = "HTTP/1.1", ["sourceIp"] = "203.0.113.1" } },
        ["body"] = body,
        ["isBase64Encoded"] = false,
    };

    /// <summary>What EventBridge puts into the queue for a new change file: of S3's event the rule's input path, `$.time`, as JSON.</summary>
    private static string ChangeFileWritten() => $"\"{DateTimeOffset.UtcNow:yyyy-MM-ddTHH:mm:ssZ}\"";

    private static async Task<string?> LoadedAsync(NpgsqlDataSource postgres)
    {
        try
        {
            await using var query = postgres.CreateCommand("SELECT concat_ws('|', order_id, version, status, total_amount) FROM orders");
            return (string?)await query.ExecuteScalarAsync(Cancelled);
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.UndefinedTable)
        {
            return null;
        }
    }

    private static async Task<byte[]?> ReadAsync(AmazonS3Client s3, string key, CancellationToken cancellationToken)
    {
        using var response = await s3.GetObjectAsync(Bucket, key, cancellationToken);
        using var content = new MemoryStream();
        await response.ResponseStream.CopyToAsync(content, cancellationToken);
        return content.ToArray();
    }

    private static Task UntilAsync(Func<Task<bool>> condition, string what, FunctionProcess function) => Eventually.TrueAsync(
        async () => !function.HasExited && await condition(), Patience, () => $"{what}; the function wrote:\n{function.Log}", Cancelled);

    /// <summary>The AWS Parameters and Secrets Lambda extension: answers whoever knows the session's token.</summary>
    private sealed class SecretsExtension : IAsyncDisposable
    {
        public const string PersonalDataArn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:order-pipeline/personal-data-AbCdEf";
        public const string PersonalDataKey = "a key of this test, which nobody else has";
        public const string SecretArn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:order-pipeline/warehouse-loader-AbCdEf";

        private readonly HttpListener _listener = new();
        private readonly Task _serving;

        public SecretsExtension(string sessionToken, string password)
        {
            _listener.Prefixes.Add($"http://localhost:{Port}/");
            _listener.Start();
            _serving = Task.Run(() => ServeAsync(sessionToken, password));
        }

        public int Port { get; } = LoopbackPorts.Free();

        /// <summary>The secrets that were asked for.</summary>
        public ConcurrentBag<string> Asked { get; } = [];

        public async ValueTask DisposeAsync()
        {
            _listener.Close();
            await _serving;
        }

        private async Task ServeAsync(string sessionToken, string password)
        {
            while (_listener.IsListening)
            {
                HttpListenerContext context;
                try
                {
                    context = await _listener.GetContextAsync();
                }
                catch (Exception e) when (e is HttpListenerException or ObjectDisposedException)
                {
                    return;
                }

                var asked = context.Request.QueryString["secretId"];
                var isRight = context.Request.Headers["X-Aws-Parameters-Secrets-Token"] == sessionToken
                    && context.Request.Url!.AbsolutePath == "/secretsmanager/get" && asked is SecretArn or PersonalDataArn;
                context.Response.StatusCode = isRight ? 200 : 401;
                var secret = asked == SecretArn ? JsonSerializer.Serialize(new { username = "loader", password }) : PersonalDataKey;
                if (isRight)
                {
                    Asked.Add(asked!);
                }

                var body = Encoding.UTF8.GetBytes(isRight ? JsonSerializer.Serialize(new { ARN = asked, SecretString = secret }) : "{}");
                await context.Response.OutputStream.WriteAsync(body);
                context.Response.Close();
            }
        }
    }

    /// <summary>The Lambda Web Adapter: waits until the application is ready, then turns each invocation into a request to it.</summary>
    private sealed class WebAdapter : IAsyncDisposable
    {
        private readonly HttpClient _runtime = new() { Timeout = Timeout.InfiniteTimeSpan };
        private readonly HttpClient _application;
        private readonly CancellationTokenSource _stop = new();
        private readonly Task _serving;

        public WebAdapter(string runtimeApi, int port, string readinessPath)
        {
            _application = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{port}") };
            _serving = Task.Run(() => ServeAsync($"http://{runtimeApi}/2018-06-01/runtime/invocation", readinessPath));
        }

        public async ValueTask DisposeAsync()
        {
            await _stop.CancelAsync();
            await _serving;
            _runtime.Dispose();
            _application.Dispose();
            _stop.Dispose();
        }

        private async Task ServeAsync(string invocations, string readinessPath)
        {
            try
            {
                while (!await IsReadyAsync(readinessPath))
                {
                    await Task.Delay(50, _stop.Token);
                }

                while (true)
                {
                    using var next = await _runtime.GetAsync($"{invocations}/next", _stop.Token);
                    var id = next.Headers.GetValues("Lambda-Runtime-Aws-Request-Id").Single();
                    var request = JsonNode.Parse(await next.Content.ReadAsStringAsync(_stop.Token))!;
                    using var message = new HttpRequestMessage(new HttpMethod((string)request["requestContext"]!["http"]!["method"]!), (string)request["rawPath"]!)
                    {
                        Content = new StringContent((string)request["body"]!, Encoding.UTF8, (string)request["headers"]!["content-type"]!),
                        Headers = { { "Authorization", (string?)request["headers"]!["authorization"] } },
                    };
                    using var answer = await _application.SendAsync(message, _stop.Token);
                    var response = new JsonObject
                    {
                        ["statusCode"] = (int)answer.StatusCode,
                        ["headers"] = new JsonObject { ["content-type"] = answer.Content.Headers.ContentType?.ToString() },
                        ["body"] = await answer.Content.ReadAsStringAsync(_stop.Token),
                        ["isBase64Encoded"] = false,
                    };
                    using var accepted = await _runtime.PostAsJsonAsync($"{invocations}/{id}/response", response, _stop.Token);
                    accepted.EnsureSuccessStatusCode();
                }
            }
            catch (Exception e) when (_stop.IsCancellationRequested && e is OperationCanceledException or HttpRequestException)
            {
                // The test is over.
            }
        }

        private async Task<bool> IsReadyAsync(string path)
        {
            try
            {
                using var answer = await _application.GetAsync(path, _stop.Token);
                return answer.IsSuccessStatusCode;
            }
            catch (HttpRequestException e) when (e.InnerException is SocketException)
            {
                return false;
            }
        }
    }
}
