using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>A change in quarantine, as far as the loader has to know it.</summary>
/// <param name="Key">Of the object that holds it.</param>
/// <param name="OrderId">The order whose later changes wait behind it.</param>
/// <param name="SequenceNumber">Greater ones of the order wait.</param>
/// <param name="Version">
/// Null when the record could not be decoded; it has a sequence number of its own then. Snapshots of an order share theirs,
/// and only the version tells them apart.
/// </param>
public sealed record ParkedChange(string Key, string OrderId, SequenceNumber SequenceNumber, long? Version = null)
{
    public bool Is(Change change) =>
        OrderId == change.OrderId && SequenceNumber == change.SequenceNumber && (Version is null || Version == change.Version);
}

/// <summary>
/// A change that the warehouse refused, whole, so that it can be loaded when the cause is mended. It follows from the
/// change and the reason alone: a load that is tried again writes the same bytes.
/// </summary>
public sealed record QuarantinedChange(string Reason, Change Change, int Attempt)
{
    /// <summary>People read it: é and not \u00E9.</summary>
    internal static readonly JsonWriterOptions Format = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static readonly QuarantineJsonContext Readable =
        new(new JsonSerializerOptions(QuarantineJsonContext.Default.Options) { Encoder = Format.Encoder });

    public byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, Readable.QuarantinedChange);

    /// <exception cref="JsonException">Not a change in quarantine.</exception>
    public static QuarantinedChange Parse(ReadOnlySpan<byte> json) =>
        JsonSerializer.Deserialize(json, Readable.QuarantinedChange) ?? throw new JsonException("The object is null.");
}

/// <summary>
/// <c>orders/quarantine/</c>: what could not be decoded (written by process_orders) or loaded (written here). The objects
/// are the only truth about what is parked, so they are listed before every load; each is read once.
/// </summary>
public sealed class Quarantine(IObjectStore objects, ILogger logger)
{
    public const string ContentType = "application/json";

    /// <summary>Objects read at once: after a start all there are, else the few that came since the last listing.</summary>
    private const int ReadParallelism = 8;

    /// <summary>By key, with the ETag of what was read; null for an object that tells no order: nothing waits behind it.</summary>
    private readonly Dictionary<string, (string ETag, ParkedChange? Parked)> _known = new(StringComparer.Ordinal);

    /// <summary>
    /// Keys of the discarded changes, as they were in quarantine when it was last listed. An operator decided on each of them, so
    /// they are few.
    /// </summary>
    private HashSet<string> _discarded = new(StringComparer.Ordinal);

    /// <summary>What is parked now.</summary>
    /// <exception cref="ObjectStoreException">No answer: nothing can be loaded, since it is not known what has to wait.</exception>
    public async Task<IReadOnlyList<ParkedChange>> ListAsync(CancellationToken cancellationToken)
    {
        var listed = await ListAsync(Names.QuarantinePrefix, cancellationToken);
        var unread = listed.Where(o => !_known.TryGetValue(o.Key, out var known) || known.ETag != o.ETag).ToList();
        var read = new (string Key, string ETag, ParkedChange? Parked)?[unread.Count];
        await Parallel.ForAsync(
            0,
            unread.Count,
            // On the caller's scheduler, which is the default one but in the simulation.
            new ParallelOptions { MaxDegreeOfParallelism = ReadParallelism, CancellationToken = cancellationToken, TaskScheduler = TaskScheduler.Current },
            async (i, ct) => read[i] = await ReadAsync(unread[i], ct));
        foreach (var found in read.OfType<(string Key, string ETag, ParkedChange? Parked)>())
        {
            _known[found.Key] = (found.ETag, found.Parked);
        }

        var present = listed.Select(o => o.Key).ToHashSet(StringComparer.Ordinal);
        foreach (var gone in _known.Keys.Where(key => !present.Contains(key)).ToList())
        {
            _known.Remove(gone);
        }

        // Each time as well: what is parked may be discarded all the same (the discard did not come to its end, or the record
        // came back with its batch), and another loader may have parked what was discarded before this one saw it.
        _discarded = [.. (await ListAsync(Names.DiscardedPrefix, cancellationToken)).Select(o => o.Key)];
        return [.. _known.Values.Select(known => known.Parked).OfType<ParkedChange>().Where(parked => !_discarded.Contains(ObjectKeys.Discarded(parked.Key)))];
    }

    /// <summary>An operator decided that the change does not belong into the warehouse, also when its file is loaded again.</summary>
    public bool IsDiscarded(Change change) =>
        _discarded.Count > 0 && _discarded.Contains(ObjectKeys.Discarded(ObjectKeys.Quarantine(change)));

    /// <summary>Whether the change was parked when the load that was last tried began.</summary>
    public bool Holds(Change change) => _known.ContainsKey(ObjectKeys.Quarantine(change));

    /// <summary>Parks the change, unless it is discarded. A crash behind it leaves a state in which the next try does the same again.</summary>
    /// <returns>Whether it was not parked before and is now.</returns>
    /// <exception cref="ObjectStoreException">It may or may not be parked.</exception>
    public async Task<bool> ParkAsync(Change change, string reason, CancellationToken cancellationToken)
    {
        var key = ObjectKeys.Quarantine(change);
        if (await IsDiscardedNowAsync(key, cancellationToken))
        {
            return false;
        }

        // The listing may be some loads old by now, and an operator may have raised the count of tries since.
        ObjectContent? earlier = null;
        try
        {
            earlier = await objects.GetAsync(key, cancellationToken);
        }
        catch (ObjectUnreadableException e)
        {
            logger.LogWarning("Change {SequenceNumber} of order {OrderId} is refused again; {Key} cannot be read: {Reason}", change.SequenceNumber, change.OrderId, key, e.Message);
            if (await ExistsAsync(key, cancellationToken))
            {
                // The change is parked, and what nobody can read stays as it is.
                return false;
            }
        }

        var content = ParkedObject(change, reason, earlier?.Bytes);
        if (earlier is null || !content.AsSpan().SequenceEqual(earlier.Bytes))
        {
            await objects.PutAsync(key, content, ContentType, cancellationToken);
        }

        // An operator who discards it writes the record first and then takes the object away: one that was written in
        // between would be left behind.
        if (await IsDiscardedNowAsync(key, cancellationToken))
        {
            await objects.DeleteAsync(key, cancellationToken);
            return false;
        }

        logger.LogError(
            "Change {SequenceNumber} of order {OrderId} is refused and in quarantine as {Key}: {Reason}", change.SequenceNumber, change.OrderId, key, reason);
        return earlier is null;
    }

    private async Task<bool> IsDiscardedNowAsync(string key, CancellationToken cancellationToken)
    {
        var record = ObjectKeys.Discarded(key);
        if (_discarded.Contains(record))
        {
            return true;
        }

        // By its key, which says all that counts: a record that cannot be read is one, and one that is not there is none.
        if (!await ExistsAsync(record, cancellationToken))
        {
            return false;
        }

        _discarded.Add(record);
        return true;
    }

    private async Task<bool> ExistsAsync(string key, CancellationToken cancellationToken) =>
        (await objects.ListAsync(key, startAfter: null, cancellationToken)).Objects.Any(o => o.Key == key);

    /// <summary>
    /// What is parked already keeps its count of tries, which a redrive raises; and a record of the stream that was redriven
    /// stays the record, since the change was made of it and can be made of it again.
    /// </summary>
    private static byte[] ParkedObject(Change change, string reason, byte[]? earlier)
    {
        var attempt = 1;
        try
        {
            if (earlier is not null)
            {
                using var document = JsonDocument.Parse(earlier, new JsonDocumentOptions { MaxDepth = JsonDepthMax });
                if (Member(document.RootElement, "record") is { ValueKind: JsonValueKind.Object })
                {
                    return WithReason(document.RootElement, reason);
                }

                attempt = AttemptOf(document.RootElement);
            }
        }
        catch (JsonException)
        {
            // It was nothing that could be redriven.
        }

        return new QuarantinedChange(reason, change, attempt).ToJson();
    }

    private static byte[] WithReason(JsonElement root, string reason)
    {
        var json = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(json, QuarantinedChange.Format))
        {
            writer.WriteStartObject();
            foreach (var member in root.EnumerateObject())
            {
                if (member.NameEquals("reason"))
                {
                    writer.WriteString("reason", reason);
                }
                else
                {
                    member.WriteTo(writer);
                }
            }

            writer.WriteEndObject();
        }

        return json.WrittenSpan.ToArray();
    }

    private static int AttemptOf(JsonElement root) =>
        Member(root, "attempt") is { ValueKind: JsonValueKind.Number } number && number.TryGetInt32(out var tries) ? tries : 1;

    /// <summary>Takes away what the warehouse has: a change that is loaded is parked no longer.</summary>
    /// <exception cref="ObjectStoreException">The objects may stay; the next load takes them away.</exception>
    public async Task SettleAsync(IReadOnlyCollection<ParkedChange> settled, CancellationToken cancellationToken)
    {
        foreach (var parked in settled)
        {
            await objects.DeleteAsync(parked.Key, cancellationToken);
            _known.Remove(parked.Key);
            logger.LogInformation("Change {SequenceNumber} of order {OrderId} is loaded: nothing waits for {Key} any more", parked.SequenceNumber, parked.OrderId, parked.Key);
        }
    }

    private async Task<IReadOnlyList<ObjectInfo>> ListAsync(string prefix, CancellationToken cancellationToken)
    {
        var listed = new List<ObjectInfo>();
        ObjectPage page;
        do
        {
            page = await objects.ListAsync(prefix, listed.Count > 0 ? listed[^1].Key : null, cancellationToken);
            listed.AddRange(page.Objects);
        }
        while (page.IsTruncated);
        return listed;
    }

    private async Task<(string Key, string ETag, ParkedChange? Parked)?> ReadAsync(ObjectInfo listed, CancellationToken cancellationToken)
    {
        try
        {
            // What was taken away since the listing is not parked.
            return await objects.GetAsync(listed.Key, cancellationToken) is { } content
                ? (listed.Key, content.ETag, Peek(listed.Key, content.Bytes))
                : null;
        }
        catch (Exception e) when (e is ObjectUnreadableException or JsonException)
        {
            logger.LogWarning("Nothing waits behind {Key}, because the order in it cannot be read: {Reason}", listed.Key, e.Message);
            return (listed.Key, listed.ETag, null);
        }
    }

    /// <summary>The order and the place in it of either kind of object: of a change, or of a record of the stream as the event had it.</summary>
    /// <exception cref="JsonException">The object is no JSON.</exception>
    internal static ParkedChange? Peek(string key, ReadOnlyMemory<byte> json)
    {
        using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = JsonDepthMax });
        var root = document.RootElement;
        var stream = Member(Member(root, "record"), "dynamodb");
        var orderId = Text(Member(Member(root, "change"), "order_id")) ?? Text(Member(Member(Member(stream, "keys"), "order_id"), "s"));
        var sequence = Text(Member(Member(root, "change"), "sequence_number")) ?? Text(Member(stream, "sequencenumber"));
        var version = Member(Member(root, "change"), "version") is { ValueKind: JsonValueKind.Number } count && count.TryGetInt64(out var known) ? known : (long?)null;
        return orderId is not null && SequenceNumber.TryParse(sequence, out var sequenceNumber)
            ? new ParkedChange(key, orderId, sequenceNumber, version)
            : null;
    }

    /// <summary>An item nests up to 32 levels deep, and in an event each level is two of JSON.</summary>
    private const int JsonDepthMax = 128;

    /// <summary>Whatever its case: that is not the same in all versions of Lambda's serializer.</summary>
    private static JsonElement? Member(JsonElement? element, string name)
    {
        if (element is { ValueKind: JsonValueKind.Object } map)
        {
            foreach (var member in map.EnumerateObject())
            {
                if (string.Equals(member.Name, name, StringComparison.OrdinalIgnoreCase))
                {
                    return member.Value;
                }
            }
        }

        return null;
    }

    private static string? Text(JsonElement? element) => element is { ValueKind: JsonValueKind.String } text ? text.GetString() : null;
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    WriteIndented = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true,
    Converters = [typeof(SequenceNumberConverter), typeof(OperationConverter)])]
[JsonSerializable(typeof(QuarantinedChange))]
internal sealed partial class QuarantineJsonContext : JsonSerializerContext;

internal sealed class OperationConverter : JsonConverter<Operation>
{
    public override Operation Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        ChangeFile.TryOperation(reader.GetString(), out var value) ? value : throw new JsonException("Not an operation.");

    public override void Write(Utf8JsonWriter writer, Operation value, JsonSerializerOptions options) => writer.WriteStringValue(ChangeFile.NameOf(value));
}

internal sealed class SequenceNumberConverter : JsonConverter<SequenceNumber>
{
    public override SequenceNumber Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        SequenceNumber.TryParse(reader.GetString(), out var value) ? value : throw new JsonException("Not a sequence number.");

    public override void Write(Utf8JsonWriter writer, SequenceNumber value, JsonSerializerOptions options) => writer.WriteStringValue(value.ToString());
}
