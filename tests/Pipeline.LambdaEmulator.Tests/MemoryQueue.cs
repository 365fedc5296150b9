using System.Globalization;
using Amazon.SQS;
using Amazon.SQS.Model;

namespace Pipeline.LambdaEmulator.Tests;

/// <summary>
/// An SQS queue in memory and in virtual time, as far as a mapping uses one: long polls, visibility timeout, receive count,
/// deletion, a redrive policy. Its calls can be made to fail.
/// </summary>
internal sealed class MemoryQueue(TimeProvider time, TimeSpan visibilityTimeout, int receivesMax = int.MaxValue)
    : AmazonSQSClient("local", "local", new AmazonSQSConfig { ServiceURL = "http://127.0.0.1:1" })
{
    private readonly Lock _lock = new();
    private readonly List<Stored> _messages = [];
    private readonly List<string> _dead = [];
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Called with every call's name; may throw.</summary>
    public Action<string> OnCall { get; set; } = _ => { };

    /// <summary>Why a message cannot be deleted, by its id; null: it can.</summary>
    public Func<string, BatchResultErrorEntry?> OnDelete { get; set; } = _ => null;

    /// <summary>Messages that are neither deleted nor moved away.</summary>
    public IReadOnlyList<string> Left
    {
        get
        {
            lock (_lock)
            {
                return [.. _messages.Select(message => message.Id)];
            }
        }
    }

    /// <summary>Messages that the redrive policy moved away.</summary>
    public IReadOnlyList<string> Dead
    {
        get
        {
            lock (_lock)
            {
                return [.. _dead];
            }
        }
    }

    public void Send(params string[] ids)
    {
        lock (_lock)
        {
            _messages.AddRange(ids.Select(id => new Stored(id)));
        }

        Changed();
    }

    /// <summary>To be called when the time was moved on: polls that wait look again.</summary>
    public void Changed() => Interlocked.Exchange(ref _changed, new(TaskCreationOptions.RunContinuationsAsynchronously)).TrySetResult();

    public override Task<GetQueueUrlResponse> GetQueueUrlAsync(string queueName, CancellationToken cancellationToken = default) =>
        Call("GetQueueUrl", () => new GetQueueUrlResponse { QueueUrl = $"http://127.0.0.1:1/{queueName}" });

    public override Task<GetQueueAttributesResponse> GetQueueAttributesAsync(string queueUrl, List<string> attributeNames, CancellationToken cancellationToken = default) =>
        Call("GetQueueAttributes", () => new GetQueueAttributesResponse
        {
            Attributes = new() { ["VisibilityTimeout"] = visibilityTimeout.TotalSeconds.ToString(CultureInfo.InvariantCulture) },
        });

    public override async Task<ReceiveMessageResponse> ReceiveMessageAsync(ReceiveMessageRequest request, CancellationToken cancellationToken = default)
    {
        while (true)
        {
            var changed = _changed.Task;
            var answer = await Call("ReceiveMessage", () => new ReceiveMessageResponse { Messages = Take(request.MaxNumberOfMessages ?? 1) });
            if (answer.Messages.Count > 0)
            {
                return answer;
            }

            await changed.WaitAsync(cancellationToken);
        }
    }

    public override Task<DeleteMessageBatchResponse> DeleteMessageBatchAsync(DeleteMessageBatchRequest request, CancellationToken cancellationToken = default) =>
        Call("DeleteMessageBatch", () =>
        {
            var answer = new DeleteMessageBatchResponse { Successful = [], Failed = [] };
            lock (_lock)
            {
                foreach (var entry in request.Entries)
                {
                    if (OnDelete(entry.ReceiptHandle.Split('/')[0]) is { } failure)
                    {
                        answer.Failed.Add(new BatchResultErrorEntry { Id = entry.Id, Code = failure.Code, Message = failure.Message, SenderFault = failure.SenderFault });
                        continue;
                    }

                    _messages.RemoveAll(message => message.Receipt == entry.ReceiptHandle);
                    answer.Successful.Add(new DeleteMessageBatchResultEntry { Id = entry.Id });
                }
            }

            return answer;
        });

    public override Task<SendMessageResponse> SendMessageAsync(string queueUrl, string messageBody, CancellationToken cancellationToken = default) =>
        Call("SendMessage", () =>
        {
            Send(messageBody);
            return new SendMessageResponse();
        });

    private List<Message> Take(int count)
    {
        lock (_lock)
        {
            var visible = _messages.Where(message => message.VisibleAt <= time.GetUtcNow()).ToList();
            foreach (var dead in visible.Where(message => message.Receives >= receivesMax))
            {
                _messages.Remove(dead);
                _dead.Add(dead.Id);
            }

            return [.. visible.Where(message => message.Receives < receivesMax).Take(count).Select(message =>
            {
                message.Receives++;
                message.VisibleAt = time.GetUtcNow() + visibilityTimeout;
                return new Message
                {
                    MessageId = message.Id,
                    ReceiptHandle = message.Receipt,
                    Body = $"body of {message.Id}",
                    MD5OfBody = "",
                    Attributes = new() { ["ApproximateReceiveCount"] = message.Receives.ToString(CultureInfo.InvariantCulture) },
                };
            })];
        }
    }

    private async Task<T> Call<T>(string name, Func<T> answer)
    {
        OnCall(name);
        await Task.Yield();
        return answer();
    }

    private sealed class Stored(string id)
    {
        public string Id => id;

        public int Receives { get; set; }

        public DateTimeOffset VisibleAt { get; set; }

        /// <summary>Of the last receive: an earlier one deletes nothing.</summary>
        public string Receipt => $"{id}/{Receives}";
    }
}
