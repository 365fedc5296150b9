using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using Amazon.SQS.Model;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>One message that was received, already in the form in which a function gets it.</summary>
/// <param name="Id">The same in every receive of the message; functions report failures under it.</param>
/// <param name="ReceiptHandle">Of this receive; what DeleteMessage wants.</param>
/// <param name="GroupId">The message group of a FIFO queue; null in a standard queue.</param>
/// <param name="Json">The message as an element of the event's <c>Records</c>.</param>
public sealed record QueueMessage(string Id, string ReceiptHandle, string? GroupId, ReadOnlyMemory<byte> Json);

/// <summary>
/// Turns what ReceiveMessage gave into records of the event that Lambda sends: Lambda developer guide, "Using Lambda with
/// Amazon SQS", example events.
/// </summary>
/// <param name="region">The event's <c>awsRegion</c>.</param>
/// <param name="queueArn">The event's <c>eventSourceARN</c>.</param>
public sealed class QueueMessageFormat(string region, string queueArn)
{
    private const string Body = "body";

    /// <summary>Only what JSON itself asks for is escaped: an event must not outgrow its limit by our doing.</summary>
    private static readonly JsonWriterOptions Relaxed = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public QueueMessage Read(Message message)
    {
        var attributes = message.Attributes ?? [];
        return new QueueMessage(message.MessageId, message.ReceiptHandle, attributes.GetValueOrDefault("MessageGroupId"), Write(json =>
        {
            json.WriteString("messageId", message.MessageId);
            json.WriteString("receiptHandle", message.ReceiptHandle);
            json.WriteString(Body, message.Body);
            json.WriteStartObject("attributes");
            foreach (var (name, value) in attributes)
            {
                json.WriteString(name, value);
            }

            json.WriteEndObject();
            json.WriteStartObject("messageAttributes");
            foreach (var (name, value) in message.MessageAttributes ?? [])
            {
                json.WriteStartObject(name);
                if (value.BinaryValue is { } binary)
                {
                    json.WriteBase64String("binaryValue", binary.ToArray());
                }
                else
                {
                    json.WriteString("stringValue", value.StringValue);
                }

                json.WriteStartArray("stringListValues");
                json.WriteEndArray();
                json.WriteStartArray("binaryListValues");
                json.WriteEndArray();
                json.WriteString("dataType", value.DataType);
                json.WriteEndObject();
            }

            json.WriteEndObject();
            if (message.MD5OfMessageAttributes is { } md5)
            {
                json.WriteString("md5OfMessageAttributes", md5);
            }

            json.WriteString("md5OfBody", message.MD5OfBody);
            json.WriteString("eventSource", "aws:sqs");
            json.WriteString("eventSourceARN", queueArn);
            json.WriteString("awsRegion", region);
        }));
    }

    /// <summary>
    /// What a filter is asked about. "Using event filtering with an Amazon SQS event source": a body that is JSON is looked
    /// into, a plain text is compared as a whole; a pattern of the other kind leaves the message out.
    /// </summary>
    public static ReadOnlyMemory<byte> ForFilter(QueueMessage message)
    {
        using var record = JsonDocument.Parse(message.Json);
        return Write(json =>
        {
            foreach (var member in record.RootElement.EnumerateObject())
            {
                if (member.NameEquals(Body) && ObjectIn(member.Value.GetString()!) is { } body)
                {
                    json.WritePropertyName(Body);
                    json.WriteRawValue(body.Span, skipInputValidation: true);
                }
                else
                {
                    member.WriteTo(json);
                }
            }
        });
    }

    /// <summary>The body's JSON, if it is an object with nothing but valid texts; null: it is a plain text.</summary>
    private static ReadOnlyMemory<byte>? ObjectIn(string body)
    {
        try
        {
            return JsonElement.Parse(body) is { ValueKind: JsonValueKind.Object } json
                ? Write(to =>
                {
                    foreach (var member in json.EnumerateObject())
                    {
                        member.WriteTo(to);
                    }
                })
                : null;
        }
        catch (Exception e) when (UnreadableJson.IsMeantBy(e))
        {
            return null;
        }
    }

    private static ReadOnlyMemory<byte> Write(Action<Utf8JsonWriter> members)
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        using var json = new Utf8JsonWriter(buffer, Relaxed);
        json.WriteStartObject();
        members(json);
        json.WriteEndObject();
        json.Flush();
        return buffer.WrittenMemory;
    }
}
