using System.Diagnostics;
using System.Net;
using System.Runtime.InteropServices;
using System.Text;
using Pipeline.NativeServers;

namespace Pipeline.LambdaEmulator.Tests;

/// <summary>The emulator as it is used: a process with a command line and an environment, which can be killed.</summary>
internal sealed class EmulatorProcess(string dynamoDbUrl, string s3Url, string accessKey, string template, string stateFolder) : IAsyncDisposable
{
    private readonly HttpClient _http = new() { Timeout = TimeSpan.FromSeconds(5) };
    private readonly StringBuilder _output = new();
    private Process? _process;

    public int Port { get; } = LoopbackPorts.Free();

    public string Output
    {
        get
        {
            lock (_output)
            {
                return _output.ToString();
            }
        }
    }

    /// <summary>Starts it and waits until it is healthy.</summary>
    public async Task StartAsync()
    {
        Launch();
        await Poll.UntilAsync(() => _process!.HasExited || IsHealthy(), () => $"The emulator is not healthy: {Output}");
        Assert.False(_process!.HasExited, $"The emulator ended: {Output}");
    }

    /// <summary>Starts it and waits for its end; the exit code.</summary>
    public async Task<int> RunAsync()
    {
        Launch();
        await _process!.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        return _process.ExitCode;
    }

    /// <summary>SIGKILL.</summary>
    public async Task KillAsync()
    {
        _process!.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
        _process = null;
    }

    public Task<string> GetAsync(string path) => _http.GetStringAsync($"http://127.0.0.1:{Port}{path}", TestContext.Current.CancellationToken);

    public async ValueTask DisposeAsync()
    {
        if (_process is not null)
        {
            await KillAsync();
        }

        _http.Dispose();
    }

    private void Launch()
    {
        // The muxer of the runtime that runs this test: it need not be on the path.
        var muxer = Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet");
        var start = new ProcessStartInfo(muxer, [typeof(Emulator).Assembly.Location, "--template", template, "--state", stateFolder, "--provision"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment =
            {
                ["ASPNETCORE_URLS"] = $"http://127.0.0.1:{Port}",
                ["AWS_REGION"] = "us-east-1",
                ["AWS_ACCESS_KEY_ID"] = accessKey,
                ["AWS_SECRET_ACCESS_KEY"] = accessKey,
                ["AWS_ENDPOINT_URL_DYNAMODB"] = dynamoDbUrl,
                ["AWS_ENDPOINT_URL_S3"] = s3Url,
                ["AWS_ENDPOINT_URL_SQS"] = s3Url,
            },
        };
        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => Keep(line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(line.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    private bool IsHealthy()
    {
        try
        {
            using var answer = _http.Send(new HttpRequestMessage(HttpMethod.Get, $"http://127.0.0.1:{Port}/health"));
            return answer.StatusCode == HttpStatusCode.OK;
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
        {
            // Not there yet, or too busy to answer in time.
            return false;
        }
    }

    private void Keep(string? line)
    {
        lock (_output)
        {
            _output.AppendLine(line);
        }
    }
}
