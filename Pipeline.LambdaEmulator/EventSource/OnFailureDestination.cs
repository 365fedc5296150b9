using Amazon.SQS;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>The SQS queue to which discarded batches are reported.</summary>
public sealed partial class OnFailureDestination(IAmazonSQS sqs, string queue, TimeProvider time, ILogger<OnFailureDestination> logger)
{
    private string? _url;

    /// <summary>
    /// Sends the document, again and again until it is sent: the shard waits, as the records would otherwise be gone
    /// without a trace. (Lambda gives up after a while and counts DestinationDeliveryFailures.)
    /// </summary>
    public async Task SendAsync(string document, CancellationToken cancellationToken)
    {
        for (var failures = 1; ; failures++)
        {
            try
            {
                _url ??= (await sqs.GetQueueUrlAsync(queue, cancellationToken)).QueueUrl;
                await sqs.SendMessageAsync(_url, document, cancellationToken);
                return;
            }
            catch (Exception e) when (e is AmazonSQSException or HttpRequestException)
            {
                LogNotSent(queue, e.Message);
                await Task.Delay(Backoff.OfServer(failures), time, cancellationToken);
            }
        }
    }

    [LoggerMessage(LogLevel.Error, "A discarded batch could not be reported to the queue {Queue}, its shard waits: {Message}")]
    private partial void LogNotSent(string queue, string message);
}
