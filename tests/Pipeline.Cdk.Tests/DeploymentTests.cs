using System.Diagnostics;
using System.IO.Compression;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using System.Xml.Linq;

namespace Pipeline.Cdk.Tests;

/// <summary>
/// Deploys the template to moto's server, where it is installed: whether CloudFormation can put the parts together.
/// It drops most security settings silently; those are the rules' business.
/// </summary>
public sealed class DeploymentTests(Synthesis synthesis)
{
    [Fact]
    public async Task The_stack_is_created_its_mapping_reads_the_tables_stream_and_a_change_of_memory_leaves_the_table_alone()
    {
        Assert.SkipUnless(Tool.IsInstalled("moto_server"), "moto's server is not installed: pip install 'moto[server]'");
        await using var moto = await Moto.StartAsync();
        await moto.PutCodeAsync("Pipeline.OrdersApi", "Pipeline.Processor", "Pipeline.Loader");

        await moto.CloudFormationAsync("CreateStack", synthesis.Deployable.Json);

        Assert.Equal("CREATE_COMPLETE", await moto.StackStatusAsync());
        var stream = (await moto.TableAsync())["LatestStreamArn"]!.ToString();
        var mapping = await moto.MappingAsync("process_orders");
        Assert.Equal(stream, mapping["EventSourceArn"]!.ToString());
        Assert.Equal("TRIM_HORIZON", mapping["StartingPosition"]!.ToString());
        Assert.EndsWith(":load_orders-wake-ups.fifo", (await moto.MappingAsync("load_orders"))["EventSourceArn"]!.ToString(), StringComparison.Ordinal);

        var changed = new TemplateView(synthesis.Deployable.Json);
        changed["ProcessOrdersRunFunction"]["MemorySize"] = 3008;
        // AWS's own, which moto does not have and asks for in a change.
        changed["ProcessOrdersRunFunction"].Remove("Layers");
        await moto.CloudFormationAsync("UpdateStack", changed.Root.ToJsonString());

        Assert.Equal("UPDATE_COMPLETE", await moto.StackStatusAsync());
        Assert.Equal(3008, (int)(await moto.FunctionAsync("process_orders"))["MemorySize"]!);
        Assert.Equal(stream, (await moto.TableAsync())["LatestStreamArn"]!.ToString());
    }

    private sealed class Moto : IAsyncDisposable
    {
        private const string Region = "us-east-1";

        // The account that moto's server plays.
        private const string CodeBucket = $"cdk-hnb659fds-assets-123456789012-{Region}";

        private readonly Process _process;
        private readonly HttpClient _http;

        private Moto(Process process, HttpClient http)
        {
            _process = process;
            _http = http;
        }

        public static async Task<Moto> StartAsync()
        {
            var port = FreePort();
            var process = Tool.Start("moto_server", ["-H", "127.0.0.1", "-p", $"{port}"]);
            // Read and thrown away, or the pipe fills up and the server stops.
            process.OutputDataReceived += (_, _) => { };
            process.ErrorDataReceived += (_, _) => { };
            process.BeginOutputReadLine();
            process.BeginErrorReadLine();
            var moto = new Moto(process, new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{port}"), Timeout = TimeSpan.FromMinutes(1) });
            try
            {
                await moto.AnswersAsync();
                return moto;
            }
            catch
            {
                await moto.DisposeAsync();
                throw;
            }
        }

        /// <summary>Archives at the keys that the build's template names.</summary>
        public async Task PutCodeAsync(params string[] projects)
        {
            await SendAsync(new HttpRequestMessage(HttpMethod.Put, $"/{CodeBucket}"), "s3");
            using var archive = new MemoryStream();
            using (var zip = new ZipArchive(archive, ZipArchiveMode.Create, leaveOpen: true))
            {
                zip.CreateEntry("empty");
            }

            foreach (var project in projects)
            {
                await SendAsync(
                    new HttpRequestMessage(HttpMethod.Put, $"/{CodeBucket}/run-dotnet-publish-first/{project}.zip") { Content = new ByteArrayContent(archive.ToArray()) },
                    "s3");
            }
        }

        public Task<string> CloudFormationAsync(string action, string? template = null)
        {
            var form = new Dictionary<string, string> { ["Action"] = action, ["Version"] = "2010-05-15", ["StackName"] = Names.Stack };
            if (template is not null)
            {
                form["TemplateBody"] = template;
            }

            return SendAsync(new HttpRequestMessage(HttpMethod.Post, "/") { Content = new FormUrlEncodedContent(form) }, "cloudformation");
        }

        public async Task<string> StackStatusAsync() =>
            XDocument.Parse(await CloudFormationAsync("DescribeStacks")).Descendants().Single(e => e.Name.LocalName == "StackStatus").Value;

        public async Task<JsonNode> TableAsync()
        {
            var request = new HttpRequestMessage(HttpMethod.Post, "/")
            {
                Content = new StringContent($$"""{"TableName":"{{Names.Table}}"}""", new MediaTypeHeaderValue("application/x-amz-json-1.0")),
            };
            request.Headers.Add("X-Amz-Target", "DynamoDB_20120810.DescribeTable");
            return JsonNode.Parse(await SendAsync(request, "dynamodb"))!["Table"]!;
        }

        public async Task<JsonNode> MappingAsync(string function)
        {
            var answer = JsonNode.Parse(await SendAsync(new HttpRequestMessage(HttpMethod.Get, "/2015-03-31/event-source-mappings/"), "lambda"))!;
            return Assert.Single(answer["EventSourceMappings"]!.AsArray(), m => m!["FunctionArn"]!.ToString().EndsWith($":{function}", StringComparison.Ordinal))!;
        }

        public async Task<JsonNode> FunctionAsync(string name) =>
            JsonNode.Parse(await SendAsync(new HttpRequestMessage(HttpMethod.Get, $"/2015-03-31/functions/{name}"), "lambda"))!["Configuration"]!;

        public async ValueTask DisposeAsync()
        {
            _http.Dispose();
            _process.Kill(entireProcessTree: true);
            await _process.WaitForExitAsync();
            _process.Dispose();
        }

        private async Task AnswersAsync()
        {
            using var deadline = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
            deadline.CancelAfter(TimeSpan.FromSeconds(60));
            while (true)
            {
                Assert.False(_process.HasExited, "moto_server ended by itself.");
                try
                {
                    using var answer = await _http.GetAsync(new Uri("/moto-api/", UriKind.Relative), deadline.Token);
                    return;
                }
                catch (HttpRequestException)
                {
                    await Task.Delay(TimeSpan.FromMilliseconds(100), deadline.Token);
                }
            }
        }

        // Moto finds service and region in the signature's scope and does not look at the signature.
        private async Task<string> SendAsync(HttpRequestMessage request, string service)
        {
            using (request)
            {
                request.Headers.Authorization = new AuthenticationHeaderValue(
                    "AWS4-HMAC-SHA256", $"Credential=test/20260101/{Region}/{service}/aws4_request, SignedHeaders=host, Signature=none");
                using var answer = await _http.SendAsync(request, TestContext.Current.CancellationToken);
                var body = await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
                Assert.True(answer.IsSuccessStatusCode, $"{request.Method} {request.RequestUri} ({service}): {(int)answer.StatusCode} {body}");
                return body;
            }
        }

        private static int FreePort()
        {
            using var listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            return ((IPEndPoint)listener.LocalEndpoint).Port;
        }
    }
}
