using System.Net;
using System.Text.Json.Nodes;
using Amazon.Runtime;
using Amazon.S3;
using Pipeline.Processor;

namespace Pipeline.UnitTests;

/// <summary>The function behind the real bootstrap, and the bucket behind the real SDK, each over a scripted HTTP server.</summary>
public class EntryPointTests
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_bootstrap_hands_a_batch_to_the_function_and_its_failures_back()
    {
        var objects = new MemoryObjects { Before = (_, _) => throw MemoryObjects.Unavailable() };

        Assert.Equal("""{"batchItemFailures":[{"itemIdentifier":"5"}]}""", await InvokeAsync(objects, """
            {"Records":[{"eventID":"e1","eventName":"INSERT","dynamodb":{"ApproximateCreationDateTime":1795507200,"SequenceNumber":"5",
              "Keys":{"order_id":{"S":"o-1"}},"NewImage":{"order_id":{"S":"o-1"}}}}]}
            """));
        Assert.Equal("""{"batchItemFailures":[]}""", await InvokeAsync(objects, """{"Records":[]}"""));
    }

    [Fact]
    public async Task An_item_as_deep_as_DynamoDB_allows_is_stored()
    {
        // The image is one level, so 31 more inside of it.
        var value = """{"S":"deep"}""";
        for (var level = 0; level < 31; level++)
        {
            value = level % 2 == 0 ? $$$"""{"M":{"x":{{{value}}}}}""" : $$"""{"L":[{{value}}]}""";
        }

        var objects = new MemoryObjects();
        Assert.Equal("""{"batchItemFailures":[]}""", await InvokeAsync(objects, """
            {"Records":[{"eventID":"e1","eventName":"INSERT","dynamodb":{"ApproximateCreationDateTime":1795507200,"SequenceNumber":"5",
              "Keys":{"order_id":{"S":"o-1"}},"NewImage":{"order_id":{"S":"o-1"},"tree":TREE}}}]}
            """.Replace("TREE", value, StringComparison.Ordinal)));
        Assert.EndsWith(".parquet", Assert.Single(objects.Stored).Key, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_object_is_PUT_with_its_type_and_metadata_and_without_an_encoding_or_condition()
    {
        var server = new ScriptedServer(_ => new HttpResponseMessage(HttpStatusCode.OK));
        using var s3 = Client(server);

        await new S3ObjectWriter(s3, "bucket").PutAsync(
            "orders/changes/a=1/x.parquet", new byte[] { 1, 2, 3 }, "application/vnd.apache.parquet", new Dictionary<string, string> { ["rows"] = "7" }, Cancelled);

        var request = Assert.Single(server.Requests);
        Assert.Equal(HttpMethod.Put, request.Method);
        Assert.Equal("/bucket/orders/changes/a%3D1/x.parquet", request.RequestUri!.AbsolutePath);
        Assert.Equal("application/vnd.apache.parquet", request.Content!.Headers.ContentType!.MediaType);
        Assert.Equal(["7"], request.Headers.GetValues("x-amz-meta-rows"));
        Assert.False(request.Headers.Contains("If-None-Match"));
        Assert.DoesNotContain("gzip", request.Content.Headers.ContentEncoding);
    }

    [Fact]
    public async Task A_store_that_keeps_refusing_is_a_store_error_after_bounded_tries()
    {
        var server = new ScriptedServer(_ => new HttpResponseMessage(HttpStatusCode.ServiceUnavailable));
        using var s3 = Client(server);

        await Assert.ThrowsAsync<ObjectStoreException>(() =>
            new S3ObjectWriter(s3, "bucket").PutAsync("k", new byte[1], "text/plain", new Dictionary<string, string>(), Cancelled));
        Assert.Equal(2, server.Requests.Count);
    }

    [Fact]
    public async Task A_Runtime_API_that_is_gone_for_a_while_is_asked_again()
    {
        var answer = await InvokeAsync(new MemoryObjects(), """{ "Records": [] }""", refusedConnections: 1);

        Assert.Equal("""{"batchItemFailures":[]}""", answer);
    }

    private static AmazonS3Client Client(ScriptedServer server) => new(
        new BasicAWSCredentials("local", "local"),
        new AmazonS3Config { ServiceURL = "http://127.0.0.1:1", MaxErrorRetry = 1, HttpClientFactory = new Factory(server) });

    /// <summary>Runs the real bootstrap against a Runtime API that has one invocation.</summary>
    private static async Task<string> InvokeAsync(IObjectWriter objects, string payload, int refusedConnections = 0)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancelled);
        var answer = "";
        var served = false;
        using var runtimeApi = new HttpClient(new ScriptedServer(request =>
        {
            if (request.Method == HttpMethod.Get)
            {
                if (refusedConnections-- > 0)
                {
                    throw new HttpRequestException("connection refused");
                }

                if (served)
                {
                    stop.Cancel();
                    throw new TaskCanceledException();
                }

                served = true;
                return new HttpResponseMessage(HttpStatusCode.OK)
                {
                    Content = new StringContent(JsonNode.Parse(payload, documentOptions: new() { MaxDepth = 200 })!.ToJsonString(new() { MaxDepth = 200 })),
                    Headers =
                    {
                        { "Lambda-Runtime-Aws-Request-Id", "request-1" },
                        { "Lambda-Runtime-Deadline-Ms", DateTimeOffset.UtcNow.AddSeconds(30).ToUnixTimeMilliseconds().ToString(System.Globalization.CultureInfo.InvariantCulture) },
                        { "Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:000000000000:function:process_orders" },
                        { "Lambda-Runtime-Trace-Id", "Root=1" },
                    },
                };
            }

            answer = new StreamReader(request.Content!.ReadAsStream()).ReadToEnd();
            return new HttpResponseMessage(HttpStatusCode.Accepted);
        }));

        await EntryPoint.RunAsync(
            new ProcessOrders(objects, Protection.GetAsync, TimeProvider.System), runtimeApi: runtimeApi, runtimeApiEndpoint: "127.0.0.1:1/process_orders", cancellationToken: stop.Token);
        return answer;
    }

    private sealed class ScriptedServer(Func<HttpRequestMessage, HttpResponseMessage> answer) : HttpMessageHandler
    {
        public List<HttpRequestMessage> Requests { get; } = [];

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (request.Content is not null)
            {
                await request.Content.LoadIntoBufferAsync(cancellationToken);
            }

            Requests.Add(request);
            return answer(request);
        }
    }

    private sealed class Factory(HttpMessageHandler handler) : HttpClientFactory
    {
        public override HttpClient CreateHttpClient(IClientConfig clientConfig) => new(handler, disposeHandler: false);
        public override bool UseSDKHttpClientCaching(IClientConfig clientConfig) => false;
    }
}
