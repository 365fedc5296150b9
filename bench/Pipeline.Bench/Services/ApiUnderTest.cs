using System.Globalization;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using Pipeline.Core;
using Pipeline.NativeServers;
using Pipeline.OrdersApi.Orders;

namespace Pipeline.Bench;

/// <summary>The Orders API as it runs in production, in a process of its own.</summary>
internal sealed class ApiUnderTest : IAsyncDisposable
{
    private static readonly TimeSpan AnswersWithin = TimeSpan.FromSeconds(10);

    private readonly LocalIssuer _issuer;
    private TaskCompletionSource<long> _allocated = new();

    private ApiUnderTest(LocalIssuer issuer, Uri url)
    {
        _issuer = issuer;
        Url = url;
    }

    public Uri Url { get; }

    public ServiceUnderTest Service { get; private set; } = null!;

    /// <param name="dynamoDb">Where the tables are.</param>
    /// <param name="accessKey">DynamoDB Local keeps a database for each.</param>
    /// <param name="table">Of the orders.</param>
    /// <param name="idempotencyTable">Of the outcomes.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public static async Task<ApiUnderTest> StartAsync(
        Uri dynamoDb, string accessKey, string table, string idempotencyTable, CancellationToken cancellationToken)
    {
        var api = new ApiUnderTest(new LocalIssuer(RandomNumberGenerator.GetBytes(32)), new Uri($"http://127.0.0.1:{LoopbackPorts.Free()}"));
        api.Service = await ServiceUnderTest.StartAsync(
            "API",
            typeof(OrdersTableOptions).Assembly.Location,
            [],
            new Dictionary<string, string>(api._issuer.ApiSettings)
            {
                [Names.Settings.TableName] = table,
                [Names.Settings.IdempotencyTableName] = idempotencyTable,
                [Names.Settings.CursorKey] = Convert.ToBase64String(RandomNumberGenerator.GetBytes(32)),
                [Names.Settings.RequestsPerSecond] = "1000",
                ["ASPNETCORE_ENVIRONMENT"] = "Production",
                ["ASPNETCORE_URLS"] = api.Url.ToString(),
                ["AWS_REGION"] = "us-east-1",
                ["AWS_ACCESS_KEY_ID"] = accessKey,
                ["AWS_SECRET_ACCESS_KEY"] = accessKey,
                ["AWS_ENDPOINT_URL_DYNAMODB"] = dynamoDb.ToString(),
                ["DOTNET_STARTUP_HOOKS"] = typeof(StartupHook).Assembly.Location,
            },
            new Uri(api.Url, "/health"),
            cancellationToken,
            api.Read);
        return api;
    }

    public AuthenticationHeaderValue TokenOf(string merchant) => new("Bearer", _issuer.Token(merchant, TimeSpan.FromHours(4), LocalIssuer.AllScopes));

    /// <summary>What the process has allocated so far.</summary>
    public async Task<long> AllocatedBytesAsync()
    {
        _allocated = new TaskCompletionSource<long>();
        await Service.Input.WriteLineAsync();
        await Service.Input.FlushAsync();
        return await _allocated.Task.WaitAsync(AnswersWithin);
    }

    public ValueTask DisposeAsync() => Service.DisposeAsync();

    private void Read(string line)
    {
        if (line.StartsWith(StartupHook.Answer, StringComparison.Ordinal))
        {
            _allocated.SetResult(long.Parse(line.AsSpan(StartupHook.Answer.Length), CultureInfo.InvariantCulture));
        }
    }
}
