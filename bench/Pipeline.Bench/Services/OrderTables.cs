using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Amazon.Runtime;
using Pipeline.Core;
using Pipeline.NativeServers;

namespace Pipeline.Bench;

/// <summary>The tables as the template defines them, for those who write without the pipeline behind.</summary>
internal static class OrderTables
{
    public const string Orders = "BenchOrders";
    public const string Idempotency = "BenchOrdersIdempotency";

    /// <summary>Writers at a time: enough to keep both cores of a small machine at work.</summary>
    public const int Writers = 16;

    /// <summary>No retry: one that nobody sees would be measured as one write, and a table that is created twice is an error.</summary>
    /// <param name="servers">Whose DynamoDB Local.</param>
    /// <param name="accessKey">It keeps a database for each.</param>
    public static AmazonDynamoDBClient Client(ServerSet servers, string accessKey) => new(
        new BasicAWSCredentials(accessKey, accessKey),
        new AmazonDynamoDBConfig
        {
            ServiceURL = servers.DynamoDb.Url,
            AuthenticationRegion = LocalSettings.Region,
            Timeout = TimeSpan.FromSeconds(60),
            MaxErrorRetry = 0,
        });

    /// <summary>With both indexes, which a write has to keep up, and the stream.</summary>
    public static async Task CreateAsync(AmazonDynamoDBClient dynamo, CancellationToken cancellationToken)
    {
        await dynamo.CreateTableAsync(
            new CreateTableRequest
            {
                TableName = Orders,
                BillingMode = BillingMode.PAY_PER_REQUEST,
                AttributeDefinitions = [.. ((string[])["order_id", Names.CustomerKey, Names.StatusKey, "created_at"]).Select(name => new AttributeDefinition(name, ScalarAttributeType.S))],
                KeySchema = [new("order_id", KeyType.HASH)],
                GlobalSecondaryIndexes =
                [
                    .. (((string Name, string Key)[])[(Names.CustomerIndex, Names.CustomerKey), (Names.StatusIndex, Names.StatusKey)]).Select(index => new GlobalSecondaryIndex
                    {
                        IndexName = index.Name,
                        KeySchema = [new(index.Key, KeyType.HASH), new("created_at", KeyType.RANGE)],
                        Projection = new Projection { ProjectionType = ProjectionType.KEYS_ONLY },
                    }),
                ],
                StreamSpecification = new StreamSpecification { StreamEnabled = true, StreamViewType = StreamViewType.NEW_AND_OLD_IMAGES },
            },
            cancellationToken);
        await dynamo.CreateTableAsync(
            new CreateTableRequest
            {
                TableName = Idempotency,
                BillingMode = BillingMode.PAY_PER_REQUEST,
                AttributeDefinitions = [new("idempotency_key", ScalarAttributeType.S), new("part", ScalarAttributeType.N)],
                KeySchema = [new("idempotency_key", KeyType.HASH), new("part", KeyType.RANGE)],
            },
            cancellationToken);
    }

    /// <summary>Every writer its share, one after the other.</summary>
    public static Task EachAsync<T>(IReadOnlyList<T> all, Func<T, Task> write) => Task.WhenAll(Enumerable.Range(0, Writers).Select(writer => Task.Run(async () =>
    {
        for (var n = writer; n < all.Count; n += Writers)
        {
            await write(all[n]);
        }
    })));
}
