using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using Pipeline.Core;
using Pipeline.NativeServers;
using Pipeline.OrdersApi.Orders;

namespace Pipeline.Bench;

/// <summary>The Orders API as it runs in production, in a process of its own; its log is read and thrown away.</summary>
internal sealed class ApiUnderTest : IAsyncDisposable
{
    private static readonly TimeSpan HealthyWithin = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan AnswersWithin = TimeSpan.FromSeconds(10);

    private readonly LocalIssuer _issuer = new(RandomNumberGenerator.GetBytes(32));
    private readonly Process _process;
    private readonly Task _reading;
    private TaskCompletionSource<long> _allocated = new();

    private ApiUnderTest(Uri dynamoDb, string table, string idempotencyTable)
    {
        Url = new Uri($"http://127.0.0.1:{LoopbackPorts.Free()}");
        _process = Dotnet.Start(typeof(OrdersTableOptions).Assembly.Location, [], new Dictionary<string, string?>(_issuer.ApiSettings.ToDictionary(s => s.Key, string? (s) => s.Value))
        {
            [Names.Settings.TableName] = table,
            [Names.Settings.IdempotencyTableName] = idempotencyTable,
            [Names.Settings.CursorKey] = Convert.ToBase64String(RandomNumberGenerator.GetBytes(32)),
            [Names.Settings.RequestsPerSecond] = "1000",
            ["ASPNETCORE_ENVIRONMENT"] = "Production",
            ["ASPNETCORE_URLS"] = Url.ToString(),
            ["AWS_REGION"] = "us-east-1",
            ["AWS_ACCESS_KEY_ID"] = ApiStage.AccessKey,
            ["AWS_SECRET_ACCESS_KEY"] = ApiStage.AccessKey,
            ["AWS_ENDPOINT_URL_DYNAMODB"] = dynamoDb.ToString(),
            ["DOTNET_STARTUP_HOOKS"] = typeof(StartupHook).Assembly.Location,
        });
        _reading = ReadAsync();
    }

    public Uri Url { get; }

    public static async Task<ApiUnderTest> StartAsync(Uri dynamoDb, string table, string idempotencyTable, CancellationToken cancellationToken)
    {
        var api = new ApiUnderTest(dynamoDb, table, idempotencyTable);
        try
        {
            await api.HealthyAsync(cancellationToken);
            return api;
        }
        catch
        {
            await api.DisposeAsync();
            throw;
        }
    }

    public string TokenOf(string merchant) => _issuer.Token(merchant, TimeSpan.FromHours(4), LocalIssuer.AllScopes);

    /// <summary>What the process has allocated so far.</summary>
    public async Task<long> AllocatedBytesAsync()
    {
        _allocated = new TaskCompletionSource<long>();
        await _process.StandardInput.WriteLineAsync();
        await _process.StandardInput.FlushAsync();
        return await _allocated.Task.WaitAsync(AnswersWithin);
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
        }

        await _process.WaitForExitAsync();
        await _reading;
        _process.Dispose();
    }

    private async Task ReadAsync()
    {
        while (await _process.StandardOutput.ReadLineAsync() is { } line)
        {
            if (line.StartsWith(StartupHook.Answer, StringComparison.Ordinal))
            {
                _allocated.SetResult(long.Parse(line.AsSpan(StartupHook.Answer.Length), CultureInfo.InvariantCulture));
            }
        }
    }

    private async Task HealthyAsync(CancellationToken cancellationToken)
    {
        using var http = new HttpClient();
        var waited = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                using var answer = await http.GetAsync(new Uri(Url, "/health"), cancellationToken);
                if (answer.IsSuccessStatusCode)
                {
                    return;
                }
            }
            catch (HttpRequestException)
            {
                // Not listening yet.
            }

            if (_process.HasExited || waited.Elapsed > HealthyWithin)
            {
                throw new InvalidOperationException($"The API is not healthy after {waited.Elapsed.TotalSeconds:F0} s.");
            }

            await Task.Delay(20, cancellationToken);
        }
    }
}
