using System.Globalization;
using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Amazon.Lambda.Core;
using Amazon.Lambda.DynamoDBEvents;
using Amazon.Lambda.RuntimeSupport;
using Amazon.Lambda.Serialization.SystemTextJson;
using Amazon.SQS.Model;
using Microsoft.Extensions.Logging.Abstractions;
using Pipeline.LambdaEmulator.Stack;
using Pipeline.NativeServers;

namespace Pipeline.LambdaEmulator.Tests;

/// <summary>The emulator as a process, with a real table, stream, bucket and queue, and a function behind Lambda's own client.</summary>
public sealed class RealServersTests(LocalServers servers) : IClassFixture<LocalServers>, IDisposable
{
    private readonly string _accessKey = LocalServers.NewAccessKey();
    private readonly string _folder = Directory.CreateTempSubdirectory().FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Provisioning_creates_what_the_template_names_and_a_second_time_nothing()
    {
        var name = $"queue-{Guid.NewGuid():N}";
        var plan = TemplateReader.Read(Template(name), "Shop", EmulatorOptions.Account, "us-east-1");
        using var dynamoDb = servers.DynamoDb(_accessKey);
        using var s3 = servers.S3();
        using var sqs = servers.Sqs();
        for (var run = 0; run < 2; run++)
        {
            await new Provisioner(dynamoDb, s3, sqs, NullLogger<Provisioner>.Instance).ProvisionAsync(plan, TestContext.Current.CancellationToken);
            var table = (await dynamoDb.DescribeTableAsync("Orders", TestContext.Current.CancellationToken)).Table;
            Assert.Equal("NEW_AND_OLD_IMAGES", table.StreamSpecification.StreamViewType);
            Assert.Equal("by_customer", table.GlobalSecondaryIndexes.Single().IndexName);
            var url = (await sqs.GetQueueUrlAsync(name, TestContext.Current.CancellationToken)).QueueUrl;
            var attributes = await sqs.GetQueueAttributesAsync(url, ["MessageRetentionPeriod"], TestContext.Current.CancellationToken);
            Assert.Equal(1209600, attributes.MessageRetentionPeriod);
            Assert.Contains(name, (await s3.ListBucketsAsync(TestContext.Current.CancellationToken)).Buckets.Select(bucket => bucket.BucketName));
        }
    }

    [Fact]
    public async Task A_table_with_another_key_ends_the_emulator_with_the_reason()
    {
        using var dynamoDb = servers.DynamoDb(_accessKey);
        await dynamoDb.CreateTableAsync(
            new CreateTableRequest("Orders", [new("other", "HASH")]) { BillingMode = "PAY_PER_REQUEST", AttributeDefinitions = [new("other", "S")] },
            TestContext.Current.CancellationToken);
        await using var emulator = Emulator("queue");
        Assert.Equal(1, await emulator.RunAsync());
        Assert.Contains("Table Orders exists, but its key is other (HASH), the template's is id (HASH).", emulator.Output, StringComparison.Ordinal);
    }

    /// <summary>Switched on for a table with data, it would delete that data.</summary>
    [Fact]
    public async Task A_table_or_a_queue_with_other_settings_is_neither_used_nor_changed()
    {
        var name = $"queue-{Guid.NewGuid():N}";
        using var dynamoDb = servers.DynamoDb(_accessKey);
        using var s3 = servers.S3();
        using var sqs = servers.Sqs();
        var provisioner = new Provisioner(dynamoDb, s3, sqs, NullLogger<Provisioner>.Instance);
        const string Stream = "\"StreamSpecification\"";
        var table = Template(name);
        var withTimeToLive = table.Replace(Stream, $$"""
            "TimeToLiveSpecification": { "Enabled": true, "AttributeName": "expires_at" }, {{Stream}}
            """, StringComparison.Ordinal);
        await ProvisionAsync(table);
        Assert.Equal(
            "Table Orders exists, but its time to live is off, the template's is expires_at. The emulator changes no existing table: delete it, or start with new data.",
            await RefusalAsync(withTimeToLive));
        await dynamoDb.DeleteTableAsync("Orders", TestContext.Current.CancellationToken);
        await ProvisionAsync(withTimeToLive);
        await ProvisionAsync(withTimeToLive);
        Assert.Contains("its time to live is expires_at, the template's is off", await RefusalAsync(table), StringComparison.Ordinal);

        var queue = QueueTemplate(name);
        await ProvisionAsync(queue);
        await ProvisionAsync(queue);
        Assert.Equal(
            $"Queue {name}.fifo exists, but its VisibilityTimeout is 5, the template's is 6. The emulator changes no existing queue: delete it, its messages with it, or start with new data.",
            await RefusalAsync(queue.Replace("\"VisibilityTimeout\": 5", "\"VisibilityTimeout\": 6", StringComparison.Ordinal)));
        Assert.Contains("exists, but its RedrivePolicy is", await RefusalAsync(queue.Replace("\"maxReceiveCount\": 2", "\"maxReceiveCount\": 3", StringComparison.Ordinal)), StringComparison.Ordinal);

        Task ProvisionAsync(string template) => provisioner.ProvisionAsync(
            TemplateReader.Read(template, "Shop", EmulatorOptions.Account, "us-east-1"), TestContext.Current.CancellationToken);

        async Task<string> RefusalAsync(string template) => (await Assert.ThrowsAsync<TemplateException>(() => ProvisionAsync(template))).Message;
    }

    [Fact]
    public async Task A_state_folder_in_use_and_a_corrupt_checkpoint_end_the_emulator_with_the_reason()
    {
        await using (var first = Emulator("queue"))
        {
            await first.StartAsync();
            await using var second = Emulator("queue");
            Assert.Equal(1, await second.RunAsync());
            Assert.Contains("is used by another emulator", second.Output, StringComparison.Ordinal);
        }

        var checkpoint = Assert.Single(Directory.GetFiles(Path.Combine(_folder, "state"), "*.json"));
        await File.WriteAllTextAsync(checkpoint, "{", TestContext.Current.CancellationToken);
        await using var third = Emulator("queue");
        Assert.Equal(1, await third.RunAsync());
        Assert.Contains($"The checkpoint file {checkpoint} cannot be used", third.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Every_kind_of_change_arrives_with_its_images_and_a_poison_record_is_reported()
    {
        var queue = $"queue-{Guid.NewGuid():N}";
        await using var emulator = Emulator(queue);
        await emulator.StartAsync();
        var changes = new List<string>();
        var lastPoisoned = "";
        using var ends = new CancellationTokenSource();
        var function = Function(emulator, LambdaBootstrapBuilder.Create<DynamoDBEvent, StreamsEventResponse>(
            (batch, context) =>
            {
                if (batch.Records.Any(record => record.Dynamodb.Keys["id"].S == "poison"))
                {
                    lastPoisoned = context.AwsRequestId;
                    throw new InvalidDataException("poison");
                }

                lock (changes)
                {
                    changes.AddRange(batch.Records.Select(record =>
                        $"{record.EventName} {Text(record.Dynamodb.OldImage)} -> {Text(record.Dynamodb.NewImage)}"));
                }

                return Task.FromResult(new StreamsEventResponse());
            },
            new DefaultLambdaJsonSerializer())).RunAsync(ends.Token);

        using var dynamoDb = servers.DynamoDb(_accessKey);
        await dynamoDb.PutItemAsync("Orders", new() { ["id"] = new("a"), ["n"] = new() { N = "1.50" }, ["b"] = new() { B = new MemoryStream([1, 2, 3]) } }, TestContext.Current.CancellationToken);
        await dynamoDb.PutItemAsync("Orders", new() { ["id"] = new("a"), ["n"] = new() { N = "2" } }, TestContext.Current.CancellationToken);
        await dynamoDb.PutItemAsync("Orders", new() { ["id"] = new("poison") }, TestContext.Current.CancellationToken);
        await dynamoDb.DeleteItemAsync("Orders", new Dictionary<string, AttributeValue> { ["id"] = new("a") }, TestContext.Current.CancellationToken);

        await Poll.UntilAsync(() => changes.Count == 3, () => emulator.Output);
        Assert.Equal(["INSERT  -> b=AQID id=a n=1.5", "MODIFY b=AQID id=a n=1.5 -> id=a n=2", "REMOVE id=a n=2 -> "], changes);

        using var sqs = servers.Sqs();
        var url = (await sqs.GetQueueUrlAsync(queue, TestContext.Current.CancellationToken)).QueueUrl;
        var message = (await sqs.ReceiveMessageAsync(new ReceiveMessageRequest(url) { WaitTimeSeconds = 5 }, TestContext.Current.CancellationToken)).Messages.Single();
        var document = JsonNode.Parse(message.Body)!;
        Assert.Equal("RetryAttemptsExhausted", document["requestContext"]!["condition"]!.ToString());
        Assert.Equal(lastPoisoned, document["requestContext"]!["requestId"]!.ToString());
        Assert.Equal(1, document["DDBStreamBatchInfo"]!["batchSize"]!.GetValue<int>());

        var status = JsonNode.Parse(await emulator.GetAsync("/event-source-mappings"))![0]!;
        Assert.Equal("Enabled", status["state"]!.ToString());
        Assert.Equal(0, status["shards"]![0]!["records_buffered"]!.GetValue<int>());
        Assert.Equal(0, status["shards"]![0]!["iterator_age_ms"]!.GetValue<int>());
        Assert.Equal(document["DDBStreamBatchInfo"]!["shardId"]!.ToString(), status["shards"]![0]!["shard_id"]!.ToString());
        await ends.CancelAsync();
        await function;
    }

    [Fact]
    public async Task Messages_of_a_queue_are_deleted_or_go_the_way_of_its_redrive_policy()
    {
        var queue = $"queue-{Guid.NewGuid():N}";
        await using var emulator = Emulator(QueueTemplate(queue), servers.DynamoDbUrl);
        await emulator.StartAsync();
        using var sqs = servers.Sqs();
        var url = (await sqs.GetQueueUrlAsync($"{queue}.fifo", TestContext.Current.CancellationToken)).QueueUrl;
        foreach (var (body, group) in new[] { ("a1", "a"), ("poison", "b"), ("b1", "b"), ("a2", "a") })
        {
            await sqs.SendMessageAsync(
                new SendMessageRequest(url, body) { MessageGroupId = group, MessageDeduplicationId = body }, TestContext.Current.CancellationToken);
        }

        var received = new List<string>();
        using var ends = new CancellationTokenSource();
        var function = Function(emulator, LambdaBootstrapBuilder.Create(
            async (Stream input, ILambdaContext _) =>
            {
                var failed = new JsonArray();
                foreach (var message in (await JsonNode.ParseAsync(input))!["Records"]!.AsArray())
                {
                    var body = message!["body"]!.ToString();
                    lock (received)
                    {
                        received.Add(body);
                    }

                    // Of a group, the first failure and all behind it.
                    if (failed.Count > 0 || body == "poison")
                    {
                        failed.Add(new JsonObject { ["itemIdentifier"] = message["messageId"]!.ToString() });
                    }
                }

                return (Stream)new MemoryStream(System.Text.Encoding.UTF8.GetBytes(new JsonObject { ["batchItemFailures"] = failed }.ToJsonString()));
            })).RunAsync(ends.Token);

        await Poll.UntilAsync(() => received.Contains("b1") && IsEmpty().GetAwaiter().GetResult(), () => emulator.Output);
        Assert.Equal(2, received.Count(body => body == "poison"));
        Assert.Equal(["a1", "a2"], received.Where(body => body[0] == 'a').Distinct());
        Assert.True(received.LastIndexOf("b1") > received.LastIndexOf("poison"));

        var dead = (await sqs.GetQueueUrlAsync($"{queue}-dead.fifo", TestContext.Current.CancellationToken)).QueueUrl;
        var parked = await sqs.ReceiveMessageAsync(new ReceiveMessageRequest(dead) { WaitTimeSeconds = 5 }, TestContext.Current.CancellationToken);
        Assert.Equal("poison", parked.Messages.Single().Body);
        await ends.CancelAsync();
        await function;

        async Task<bool> IsEmpty()
        {
            var attributes = await sqs.GetQueueAttributesAsync(url, ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"], TestContext.Current.CancellationToken);
            return attributes.ApproximateNumberOfMessages + attributes.ApproximateNumberOfMessagesNotVisible == 0;
        }
    }

    /// <summary>
    /// Whatever the instant of the kill: the records come in order, and after a restart from a record that was seen
    /// before or the next one, never from a later one.
    /// </summary>
    [Fact]
    public async Task Killing_the_emulator_under_load_skips_nothing()
    {
        // Always enough to be killed over; not so much that the emulator, which is down most of the time, cannot catch up.
        const int AheadMax = 2000;
        // PIPELINE_KILLS: for a long run by hand.
        var kills = int.Parse(Environment.GetEnvironmentVariable("PIPELINE_KILLS") ?? "3", CultureInfo.InvariantCulture);
        var random = new Random(20261124);
        await using var emulator = Emulator("queue");
        await emulator.StartAsync();
        var received = new List<long>();
        var newest = 0L;
        using var ends = new CancellationTokenSource();
        var function = RunUntilEndAsync();
        var written = 0;
        using var writing = new CancellationTokenSource();
        var writer = WriteAsync();
        for (var kill = 0; kill < kills; kill++)
        {
            await Task.Delay(random.Next(0, 1500), TestContext.Current.CancellationToken);
            await emulator.KillAsync();
            await emulator.StartAsync();
        }

        await writing.CancelAsync();
        await writer;
        await Poll.UntilAsync(() => Volatile.Read(ref newest) == written, () => $"{newest} of {written}: {emulator.Output}");
        await ends.CancelAsync();
        await function;

        var last = 0L;
        foreach (var number in received)
        {
            Assert.True(number <= last + 1, $"{number} came after {last}.");
            last = Math.Max(last, number);
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{kills} kills, {written} written, {received.Count - written} delivered again");

        async Task RunUntilEndAsync()
        {
            // Lambda's client ends when the Runtime API goes away; whoever supervises the process starts it again.
            while (!ends.IsCancellationRequested)
            {
                try
                {
                    await Function(emulator, LambdaBootstrapBuilder.Create(
                        async (Stream input, ILambdaContext _) =>
                        {
                            var batch = await JsonNode.ParseAsync(input);
                            lock (received)
                            {
                                received.AddRange(batch!["Records"]!.AsArray().Select(record =>
                                    long.Parse(record!["dynamodb"]!["SequenceNumber"]!.ToString(), CultureInfo.InvariantCulture)));
                                Volatile.Write(ref newest, Math.Max(newest, received[^1]));
                            }

                            // Long enough for a kill to meet it.
                            await Task.Delay(10);
                            return (Stream)new MemoryStream("{}"u8.ToArray());
                        })).RunAsync(ends.Token);
                }
                catch (Exception e) when (e is HttpRequestException or RuntimeApiClientException)
                {
                    await Task.Delay(20);
                }
            }
        }

        async Task WriteAsync()
        {
            using var dynamoDb = servers.DynamoDb(_accessKey);
            while (!writing.IsCancellationRequested)
            {
                if (written - Volatile.Read(ref newest) >= AheadMax)
                {
                    await Task.Delay(5);
                    continue;
                }

                await dynamoDb.PutItemAsync("Orders", new() { ["id"] = new($"{written % 50}"), ["n"] = new() { N = $"{written}" } });
                written++;
            }
        }
    }

    [Fact]
    public async Task A_DynamoDB_that_is_killed_and_started_again_is_read_on()
    {
        await using var server = await NativeServer.StartAsync(
            DynamoDbLocal.Define(LoopbackPorts.Free(), Path.Combine(_folder, "dynamodb"), isShortLived: true), TestContext.Current.CancellationToken);
        await using var emulator = Emulator(Template("queue"), server.Url);
        await emulator.StartAsync();
        var received = new List<string>();
        using var ends = new CancellationTokenSource();
        var function = Function(emulator, LambdaBootstrapBuilder.Create<DynamoDBEvent, StreamsEventResponse>(
            (batch, _) =>
            {
                lock (received)
                {
                    received.AddRange(batch.Records.Select(record => record.Dynamodb.Keys["id"].S));
                }

                return Task.FromResult(new StreamsEventResponse());
            },
            new DefaultLambdaJsonSerializer())).RunAsync(ends.Token);

        using (var dynamoDb = DynamoDb(server.Url))
        {
            await dynamoDb.PutItemAsync("Orders", new() { ["id"] = new("before") }, TestContext.Current.CancellationToken);
        }

        await Poll.UntilAsync(() => received.Count == 1, () => emulator.Output);
        await server.KillAsync();
        await server.RestartAsync(TestContext.Current.CancellationToken);
        using (var dynamoDb = DynamoDb(server.Url))
        {
            await dynamoDb.PutItemAsync("Orders", new() { ["id"] = new("after") }, TestContext.Current.CancellationToken);
        }

        await Poll.UntilAsync(() => received.Count == 2, () => emulator.Output);
        Assert.Equal(["before", "after"], received);
        await ends.CancelAsync();
        await function;
    }

    private AmazonDynamoDBClient DynamoDb(string url) => new(
        _accessKey, _accessKey, new AmazonDynamoDBConfig { ServiceURL = url, AuthenticationRegion = "us-east-1" });

    private EmulatorProcess Emulator(string queue) => Emulator(Template(queue), servers.DynamoDbUrl);

    private EmulatorProcess Emulator(string content, string dynamoDbUrl)
    {
        var template = Path.Combine(_folder, "Shop.template.json");
        File.WriteAllText(template, content);
        return new EmulatorProcess(dynamoDbUrl, servers.S3Url, _accessKey, template, Path.Combine(_folder, "state"));
    }

    private static LambdaBootstrap Function(EmulatorProcess emulator, LambdaBootstrapBuilder builder) =>
        builder.ConfigureOptions(options => options.RuntimeApiEndpoint = $"127.0.0.1:{emulator.Port}/process").Build();

    private static string Text(Dictionary<string, DynamoDBEvent.AttributeValue>? image) => string.Join(' ', (image ?? []).OrderBy(attribute => attribute.Key, StringComparer.Ordinal)
        .Select(attribute => $"{attribute.Key}={attribute.Value.S ?? attribute.Value.N ?? Convert.ToBase64String(attribute.Value.B.ToArray())}"));

    private static string Template(string name) => $$$"""
        {
          "Resources": {
            "Orders": {
              "Type": "AWS::DynamoDB::Table",
              "Properties": {
                "TableName": "Orders",
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{ "AttributeName": "id", "AttributeType": "S" }, { "AttributeName": "customer", "AttributeType": "S" }],
                "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }],
                "GlobalSecondaryIndexes": [{
                  "IndexName": "by_customer",
                  "KeySchema": [{ "AttributeName": "customer", "KeyType": "HASH" }],
                  "Projection": { "ProjectionType": "ALL" }
                }],
                "StreamSpecification": { "StreamViewType": "NEW_AND_OLD_IMAGES" }
              }
            },
            "Changes": { "Type": "AWS::S3::Bucket", "Properties": { "BucketName": "{{{name}}}" } },
            "Failures": { "Type": "AWS::SQS::Queue", "Properties": { "QueueName": "{{{name}}}", "MessageRetentionPeriod": 1209600 } },
            "Function": { "Type": "AWS::Lambda::Function", "Properties": { "FunctionName": "process", "Timeout": 30 } },
            "Mapping": {
              "Type": "AWS::Lambda::EventSourceMapping",
              "Properties": {
                "FunctionName": { "Ref": "Function" },
                "EventSourceArn": { "Fn::GetAtt": ["Orders", "StreamArn"] },
                "StartingPosition": "TRIM_HORIZON",
                "BatchSize": 100,
                "MaximumRetryAttempts": 1,
                "BisectBatchOnFunctionError": true,
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
                "DestinationConfig": { "OnFailure": { "Destination": { "Fn::GetAtt": ["Failures", "Arn"] } } }
              }
            }
          }
        }
        """;

    private static string QueueTemplate(string name) => $$$"""
        {
          "Resources": {
            "Work": {
              "Type": "AWS::SQS::Queue",
              "Properties": {
                "QueueName": "{{{name}}}.fifo",
                "FifoQueue": true,
                "VisibilityTimeout": 5,
                "RedrivePolicy": { "deadLetterTargetArn": { "Fn::GetAtt": ["Dead", "Arn"] }, "maxReceiveCount": 2 }
              }
            },
            "Dead": { "Type": "AWS::SQS::Queue", "Properties": { "QueueName": "{{{name}}}-dead.fifo", "FifoQueue": true } },
            "Function": { "Type": "AWS::Lambda::Function", "Properties": { "FunctionName": "process", "Timeout": 5 } },
            "Mapping": {
              "Type": "AWS::Lambda::EventSourceMapping",
              "Properties": {
                "FunctionName": { "Ref": "Function" },
                "EventSourceArn": { "Fn::GetAtt": ["Work", "Arn"] },
                "FunctionResponseTypes": ["ReportBatchItemFailures"]
              }
            }
          }
        }
        """;
}
