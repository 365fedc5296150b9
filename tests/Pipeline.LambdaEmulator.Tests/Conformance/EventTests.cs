using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;
using Amazon.Lambda.DynamoDBEvents;
using Amazon.Lambda.Serialization.SystemTextJson;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Functions;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>The event that a function gets for what GetRecords gave.</summary>
public sealed class EventTests
{
    private const string Arn = "arn:aws:dynamodb:us-east-1:000000000000:table/T/stream/2026-01-01T00:00:00.000";

    private static readonly DateTimeOffset Now = new(2026, 1, 1, 12, 0, 30, TimeSpan.Zero);

    [Fact]
    [Rule(Pages.Using, "The example event: members, names and forms of a record.")]
    public void A_record_has_the_form_of_the_example_event()
    {
        var record = Parse("""
            {"Records":[{"eventID":"e1","eventName":"MODIFY","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"ddblocal",
            "dynamodb":{"ApproximateCreationDateTime":1767268800.000,"Keys":{"Id":{"N":"101"}},
            "NewImage":{"Message":{"S":"Ação \"new\"\n"},"Id":{"N":"101"},"B":{"B":"AQID"}},"OldImage":{"Id":{"N":"101"}},
            "SequenceNumber":"000000000000000000222","SizeBytes":59,"StreamViewType":"NEW_AND_OLD_IMAGES"}}],"NextShardIterator":"next"}
            """).Single();
        Assert.Equal(
            """
            {"eventID":"e1","eventName":"MODIFY","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1",
            "dynamodb":{"ApproximateCreationDateTime":1767268800,"Keys":{"Id":{"N":"101"}},
            "NewImage":{"Message":{"S":"Ação \"new\"\n"},"Id":{"N":"101"},"B":{"B":"AQID"}},"OldImage":{"Id":{"N":"101"}},
            "SequenceNumber":"000000000000000000222","SizeBytes":59,"StreamViewType":"NEW_AND_OLD_IMAGES"},
            "eventSourceARN":"arn:aws:dynamodb:us-east-1:000000000000:table/T/stream/2026-01-01T00:00:00.000"}
            """.ReplaceLineEndings(""),
            Encoding.UTF8.GetString(record.Json.Span));
        Assert.Equal("000000000000000000222", record.SequenceNumber);
        Assert.Equal(new DateTimeOffset(2026, 1, 1, 12, 0, 0, TimeSpan.Zero), record.CreatedAt);
    }

    [Fact]
    public void Every_record_of_a_page_has_its_bytes_to_itself()
    {
        var records = Parse(Page(3));
        Assert.All(records, record =>
        {
            Assert.True(MemoryMarshal.TryGetArray(record.Json, out var bytes));
            Assert.Equal(bytes.Array!.Length, record.Json.Length);
        });
        Assert.Equal(3, records.Select(record => Encoding.UTF8.GetString(record.Json.Span)).Distinct().Count());
    }

    [Fact]
    public void An_attribute_whose_text_cannot_be_read_has_no_text()
    {
        var record = new StreamRecord("1", 0, Now, """{"dynamodb":{"NewImage":{"whole":{"S":"a"},"cut":{"S":"\ud83d"}}}}"""u8.ToArray());
        Assert.Equal("a", record.NewText("whole"));
        Assert.Null(record.NewText("cut"));
    }

    [Fact]
    [Rule(Pages.Ttl, "A removal by time to live carries userIdentity with type Service and principal dynamodb.amazonaws.com.")]
    public void A_removal_by_time_to_live_names_the_service()
    {
        var record = Parse("""
            {"Records":[{"eventID":"e1","eventName":"REMOVE","eventVersion":"1.1","userIdentity":{"Type":"Service","PrincipalId":"dynamodb.amazonaws.com"},
            "dynamodb":{"ApproximateCreationDateTime":1,"Keys":{"Id":{"N":"1"}},"OldImage":{"Id":{"N":"1"}},"SequenceNumber":"1","SizeBytes":3,"StreamViewType":"OLD_IMAGE"}}]}
            """).Single();
        var json = JsonNode.Parse(record.Json.Span)!;
        Assert.Equal("""{"type":"Service","principalId":"dynamodb.amazonaws.com"}""", json["userIdentity"]!.ToJsonString());
        Assert.Null(json["dynamodb"]!["NewImage"]);
    }

    [Fact]
    [Rule(Pages.Using, "The event of a batch is an object with the array Records; Lambda's serializer reads it as DynamoDBEvent.")]
    public async Task A_batch_becomes_an_event_that_Lambdas_serializer_reads()
    {
        var processor = new ShardProcessor(ScriptedShard.Defaults);
        foreach (var record in Parse(Page(3)))
        {
            processor.Read(record, Now);
        }

        var payload = EventPayload.Of(processor.Next(Now)!.Batch);
        var pipe = new System.IO.Pipelines.Pipe();
        await payload.WriteToAsync(pipe.Writer, CancellationToken.None);
        await pipe.Writer.CompleteAsync();
        using var json = new MemoryStream();
        await pipe.Reader.CopyToAsync(json, TestContext.Current.CancellationToken);
        Assert.Equal(payload.Length, json.Length);
        json.Position = 0;

        var change = new DefaultLambdaJsonSerializer().Deserialize<DynamoDBEvent>(json);
        Assert.Equal(["1", "2", "3"], change.Records.Select(record => record.Dynamodb.SequenceNumber));
        Assert.Equal("item 2", change.Records[1].Dynamodb.Keys["id"].S);
        Assert.Equal(Arn, change.Records[1].EventSourceArn);
        Assert.Equal(DateTime.UnixEpoch.AddSeconds(2), change.Records[1].Dynamodb.ApproximateCreationDateTime);
    }

    [Fact]
    [Rule(Pages.Using, "Order is kept per item: partition and sort key together tell the item.")]
    public void Records_of_one_item_share_a_lane_whatever_the_order_of_the_key_attributes()
    {
        var records = Parse($$$"""
            {"Records":[
            {{{Record("1", """{"id":{"S":"a"},"line":{"N":"1"}}""")}}},
            {{{Record("2", """{"line":{"N":"1"},"id":{"S":"a"}}""")}}},
            {{{Record("3", """{"id":{"S":"a"},"line":{"N":"2"}}""")}}}]}
            """);
        Assert.Equal(records[0].ItemHash, records[1].ItemHash);
        Assert.NotEqual(records[0].ItemHash, records[2].ItemHash);
    }

    [Fact]
    [Rule("DynamoDB developer guide: Quotas in Amazon DynamoDB", "An item may be nested up to 32 levels deep; such a record is read, filtered and sent like any other.")]
    public void The_deepest_item_that_DynamoDB_takes_is_read_and_filtered()
    {
        const int Levels = 32;
        var deep = string.Concat(Enumerable.Repeat("""{"M":{"a":""", Levels)) + """{"S":"x"}""" + string.Concat(Enumerable.Repeat("}}", Levels));
        var record = Parse($$$"""
            {"Records":[{"eventID":"e","eventName":"INSERT","dynamodb":{"ApproximateCreationDateTime":1,"Keys":{"id":{"S":"a"}},"NewImage":{"id":{"S":"a"},"deep":{{{deep}}}},"SequenceNumber":"1","SizeBytes":1}}]}
            """).Single();
        Assert.Contains(deep, Encoding.UTF8.GetString(record.Json.Span), StringComparison.Ordinal);
        Assert.True(FilterCriteria.Parse(["""{"dynamodb":{"NewImage":{"id":{"S":["a"]}}}}"""])!.Matches(record.Json));
    }

    [Fact]
    public void The_time_that_DynamoDB_Local_cuts_to_the_minute_does_not_make_a_record_older_than_it_can_be()
    {
        var format = new StreamRecordFormat("us-east-1", Arn.Replace("us-east-1", "ddblocal", StringComparison.Ordinal));
        var atMinute = Now.AddSeconds(-30).ToUnixTimeSeconds();
        DateTimeOffset CreatedAt(DateTimeOffset readAt) => format.Parse(
            Encoding.UTF8.GetBytes($$$"""{"Records":[{{{Record("1", """{"id":{"S":"a"}}""", atMinute)}}}]}"""), readAt).Records[0].CreatedAt;
        Assert.Equal(Now, CreatedAt(readAt: Now));
        Assert.Equal(Now.AddSeconds(30), CreatedAt(readAt: Now.AddHours(1)));
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("""{"Records":[],"NextShardIterator":"n"}""")]
    public void An_empty_page_has_no_records(string page) => Assert.Empty(Parse(page));

    [Theory]
    [InlineData("""{"Records":[{"eventID":"e1","eventName":"INSERT","dynamodb":{"Keys":{}}}]}""")]
    [InlineData("""{"Records":[{"eventID":"e1","dynamodb":{"Keys":{},"SequenceNumber":"1"}}]}""")]
    [InlineData("[]")]
    public void A_page_of_another_form_is_an_error(string page) =>
        Assert.ThrowsAny<System.Text.Json.JsonException>(() => Parse(page));

    private static IReadOnlyList<StreamRecord> Parse(string page) =>
        new StreamRecordFormat("us-east-1", Arn).Parse(Encoding.UTF8.GetBytes(page), Now).Records;

    private static string Page(int records) =>
        $$"""{"Records":[{{string.Join(',', Enumerable.Range(1, records).Select(i => Record($"{i}", $$$"""{"id":{"S":"item {{{i}}}"}}""", i)))}}]}""";

    private static string Record(string sequenceNumber, string keys, long created = 1) =>
        $$$"""{"eventID":"e","eventName":"INSERT","eventVersion":"1.1","dynamodb":{"ApproximateCreationDateTime":{{{created}}},"Keys":{{{keys}}},"SequenceNumber":"{{{sequenceNumber}}}","SizeBytes":1,"StreamViewType":"KEYS_ONLY"}}""";
}
