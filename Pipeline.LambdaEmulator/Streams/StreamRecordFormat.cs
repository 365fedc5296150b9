using System.Buffers;
using System.IO.Hashing;
using System.Text;
using System.Text.Json;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Streams;

/// <summary>
/// Turns the answer of GetRecords into records of the event that Lambda sends: Lambda developer guide, "Using AWS
/// Lambda with Amazon DynamoDB", example event. The images are copied as they are, without building objects.
/// </summary>
/// <param name="region">What the event's <c>awsRegion</c> says: DynamoDB Local calls its own "ddblocal".</param>
/// <param name="streamArn">The event's <c>eventSourceARN</c>.</param>
public sealed class StreamRecordFormat(string region, string streamArn)
{
    /// <summary>
    /// DynamoDB nests an item up to 32 levels deep, each of them two in JSON: the reader's own limit of 64 would not do.
    /// </summary>
    public const int JsonDepthMax = 128;

    private static readonly JsonReaderOptions Json = new() { MaxDepth = JsonDepthMax };

    /// <summary>DynamoDB Local cuts ApproximateCreationDateTime to the minute.</summary>
    private readonly bool _createdIsCutToMinute = streamArn.Contains(":ddblocal:", StringComparison.Ordinal);

    private readonly byte[] _arn = JsonSerializer.SerializeToUtf8Bytes(streamArn);
    private readonly byte[] _region = JsonSerializer.SerializeToUtf8Bytes(region);

    public (IReadOnlyList<StreamRecord> Records, string? NextIterator) Parse(ReadOnlyMemory<byte> getRecords, DateTimeOffset now)
    {
        var records = new List<StreamRecord>();
        string? nextIterator = null;
        // Every record has its bytes to itself: one that waits long must not keep a page of 1 MB in memory.
        var json = new ArrayBufferWriter<byte>(4096);
        var reader = new Utf8JsonReader(getRecords.Span, Json);
        Expect(reader.Read() && reader.TokenType == JsonTokenType.StartObject);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("NextShardIterator"u8))
            {
                reader.Read();
                nextIterator = reader.GetString();
            }
            else if (reader.ValueTextEquals("Records"u8))
            {
                reader.Read();
                while (reader.Read() && reader.TokenType == JsonTokenType.StartObject)
                {
                    var wire = WireRecord.Read(ref reader, getRecords.Span);
                    json.ResetWrittenCount();
                    Write(json, wire, getRecords.Span);
                    records.Add(new StreamRecord(wire.SequenceNumber, wire.ItemHash, CreatedAt(wire, now), json.WrittenSpan.ToArray()));
                }
            }
            else
            {
                reader.Skip();
            }
        }

        return (records, nextIterator);
    }

    /// <summary>A time that was cut to the minute is at most a minute too early; it is not after the reading.</summary>
    private DateTimeOffset CreatedAt(WireRecord wire, DateTimeOffset now)
    {
        var created = DateTimeOffset.FromUnixTimeMilliseconds((long)(wire.CreatedSeconds * 1000));
        if (!_createdIsCutToMinute)
        {
            return created;
        }

        var latest = created.AddMinutes(1);
        return latest < now ? latest : now;
    }

    private void Write(ArrayBufferWriter<byte> to, in WireRecord wire, ReadOnlySpan<byte> page)
    {
        to.Write("{\"eventID\":"u8);
        to.Write(page[wire.EventId]);
        to.Write(",\"eventName\":"u8);
        to.Write(page[wire.EventName]);
        Copy(to, ",\"eventVersion\":"u8, page[wire.EventVersion]);
        to.Write(",\"eventSource\":\"aws:dynamodb\",\"awsRegion\":"u8);
        to.Write(_region);
        // Seconds since the epoch, whole, as Lambda sends them.
        to.Write(",\"dynamodb\":{\"ApproximateCreationDateTime\":"u8);
        WriteNumber(to, (long)wire.CreatedSeconds);
        Copy(to, ",\"Keys\":"u8, page[wire.Keys]);
        Copy(to, ",\"NewImage\":"u8, page[wire.NewImage]);
        Copy(to, ",\"OldImage\":"u8, page[wire.OldImage]);
        to.Write(",\"SequenceNumber\":\""u8);
        Encoding.UTF8.GetBytes(wire.SequenceNumber, to);
        to.Write("\",\"SizeBytes\":"u8);
        WriteNumber(to, wire.SizeBytes);
        Copy(to, ",\"StreamViewType\":"u8, page[wire.StreamViewType]);
        to.Write("}"u8);
        if (wire.UserIdentityType is not null)
        {
            // Removals by time to live: type "Service", principal "dynamodb.amazonaws.com". Lambda's names are lower case.
            to.Write(",\"userIdentity\":{\"type\":"u8);
            to.Write(JsonSerializer.SerializeToUtf8Bytes(wire.UserIdentityType));
            to.Write(",\"principalId\":"u8);
            to.Write(JsonSerializer.SerializeToUtf8Bytes(wire.UserIdentityPrincipal));
            to.Write("}"u8);
        }

        to.Write(",\"eventSourceARN\":"u8);
        to.Write(_arn);
        to.Write("}"u8);
    }

    /// <summary>Writes an optional member: nothing if there is no value.</summary>
    private static void Copy(ArrayBufferWriter<byte> to, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        if (!value.IsEmpty)
        {
            to.Write(name);
            to.Write(value);
        }
    }

    private static void WriteNumber(ArrayBufferWriter<byte> to, long value)
    {
        value.TryFormat(to.GetSpan(20), out var written, default, System.Globalization.CultureInfo.InvariantCulture);
        to.Advance(written);
    }

    private static void Expect(bool condition)
    {
        if (!condition)
        {
            throw new JsonException("The stream's answer is not what GetRecords gives.");
        }
    }

    /// <summary>Where the parts of a record are in the page.</summary>
    private ref struct WireRecord
    {
        public Range EventId;
        public Range EventName;
        public Range EventVersion;
        public Range Keys;
        public Range NewImage;
        public Range OldImage;
        public Range StreamViewType;
        public string SequenceNumber;
        public ulong ItemHash;
        public double CreatedSeconds;
        public long SizeBytes;
        public string? UserIdentityType;
        public string? UserIdentityPrincipal;

        public static WireRecord Read(ref Utf8JsonReader reader, ReadOnlySpan<byte> page)
        {
            var record = new WireRecord();
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                if (reader.ValueTextEquals("eventID"u8))
                {
                    record.EventId = ReadRaw(ref reader);
                }
                else if (reader.ValueTextEquals("eventName"u8))
                {
                    record.EventName = ReadRaw(ref reader);
                }
                else if (reader.ValueTextEquals("eventVersion"u8))
                {
                    record.EventVersion = ReadRaw(ref reader);
                }
                else if (reader.ValueTextEquals("dynamodb"u8))
                {
                    Expect(reader.Read() && reader.TokenType == JsonTokenType.StartObject);
                    record.ReadChange(ref reader, page);
                }
                else if (reader.ValueTextEquals("userIdentity"u8))
                {
                    reader.Read();
                    record.ReadUserIdentity(ref reader);
                }
                else
                {
                    reader.Skip();
                }
            }

            Expect(reader.TokenType == JsonTokenType.EndObject
                && record.SequenceNumber is not null && !record.EventId.Equals(default) && !record.EventName.Equals(default));
            return record;
        }

        private void ReadChange(ref Utf8JsonReader reader, ReadOnlySpan<byte> page)
        {
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                if (reader.ValueTextEquals("Keys"u8))
                {
                    Keys = ReadRaw(ref reader);
                    ItemHash = HashOfItem(page[Keys]);
                }
                else if (reader.ValueTextEquals("NewImage"u8))
                {
                    NewImage = ReadRaw(ref reader);
                }
                else if (reader.ValueTextEquals("OldImage"u8))
                {
                    OldImage = ReadRaw(ref reader);
                }
                else if (reader.ValueTextEquals("StreamViewType"u8))
                {
                    StreamViewType = ReadRaw(ref reader);
                }
                else if (reader.ValueTextEquals("SequenceNumber"u8))
                {
                    reader.Read();
                    SequenceNumber = reader.GetString()!;
                }
                else if (reader.ValueTextEquals("ApproximateCreationDateTime"u8))
                {
                    reader.Read();
                    CreatedSeconds = reader.GetDouble();
                }
                else if (reader.ValueTextEquals("SizeBytes"u8))
                {
                    reader.Read();
                    SizeBytes = reader.GetInt64();
                }
                else
                {
                    reader.Skip();
                }
            }
        }

        private void ReadUserIdentity(ref Utf8JsonReader reader)
        {
            while (reader.TokenType != JsonTokenType.Null && reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                var isType = reader.ValueTextEquals("Type"u8) || reader.ValueTextEquals("type"u8);
                reader.Read();
                if (isType)
                {
                    UserIdentityType = reader.GetString();
                }
                else
                {
                    UserIdentityPrincipal = reader.GetString();
                }
            }
        }

        /// <summary>The same for the same key whatever the order of its attributes.</summary>
        private static ulong HashOfItem(ReadOnlySpan<byte> keys)
        {
            var hash = 0UL;
            var reader = new Utf8JsonReader(keys);
            reader.Read();
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                var from = (int)reader.TokenStartIndex;
                reader.Read();
                reader.Skip();
                hash += XxHash3.HashToUInt64(keys[from..(int)reader.BytesConsumed]);
            }

            return hash;
        }

        private static Range ReadRaw(ref Utf8JsonReader reader)
        {
            Expect(reader.Read());
            var from = (int)reader.TokenStartIndex;
            reader.Skip();
            return from..(int)reader.BytesConsumed;
        }
    }
}
