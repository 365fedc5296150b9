using System.Globalization;
using Amazon.S3;
using Amazon.S3.Model;
using Amazon.SQS;
using Pipeline.LambdaEmulator.Stack;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>Where discarded batches are reported: an SQS queue (metadata only) or an S3 bucket (with the records).</summary>
public sealed partial class OnFailureDestination(
    OnFailurePlan plan, Guid mapping, IAmazonSQS sqs, IAmazonS3 s3, TimeProvider time, ILogger<OnFailureDestination> logger)
{
    private string? _queueUrl;

    /// <summary>sqs or s3.</summary>
    public string Kind => plan is OnFailurePlan.Sqs ? "sqs" : "s3";

    /// <summary>
    /// Reports a batch, again and again until it is done: the shard waits, as the records would otherwise be gone without
    /// a trace. (Lambda gives up after a while and counts DestinationDeliveryFailures.)
    /// </summary>
    public async Task SendAsync(ShardAction.Discard discard, BatchOrigin origin, CancellationToken cancellationToken)
    {
        var now = time.GetUtcNow();
        // Never invoked (too old when it was read, or throttled for too long): there is no id that it could carry.
        var requestId = discard.Batch.LastOutcome?.RequestId ?? Guid.NewGuid();
        var key = Key(origin.ShardId, now);
        for (var failures = 1; ; failures++)
        {
            try
            {
                await (plan switch
                {
                    OnFailurePlan.Sqs queue => SendAsync(queue.QueueName, FailureDocument.Write(discard, origin, requestId, now), cancellationToken),
                    OnFailurePlan.S3 bucket => PutAsync(
                        bucket.BucketName, key, FailureDocument.WriteWithRecords(discard, origin, requestId, now), cancellationToken),
                    _ => throw new ArgumentOutOfRangeException(nameof(discard), plan, null),
                });
                return;
            }
            catch (Exception e) when (ServerFailure.MayPass(e, cancellationToken))
            {
                LogNotSent(plan, e.Message);
                await Task.Delay(Backoff.OfServer(failures), time, cancellationToken);
            }
        }
    }

    private async Task SendAsync(string queue, string document, CancellationToken cancellationToken)
    {
        _queueUrl ??= (await sqs.GetQueueUrlAsync(queue, cancellationToken)).QueueUrl;
        await sqs.SendMessageAsync(_queueUrl, document, cancellationToken);
    }

    private async Task PutAsync(string bucket, string key, string document, CancellationToken cancellationToken) =>
        await s3.PutObjectAsync(
            new PutObjectRequest { BucketName = bucket, Key = key, ContentBody = document, ContentType = "application/json" }, cancellationToken);

    /// <summary>"Retain discarded records for a DynamoDB event source": the name of the object in the bucket.</summary>
    private string Key(string shardId, DateTimeOffset now) => string.Create(
        CultureInfo.InvariantCulture,
        $"aws/lambda/{mapping}/{shardId}/{now.UtcDateTime:yyyy'/'MM'/'dd'/'yyyy'-'MM'-'dd'T'HH'.'mm'.'ss}-{Guid.NewGuid()}");

    [LoggerMessage(LogLevel.Error, "A discarded batch could not be reported to {Destination}, its shard waits: {Message}")]
    private partial void LogNotSent(OnFailurePlan destination, string message);
}
