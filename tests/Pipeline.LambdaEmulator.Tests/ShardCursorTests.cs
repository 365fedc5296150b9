using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator.Tests;

public sealed class ShardCursorTests
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    /// <summary>Only what lay between a position and the oldest record is lost; before the beginning lies nothing.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_trimmed_position_is_told_of_when_records_may_have_been_passed_over(bool hasRead)
    {
        await using var scripted = await ScriptedStream.StartAsync();
        using var client = new DynamoDbStreamsClient(
            new BasicAWSCredentials("test", "test"), new AmazonDynamoDBConfig { ServiceURL = scripted.Url.ToString(), AuthenticationRegion = "us-east-1" });
        var stream = new StreamSource(client, scripted.StreamArn, new StreamRecordFormat("us-east-1", scripted.StreamArn), TimeProvider.System);
        var cursor = new ShardCursor(stream, "s", new ShardPosition.TrimHorizon());
        scripted.AddShard("s");
        if (hasRead)
        {
            scripted.Write("s", 1);
        }

        Assert.Equal(hasRead ? 1 : 0, (await cursor.ReadAsync(Cancelled)).Records.Count);
        scripted.Write("s", 2, 3);
        scripted.Trim("s", 2);

        var page = await cursor.ReadAsync(Cancelled);
        Assert.Equal((0, hasRead), (page.Records.Count, page.Trimmed));
        Assert.Single((await cursor.ReadAsync(Cancelled)).Records);
    }
}
