using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Reflection;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Pipeline.AppHost.Tests;

/// <summary>
/// The real dashboard over the running pipeline, in a real browser. The pictures in the README come from here:
/// DASHBOARD_SCREENSHOTS says where to put them.
/// </summary>
[Collection(StandIn.OneAtATime)]
public sealed partial class DashboardTests : IDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(180);
    private static readonly string[] Ports = ["dynamodb", "s3", "warehouse-server", "lambda-emulator", "orders-api", "loader"];

    private readonly string _folder = Directory.CreateTempSubdirectory("dashboard-test-").FullName;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task The_dashboard_shows_every_resource_its_log_and_one_trace_from_the_request_to_the_warehouse()
    {
        var chromium = Program("chromium", "chromium-browser", "google-chrome");
        Assert.SkipWhen(chromium is null, "There is no Chromium on the PATH.");
        Assert.SkipUnless(Directory.Exists(Metadata(typeof(DistributedApplication).Assembly, "NpmInstalled")),
            "The Aspire dashboard is not installed: dotnet run --project Pipeline.AppHost -- --dashboard installs it.");
        var script = Metadata(typeof(DashboardTests).Assembly, "DashboardScript");
        Assert.SkipUnless(Directory.Exists(Path.Combine(script, "node_modules", "playwright-core")),
            "Playwright is not installed: npm --prefix tests/Pipeline.AppHost.Tests/Dashboard ci");
        var screenshots = Environment.GetEnvironmentVariable("DASHBOARD_SCREENSHOTS") is { Length: > 0 } given ? Path.GetFullPath(given) : _folder;

        var ports = Ports.ToDictionary(name => name, _ => FreePort());
        using var appHost = Start(ports);
        try
        {
            var output = new Output(appHost.StandardOutput, appHost.StandardError);
            var login = (await output.UntilAsync(LoginUrl(), Deadline)).Value;
            var token = (await output.UntilAsync(Token(), Deadline)).Groups[1].Value;
            await output.UntilAsync(Ready(), Deadline);

            // A request that comes with a trace of its own goes on with it, so the page of that trace is known.
            var trace = ActivityTraceId.CreateRandom().ToHexString();
            await PlaceOrderAsync(ports["orders-api"], token, trace);
            var seen = await LookAsync(script, [login, trace, chromium!, screenshots]);

            string[] names = [.. Ports, "process-orders"];
            var resources = seen.GetProperty("resources").EnumerateArray().Select(Cells).Where(row => row.Intersect(names).Any()).ToList();
            Assert.Equal(names.Order(), resources.Select(row => row.Intersect(names).Single()).Order());
            Assert.All(resources, row => Assert.Contains("Running", row));
            Assert.Contains("Stored 1 changes", seen.GetProperty("consoleLog").GetString(), StringComparison.Ordinal);
            // As the page writes them: a call shows its protocol and whom it was for.
            var spans = seen.GetProperty("spans").EnumerateArray().Select(row => string.Join(" | ", Cells(row).Take(2))).ToList();
            Assert.Superset(
                new HashSet<string>
                {
                    "POST /orders/ | orders-api",
                    "HTTP POST 200 dynamodb | orders-api",
                    "invoke process_orders | lambda-emulator",
                    "process_orders | process-orders",
                    "RPC S3/PutObject | process-orders",
                    "load | loader",
                    "COPY warehouse | loader",
                },
                spans.ToHashSet());
        }
        finally
        {
            await StopAsync(appHost);
        }
    }

    private Process Start(Dictionary<string, int> ports)
    {
        var assembly = Metadata(typeof(DashboardTests).Assembly, "AppHost");
        var start = new ProcessStartInfo("dotnet", ["exec", assembly, "--dashboard", $"--Data={Path.Combine(_folder, "data")}"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (name, port) in ports)
        {
            start.ArgumentList.Add($"--Ports:{name}={port}");
        }

        start.Environment["ASPNETCORE_URLS"] = $"http://127.0.0.1:{FreePort()}";
        start.Environment["ASPIRE_DASHBOARD_OTLP_ENDPOINT_URL"] = $"http://127.0.0.1:{FreePort()}";
        return Process.Start(start)!;
    }

    /// <summary>As Ctrl-C does: everything that was started is stopped, too.</summary>
    private static async Task StopAsync(Process appHost)
    {
        using (var kill = Process.Start("kill", ["-TERM", $"{appHost.Id}"]))
        {
            await kill.WaitForExitAsync(CancellationToken.None);
        }

        using var deadline = new CancellationTokenSource(Deadline);
        await appHost.WaitForExitAsync(deadline.Token);
    }

    private static async Task PlaceOrderAsync(int port, string token, string trace)
    {
        using var http = new HttpClient();
        using var request = new HttpRequestMessage(HttpMethod.Post, $"http://127.0.0.1:{port}/orders")
        {
            Content = new StringContent("""
                {"order_id":"seen","currency":"BRL","customer":{"customer_id":"c-1","name":"Ana Souza","city":"Recife","state":"PE"},
                 "items":[{"product_id":"p-1","seller_id":"s-1","quantity":1,"unit_price":9.90,"freight":0.1}],
                 "payments":[{"method":"pix","installments":1,"amount":10.00}]}
                """, Encoding.UTF8, "application/json"),
        };
        request.Headers.Authorization = new("Bearer", token);
        request.Headers.Add("traceparent", $"00-{trace}-{ActivitySpanId.CreateRandom().ToHexString()}-01");
        using var answer = await http.SendAsync(request, Cancelled);
        Assert.Equal(HttpStatusCode.Created, answer.StatusCode);
    }

    private static async Task<JsonElement> LookAsync(string folder, string[] arguments)
    {
        using var node = Process.Start(new ProcessStartInfo("node", ["dashboard.mjs", .. arguments])
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        var (output, errors) = (node.StandardOutput.ReadToEndAsync(Cancelled), node.StandardError.ReadToEndAsync(Cancelled));
        await node.WaitForExitAsync(Cancelled);
        Assert.True(node.ExitCode == 0, await errors);
        return JsonDocument.Parse(await output).RootElement;
    }

    private static List<string> Cells(JsonElement row) => [.. row.EnumerateArray().Select(cell => cell.GetString()!)];

    private static string? Program(params string[] names) => names
        .SelectMany(name => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Select(folder => Path.Combine(folder, name)))
        .FirstOrDefault(File.Exists);

    private static string Metadata(Assembly assembly, string key) =>
        Path.GetFullPath(assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == key).Value!);

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    [GeneratedRegex(@"http://\S+/login\?t=\w+")]
    private static partial Regex LoginUrl();

    [GeneratedRegex(@"TOKEN=(\S+)")]
    private static partial Regex Token();

    [GeneratedRegex("Everything is ready")]
    private static partial Regex Ready();

    /// <summary>Everything that the AppHost has printed so far.</summary>
    private sealed class Output
    {
        private readonly StringBuilder _text = new();

        public Output(params StreamReader[] readers)
        {
            foreach (var reader in readers)
            {
                _ = ReadAsync(reader);
            }
        }

        public async Task<Match> UntilAsync(Regex pattern, TimeSpan within)
        {
            using var deadline = new CancellationTokenSource(within);
            while (true)
            {
                string text;
                lock (_text)
                {
                    text = _text.ToString();
                }

                if (pattern.Match(text) is { Success: true } match)
                {
                    return match;
                }

                Assert.False(deadline.IsCancellationRequested, $"Waited {within} for {pattern}. Output:\n{text}");
                await Task.Delay(50, Cancelled);
            }
        }

        private async Task ReadAsync(StreamReader reader)
        {
            while (await reader.ReadLineAsync() is { } line)
            {
                lock (_text)
                {
                    _text.AppendLine(line);
                }
            }
        }
    }
}
