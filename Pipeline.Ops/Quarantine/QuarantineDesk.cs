using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Amazon.Lambda.Serialization.SystemTextJson;
using Pipeline.Core;
using Pipeline.Loader;
using Pipeline.Processor;

namespace Pipeline.Ops.Quarantine;

/// <summary>An object in quarantine, without its payload. What cannot be read of it is null.</summary>
internal sealed record ParkedObject(string Key, string Reason, int Attempt)
{
    public string? OrderId { get; init; }
    public string? SequenceNumber { get; init; }
    public DateTimeOffset? ChangedAt { get; init; }

    /// <summary>Changes of the order that wait behind it; null where the warehouse could not be asked.</summary>
    public long? Waiting { get; init; }
}

internal enum RedriveResult
{
    /// <summary>Its change is in a change file again; it leaves the quarantine when it is loaded.</summary>
    Written,

    /// <summary>As little decodable as before; its count of tries is raised.</summary>
    StillUndecodable,

    /// <summary>The object is none of the pipeline's.</summary>
    Unreadable,

    /// <summary>There was no such object any more: it was loaded or discarded meanwhile.</summary>
    Gone,

    /// <summary>It was discarded, which is for good.</summary>
    Discarded,
}

/// <param name="Key">Of the object in quarantine.</param>
/// <param name="Result">What became of it.</param>
/// <param name="Reason">Why it is not in a file; null when it is.</param>
internal sealed record Redriven(string Key, RedriveResult Result, string? Reason);

internal enum DiscardResult
{
    Discarded,
    AlreadyDiscarded,
    NotThere,
}

/// <summary>
/// What an operator does with the quarantine. Every step may be repeated after a crash: a redrive writes one more file
/// with a change that the load takes once, a discard adds one more line to its record.
/// </summary>
internal sealed class QuarantineDesk(IObjectStore objects, TimeProvider time)
{
    /// <summary>Requests at once: some hundred a second, far below what one prefix of a bucket takes (3,500 PUT a second).</summary>
    private const int Parallelism = 16;

    /// <summary>Of one change file; as much as one load takes at once, a few seconds of work.</summary>
    private const int ChangesMax = 1_000;
    private const long TextMax = 16L << 20;

    /// <summary>Everything in quarantine, by order and sequence number; what tells no order comes last.</summary>
    /// <exception cref="Loader.ObjectStoreException">The store gives no answer.</exception>
    public async Task<IReadOnlyList<ParkedObject>> ListAsync(Action<int, int>? progress, CancellationToken cancellationToken)
    {
        var keys = await KeysAsync(Names.QuarantinePrefix, cancellationToken);
        var parked = new ParkedObject?[keys.Count];
        var read = 0;
        await ForEachAsync(keys.Count, async (i, ct) =>
        {
            parked[i] = await ReadAsync(keys[i], ct) is { } payload ? payload.Describe() : null;
            progress?.Invoke(Interlocked.Increment(ref read), keys.Count);
        }, cancellationToken);
        return [.. parked.OfType<ParkedObject>()
            .OrderBy(p => p.OrderId is null || p.SequenceNumber is null)
            .ThenBy(p => p.OrderId, StringComparer.Ordinal)
            .ThenBy(p => p.SequenceNumber, StringComparer.Ordinal)
            .ThenBy(p => p.Key, StringComparer.Ordinal)];
    }

    /// <summary>The object as it is; null when there is none.</summary>
    /// <exception cref="Loader.ObjectStoreException">The store gives no answer.</exception>
    public async Task<byte[]?> ShowAsync(string key, CancellationToken cancellationToken) =>
        (await objects.GetAsync(key, cancellationToken))?.Bytes;

    /// <summary>
    /// Decodes what is parked again, with the code of process_orders, and writes it as change files. The objects stay until
    /// the loader has the changes in the warehouse: so none is ever in neither place, and none of its order overtakes it.
    /// </summary>
    /// <param name="keys">In the order of their changes.</param>
    /// <param name="protector">For objects of before there was protection; all others need no key, and without one these stay.</param>
    /// <param name="progress">Gets how many are done.</param>
    /// <param name="cancellationToken">Ends it between two requests.</param>
    /// <exception cref="Loader.ObjectStoreException">The store gives no answer; what was not answered for can be redriven again.</exception>
    public async Task<IReadOnlyList<Redriven>> RedriveAsync(
        IReadOnlyList<string> keys, PersonalDataProtector? protector, Action<int>? progress, CancellationToken cancellationToken)
    {
        var discarded = (await KeysAsync(Names.DiscardedPrefix, cancellationToken)).ToHashSet(StringComparer.Ordinal);
        var place = keys.Index().ToDictionary(key => key.Item, key => key.Index, StringComparer.Ordinal);
        var results = new List<Redriven>();
        var file = new List<(Payload Payload, Change Change)>();
        long text = 0;
        foreach (var key in keys)
        {
            if (discarded.Contains(ObjectKeys.Discarded(key)))
            {
                results.Add(Discarded(key));
            }
            else if ((await ReadAsync(key, cancellationToken))?.Protected(protector) is not { } payload)
            {
                results.Add(new(key, RedriveResult.Gone, "there is no such object"));
            }
            else if (payload.Problem is { } problem)
            {
                results.Add(new(key, RedriveResult.Unreadable, problem));
            }
            else if (!payload.TryDecode(out var change, out var reason))
            {
                results.Add(await PutAsync(key, payload.Again(reason), cancellationToken) ? new(key, RedriveResult.StillUndecodable, reason) : Discarded(key));
            }
            else
            {
                file.Add((payload, change));
                text += change.Document.Length;
                if (file.Count == ChangesMax || text >= TextMax)
                {
                    results.AddRange(await WriteAsync(file, cancellationToken));
                    (file, text) = ([], 0);
                }
            }

            progress?.Invoke(results.Count);
        }

        if (file.Count > 0)
        {
            results.AddRange(await WriteAsync(file, cancellationToken));
            progress?.Invoke(results.Count);
        }

        return [.. results.OrderBy(r => place[r.Key])];
    }

    /// <summary>
    /// Takes a change out for good: first the record of it, with payload and reason, then the object. What has been redriven
    /// and is in a load at that very moment is loaded all the same (docs/decisions/0007-later-changes-wait.md).
    /// </summary>
    /// <exception cref="Loader.ObjectStoreException">The store gives no answer; it can be discarded again.</exception>
    public async Task<DiscardResult> DiscardAsync(string key, string reason, string who, CancellationToken cancellationToken)
    {
        var recordKey = ObjectKeys.Discarded(key);
        var earlier = await objects.GetAsync(recordKey, cancellationToken);
        if (await objects.GetAsync(key, cancellationToken) is not { } parked)
        {
            return earlier is null ? DiscardResult.NotThere : DiscardResult.AlreadyDiscarded;
        }

        var record = DiscardRecord.Of(key, parked.Bytes, earlier?.Bytes, new Discard(time.GetUtcNow(), who, reason));
        await objects.PutAsync(recordKey, record, Loader.Quarantine.ContentType, cancellationToken);
        await objects.DeleteAsync(key, cancellationToken);
        return DiscardResult.Discarded;
    }

    private async Task<IReadOnlyList<Redriven>> WriteAsync(IReadOnlyList<(Payload Payload, Change Change)> changes, CancellationToken cancellationToken)
    {
        // First the counts, then the file: the loader takes the object away when the change is loaded, and no later write
        // of ours brings it back.
        var isParked = new bool[changes.Count];
        await ForEachAsync(
            changes.Count, async (i, ct) => isParked[i] = await PutAsync(changes[i].Payload.Key, changes[i].Payload.Again(), ct), cancellationToken);
        var parked = changes.Where((_, i) => isParked[i]).ToList();
        if (parked.Count > 0)
        {
            using var file = new MemoryStream();
            await ChangeFile.WriteAsync([.. parked.Select(c => c.Change)], file, cancellationToken);
            var key = ObjectKeys.RedriveFile([.. parked.Select(c => (c.Change, c.Payload.Attempt + 1))], time.GetUtcNow());
            await objects.PutAsync(key, file.GetBuffer().AsMemory(0, (int)file.Length), ChangeFile.ContentType, cancellationToken);
        }

        return [.. changes.Select((c, i) => isParked[i] ? new Redriven(c.Payload.Key, RedriveResult.Written, null) : Discarded(c.Payload.Key))];
    }

    /// <summary>
    /// Writes an object in quarantine over itself, unless somebody has discarded it. A discard writes its record first and
    /// then takes the object away, so whoever finds no record behind the PUT knows that a discard would take away
    /// what was put.
    /// </summary>
    /// <returns>Whether it is parked still.</returns>
    private async Task<bool> PutAsync(string key, ReadOnlyMemory<byte> content, CancellationToken cancellationToken)
    {
        if (await IsDiscardedAsync())
        {
            return false;
        }

        await objects.PutAsync(key, content, Loader.Quarantine.ContentType, cancellationToken);
        if (await IsDiscardedAsync())
        {
            await objects.DeleteAsync(key, cancellationToken);
            return false;
        }

        return true;

        async Task<bool> IsDiscardedAsync() => await objects.GetAsync(ObjectKeys.Discarded(key), cancellationToken) is not null;
    }

    private static Redriven Discarded(string key) =>
        new(key, RedriveResult.Discarded, $"it was discarded, see {ObjectKeys.Discarded(key)}; if it is still listed, discard it again");

    private async Task<Payload?> ReadAsync(string key, CancellationToken cancellationToken)
    {
        try
        {
            return await objects.GetAsync(key, cancellationToken) is { } content ? Payload.Read(key, content.Bytes) : null;
        }
        catch (ObjectUnreadableException e)
        {
            return new Payload(key, null, null, e.Message);
        }
    }

    private async Task<IReadOnlyList<string>> KeysAsync(string prefix, CancellationToken cancellationToken)
    {
        var keys = new List<string>();
        ObjectPage page;
        do
        {
            page = await objects.ListAsync(prefix, keys.Count > 0 ? keys[^1] : null, cancellationToken);
            keys.AddRange(page.Objects.Select(o => o.Key));
        }
        while (page.IsTruncated);
        return keys;
    }

    private static Task ForEachAsync(int count, Func<int, CancellationToken, ValueTask> action, CancellationToken cancellationToken) => Parallel.ForAsync(
        0,
        count,
        // On the caller's scheduler, which is the default one but in the simulation.
        new ParallelOptions { MaxDegreeOfParallelism = Parallelism, CancellationToken = cancellationToken, TaskScheduler = TaskScheduler.Current },
        action);

    /// <summary>Either kind of object: a record of the stream, or a change that the warehouse refused; or why it is neither.</summary>
    private sealed record Payload(string Key, QuarantinedRecord? Record, QuarantinedChange? Change, string? Problem)
    {
        public int Attempt => Record?.Attempt ?? Change?.Attempt ?? 0;

        public static Payload Read(string key, byte[] json)
        {
            try
            {
                using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = 128 });
                if (document.RootElement.ValueKind == JsonValueKind.Object && document.RootElement.TryGetProperty("change", out _))
                {
                    return new Payload(key, null, QuarantinedChange.Parse(json), null);
                }

                using var stream = new MemoryStream(json, writable: false);
                return EntryPoint.Serializer.Deserialize<QuarantinedRecord>(stream) is { Reason: not null } record
                    ? new Payload(key, record, null, null)
                    : new Payload(key, null, null, "it has neither a record nor a change");
            }
            catch (Exception e) when (e is JsonException or JsonSerializerException)
            {
                return new Payload(key, null, null, $"it is no object of the pipeline: {e.Message}");
            }
        }

        /// <summary>The same with its personal data protected, as it is in all objects but those of before there was protection.</summary>
        public Payload Protected(PersonalDataProtector? protector) => Record switch
        {
            null or { ProtectedWith: not null } => this,
            _ when protector is null => this with { Problem = "it was parked with clear personal data; give the key to protect it with (docs/privacy.md)" },
            _ => this with { Record = QuarantinedRecord.Of(Record.Reason, Record.Record, protector) with { Attempt = Record.Attempt } },
        };

        public bool TryDecode(out Change change, out string reason)
        {
            reason = "";
            if (Change is { } parked)
            {
                change = parked.Change;
                return true;
            }

            try
            {
                change = ChangeDecoder.Decode(EventRecord.ToStreamRecord(Record!));
                return true;
            }
            catch (UndecodableRecordException e)
            {
                change = null!;
                reason = e.Message;
                return false;
            }
        }

        /// <summary>The same, tried once more.</summary>
        public ReadOnlyMemory<byte> Again(string? reason = null) => Change is { } change
            ? (change with { Attempt = Attempt + 1 }).ToJson()
            : (Record! with { Attempt = Attempt + 1, Reason = reason ?? Record!.Reason }).ToJson();

        public ParkedObject Describe()
        {
            if (Change is { } parked)
            {
                return new ParkedObject(Key, parked.Reason, Attempt)
                {
                    OrderId = parked.Change.OrderId,
                    SequenceNumber = parked.Change.SequenceNumber.ToString(),
                    ChangedAt = parked.Change.ChangedAt,
                };
            }

            var stream = Record?.Record?.Dynamodb;
            return new ParkedObject(Key, Problem ?? Record!.Reason, Attempt)
            {
                OrderId = stream?.Keys?.GetValueOrDefault("order_id")?.S,
                SequenceNumber = SequenceNumber.TryParse(stream?.SequenceNumber, out var number) ? number.ToString() : null,
                ChangedAt = stream is null || stream.ApproximateCreationDateTime == default
                    ? null
                    : new DateTimeOffset(DateTime.SpecifyKind(stream.ApproximateCreationDateTime, DateTimeKind.Utc)),
            };
        }
    }
}

/// <summary>A decision: who discarded a change, when and why.</summary>
internal sealed record Discard(DateTimeOffset At, string By, string Reason);

/// <summary>The record of a discarded change: the decisions (more than one when it came back), and the whole object.</summary>
internal static class DiscardRecord
{
    private static readonly JsonWriterOptions Readable = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <param name="key">Of the object in quarantine.</param>
    /// <param name="parked">The object, byte for byte; as base64 when it is no JSON.</param>
    /// <param name="earlier">The record that is there already; null when there is none.</param>
    /// <param name="decision">The new decision, put behind those that are there.</param>
    public static byte[] Of(string key, byte[] parked, byte[]? earlier, Discard decision)
    {
        var json = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(json, Readable))
        {
            writer.WriteStartObject();
            writer.WriteString("key", key);
            writer.WriteStartArray("discarded");
            foreach (var one in Earlier(earlier).Append(decision))
            {
                JsonSerializer.Serialize(writer, one, QuarantineDeskJsonContext.Default.Discard);
            }

            writer.WriteEndArray();
            if (IsJson(parked))
            {
                writer.WritePropertyName("object");
                writer.WriteRawValue(parked, skipInputValidation: true);
            }
            else
            {
                writer.WriteBase64String("bytes", parked);
            }

            writer.WriteEndObject();
        }

        return json.WrittenSpan.ToArray();
    }

    public static IReadOnlyList<Discard> Earlier(byte[]? record)
    {
        if (record is null)
        {
            return [];
        }

        using var document = JsonDocument.Parse(record, new JsonDocumentOptions { MaxDepth = 256 });
        return [.. document.RootElement.GetProperty("discarded").EnumerateArray().Select(one => one.Deserialize(QuarantineDeskJsonContext.Default.Discard)!)];
    }

    private static bool IsJson(byte[] bytes)
    {
        try
        {
            using var document = JsonDocument.Parse(bytes, new JsonDocumentOptions { MaxDepth = 256 });
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true,
    WriteIndented = true)]
[JsonSerializable(typeof(Discard))]
[JsonSerializable(typeof(IReadOnlyList<ParkedObject>))]
[JsonSerializable(typeof(IReadOnlyList<Redriven>))]
internal sealed partial class QuarantineDeskJsonContext : JsonSerializerContext;
