using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.SQS;
using Pipeline.LambdaEmulator.Streams;
using Pipeline.NativeServers;

namespace Pipeline.LambdaEmulator.Tests;

/// <summary>DynamoDB Local, and the server for S3 and SQS, in memory, for the tests that need the real ones.</summary>
public sealed class LocalServers : IAsyncLifetime
{
    private NativeServer _dynamoDb = null!;
    private NativeServer _s3 = null!;

    public string DynamoDbUrl => _dynamoDb.Url;

    public string S3Url => _s3.Url;

    public async ValueTask InitializeAsync()
    {
        var s3 = NativeServer.StartAsync(S3Server.Define(LoopbackPorts.Free(), dataDirectory: null));
        _dynamoDb = await NativeServer.StartAsync(DynamoDbLocal.Define(LoopbackPorts.Free(), dataDirectory: null, isShortLived: true));
        _s3 = await s3;
    }

    public async ValueTask DisposeAsync()
    {
        await _dynamoDb.DisposeAsync();
        await _s3.DisposeAsync();
    }

    /// <summary>DynamoDB Local keeps a database per access key, of letters and digits: one for each test.</summary>
    public static string NewAccessKey() => $"test{Guid.NewGuid():N}";

    public AmazonDynamoDBClient DynamoDb(string accessKey) => new(
        accessKey, accessKey, new AmazonDynamoDBConfig { ServiceURL = DynamoDbUrl, AuthenticationRegion = "us-east-1" });

    public DynamoDbStreamsClient Streams(string accessKey) => new(
        new BasicAWSCredentials(accessKey, accessKey), new AmazonDynamoDBConfig { ServiceURL = DynamoDbUrl, AuthenticationRegion = "us-east-1" });

    public AmazonS3Client S3() => new("test", "test", new AmazonS3Config { ServiceURL = S3Url, AuthenticationRegion = "us-east-1", ForcePathStyle = true });

    public AmazonSQSClient Sqs() => new("test", "test", new AmazonSQSConfig { ServiceURL = S3Url, AuthenticationRegion = "us-east-1" });
}
