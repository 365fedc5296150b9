using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Pipeline.NativeServers;

[assembly: AssemblyFixture(typeof(Pipeline.OrdersApi.Tests.OrdersDatabase))]

namespace Pipeline.OrdersApi.Tests;

/// <summary>One DynamoDB Local, in memory, for the whole suite.</summary>
public sealed class OrdersDatabase : IAsyncLifetime
{
    // DynamoDB Local keeps a database per access key and takes letters and digits only.
    public const string AccessKey = "ordersApiTests";

    private NativeServer _server = null!;

    public string Url => _server.Url;

    public async ValueTask InitializeAsync() =>
        _server = await NativeServer.StartAsync(DynamoDbLocal.Define(LoopbackPorts.Free(), dataDirectory: null, isShortLived: true));

    public ValueTask DisposeAsync() => _server.DisposeAsync();

    public AmazonDynamoDBClient Client(HttpClientFactory? network = null) => new(AccessKey, AccessKey, new AmazonDynamoDBConfig
    {
        // The SDK keeps its budget for retries per process and address: with a path of its own (which the server
        // does not look at) a test that spends it all takes it from no other.
        ServiceURL = $"{_server.Url}/{Guid.NewGuid():N}",
        AuthenticationRegion = "us-east-1",
        // As the API sets them; the tests' own calls may wait for a busy machine.
        MaxErrorRetry = 2,
        Timeout = TimeSpan.FromSeconds(network is null ? 60 : 3),
        HttpClientFactory = network,
    });
}
