using System.Text.Json.Nodes;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>What an on-failure destination is told.</summary>
public sealed class FailureDocumentTests
{
    private static readonly BatchOrigin Origin = new(
        "arn:aws:lambda:us-east-1:000000000000:function:f", "arn:aws:dynamodb:us-east-1:000000000000:table/T/stream/L", "shardId-1");

    private static readonly Guid RequestId = new("11111111-2222-3333-4444-555555555555");

    [Fact]
    [Rule(Pages.Errors, "The example of an SQS message: request context, response context, DDBStreamBatchInfo, no records.")]
    public void After_exhausted_attempts_the_document_is_that_of_the_page()
    {
        var shard = new ScriptedShard(ScriptedShard.Defaults with { RetryAttemptsMax = 1 }).Write(2);
        shard.Next();
        shard.Fails().WaitForNext().Next();
        shard.Fails().Next();
        Assert.Equal(
            """
            {"requestContext":{"requestId":"11111111-2222-3333-4444-555555555555","functionArn":"arn:aws:lambda:us-east-1:000000000000:function:f","condition":"RetryAttemptsExhausted","approximateInvokeCount":2},
            "responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},
            "version":"1.0","timestamp":"2026-01-01T12:00:00.200Z",
            "DDBStreamBatchInfo":{"shardId":"shardId-1","startSequenceNumber":"000000000000000000001","endSequenceNumber":"000000000000000000002","approximateArrivalOfFirstRecord":"2026-01-01T12:00:00Z","approximateArrivalOfLastRecord":"2026-01-01T12:00:00Z","batchSize":2,"streamArn":"arn:aws:dynamodb:us-east-1:000000000000:table/T/stream/L"}}
            """.ReplaceLineEndings(""),
            FailureDocument.Write((ShardAction.Discard)shard.LastAction, Origin, RequestId, shard.Now));
    }

    [Fact]
    [Rule(Pages.Errors, "The condition names why: records that are too old.", Choice = "A batch that was never sent has no response to tell of, so no response context.")]
    public void Records_that_were_never_sent_have_no_response_context()
    {
        var shard = new ScriptedShard(ScriptedShard.Defaults with { RecordAgeMax = TimeSpan.FromSeconds(60) }).WriteOld(TimeSpan.FromHours(1));
        shard.Next();
        var document = FailureDocument.Write((ShardAction.Discard)shard.LastAction, Origin, RequestId, shard.Now);
        Assert.Contains(""" "condition":"RecordAgeExceeded","approximateInvokeCount":0},"version":"1.0" """.Trim(), document, StringComparison.Ordinal);
        Assert.Contains("\"approximateArrivalOfFirstRecord\":\"2026-01-01T11:00:00Z\"", document, StringComparison.Ordinal);
    }

    [Fact]
    [Rule(Pages.Partial, "A reported failure is an answer, not a function error.", Choice = "The response context then has no functionError.")]
    public void A_batch_that_was_reported_as_failed_has_no_function_error()
    {
        var shard = new ScriptedShard(ScriptedShard.Defaults with { ReportBatchItemFailures = true, RetryAttemptsMax = 0 }).Write(1);
        shard.Next();
        shard.Reports(1).Next();
        var document = FailureDocument.Write((ShardAction.Discard)shard.LastAction, Origin, RequestId, shard.Now);
        Assert.Contains("\"responseContext\":{\"statusCode\":200,\"executedVersion\":\"$LATEST\"}", document, StringComparison.Ordinal);
    }

    [Fact]
    [Rule(Pages.Errors, "For an S3 destination the document also holds the whole invocation record, as the text payload.")]
    public void For_a_bucket_the_document_holds_the_records()
    {
        var shard = new ScriptedShard(ScriptedShard.Defaults with { RetryAttemptsMax = 0 }).Write(2, bytes: 16);
        shard.Next();
        shard.Fails().Next();
        var discard = (ShardAction.Discard)shard.LastAction;
        var withRecords = JsonNode.Parse(FailureDocument.WriteWithRecords(discard, Origin, RequestId, shard.Now))!.AsObject();
        Assert.Equal("""{"Records":[{"n":1,"matches":true},{"n":2,"matches":true}]}""", withRecords["payload"]!.GetValue<string>());
        withRecords.Remove("payload");
        Assert.Equal(FailureDocument.Write(discard, Origin, RequestId, shard.Now), withRecords.ToJsonString());
    }
}
