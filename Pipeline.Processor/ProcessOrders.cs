using System.Diagnostics;
using System.Globalization;
using Amazon.Lambda.Core;
using Amazon.Lambda.DynamoDBEvents;
using Pipeline.Core;

namespace Pipeline.Processor;

/// <summary>
/// The Lambda <c>process_orders</c>: one batch of stream records → one change file. A batch is failed until all of
/// it is stored; then it is acknowledged.
/// </summary>
/// <param name="objects">Where files go.</param>
/// <param name="protection">Gives what personal data is protected with; an <see cref="IOException"/> when it cannot just now.</param>
/// <param name="time">The clock.</param>
public sealed class ProcessOrders(IObjectWriter objects, Func<CancellationToken, ValueTask<PersonalDataProtector>> protection, TimeProvider time)
{
    public static readonly ActivitySource Activities = new("Pipeline.Processor");

    /// <summary>Kept back from the invocation's time, so that a failure is still reported and not found out by Lambda's timeout.</summary>
    private static readonly TimeSpan ResponseTime = TimeSpan.FromSeconds(1);

    /// <summary>Quarantine objects written at once; a batch of nothing but poison must neither take minutes nor flood S3.</summary>
    private const int QuarantineParallelism = 16;

    /// <summary>A batch as it comes: the JSON of a <see cref="DynamoDBEvent"/>.</summary>
    public async Task<StreamsEventResponse> HandleAsync(ReadOnlyMemory<byte> payload, ILambdaContext context)
    {
        // 1. Decode, the short way, where all records are orders as we know them: straight into the columns of the file.
        if (await ProtectorAsync(context) is not { } protector)
        {
            return Failed(Lowest(EntryPoint.Read(payload).Records ?? []));
        }

        using var changes = new ChangeFileWriter();
        var traceParents = Activities.HasListeners() ? new List<string>() : null;
        return BatchReader.TryRead(payload.Span, protector, changes, traceParents) is { } ends
            ? await StoreAsync(changes, [], ends, traceParents ?? [], context)
            : await HandleAsync(EntryPoint.Read(payload), context);
    }

    /// <summary>The same, of any batch: some of its records may be undecodable.</summary>
    public async Task<StreamsEventResponse> HandleAsync(DynamoDBEvent batch, ILambdaContext context)
    {
        if (batch.Records is not { Count: > 0 } records)
        {
            context.Logger.LogInformation("An empty batch");
            return new StreamsEventResponse { BatchItemFailures = [] };
        }

        // 1. Decode each record once, into a typed change or into the reason why it is none. Without the key that personal
        //    data is protected with, nothing is written at all.
        if (await ProtectorAsync(context) is not { } protector)
        {
            return Failed(Lowest(records));
        }

        using var changes = new ChangeFileWriter();
        var poison = new List<QuarantinedRecord>();
        var traceParents = new List<string>();
        foreach (var record in records)
        {
            try
            {
                var change = ChangeDecoder.Decode(EventRecord.ToStreamRecord(record, protector));
                changes.Add(change);
                if (change.TraceParent is { } traceParent && TraceLinks.NamesItsRequest(change.Operation))
                {
                    traceParents.Add(traceParent);
                }
            }
            catch (UndecodableRecordException e)
            {
                poison.Add(QuarantinedRecord.Of(e.Message, record, protector));
            }
        }

        var ends = new BatchEnds(records[0]?.Dynamodb?.SequenceNumber, records[^1]?.Dynamodb?.SequenceNumber, Lowest(records));
        return await StoreAsync(changes, poison, ends, traceParents, context);
    }

    private async Task<StreamsEventResponse> StoreAsync(
        ChangeFileWriter changes, List<QuarantinedRecord> poison, BatchEnds ends, List<string> traceParents, ILambdaContext context)
    {
        // 2. Store: first what cannot go on, then the change file. Both keys and bytes follow from the records
        //    alone, so when the batch comes again everything is overwritten with itself.
        var failed = true;
        var key = changes.Count > 0 ? changes.Key : null;
        using (var activity = StartActivity(traceParents, context))
        {
            activity?.SetTag("pipeline.changes", changes.Count);
            activity?.SetTag("pipeline.quarantined", poison.Count);
            activity?.SetTag("pipeline.object_key", key);
            try
            {
                using var timeout = new CancellationTokenSource(TimeToStore(context), time);
                await QuarantineAsync(poison, context, timeout.Token);
                if (key is not null)
                {
                    await WriteChangeFileAsync(key, changes, context, timeout.Token);
                }

                failed = false;
            }
            catch (Exception e) when (e is ObjectStoreException or OperationCanceledException)
            {
                activity?.SetStatus(ActivityStatusCode.Error, e.Message);
                context.Logger.LogError(
                    e, "The batch {First} to {Last} is not stored and will be delivered again", ends.First, ends.Last);
            }
        }

        // 3. Answer. Failing the lowest record makes Lambda deliver the whole batch again, from that record on.
        if (failed)
        {
            return Failed(ends.Lowest);
        }

        context.Logger.LogInformation(
            "Stored {Changes} changes, {Quarantined} in quarantine, {First} to {Last}, in {Key}",
            changes.Count,
            poison.Count,
            ends.First,
            ends.Last,
            key);
        return new StreamsEventResponse { BatchItemFailures = [] };
    }

    /// <summary>Null: there is none just now; the log says why.</summary>
    private async Task<PersonalDataProtector?> ProtectorAsync(ILambdaContext context)
    {
        try
        {
            using var timeout = new CancellationTokenSource(TimeToStore(context), time);
            return await protection(timeout.Token);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException)
        {
            context.Logger.LogError(e, "There is no key for personal data; the batch will be delivered again");
            return null;
        }
    }

    private static StreamsEventResponse Failed(string lowest) => new() { BatchItemFailures = [new() { ItemIdentifier = lowest }] };

    private async Task QuarantineAsync(List<QuarantinedRecord> poison, ILambdaContext context, CancellationToken cancellationToken) =>
        await Parallel.ForEachAsync(
            poison,
            // On the caller's scheduler, which is the default one but in the simulation.
            new ParallelOptions { MaxDegreeOfParallelism = QuarantineParallelism, CancellationToken = cancellationToken, TaskScheduler = TaskScheduler.Current },
            async (record, ct) =>
            {
                var content = record.ToJson();
                var key = EventRecord.QuarantineKey(record.Record, content);
                await objects.PutAsync(key, content, "application/json", Metadata(1, context), ct);
                context.Logger.LogWarning(
                    "Record {SequenceNumber} is in quarantine as {Key}: {Reason}", record.Record?.Dynamodb?.SequenceNumber, key, record.Reason);
            });

    private async Task WriteChangeFileAsync(string key, ChangeFileWriter changes, ILambdaContext context, CancellationToken cancellationToken)
    {
        await objects.PutAsync(key, changes.Finish(), ChangeFile.ContentType, Metadata(changes.Count, context), cancellationToken);
    }

    /// <summary>For people who look at the bucket; nothing reads it.</summary>
    private static Dictionary<string, string> Metadata(int rows, ILambdaContext context) => new()
    {
        ["rows"] = rows.ToString(CultureInfo.InvariantCulture),
        ["request-id"] = context.AwsRequestId,
    };

    private static TimeSpan TimeToStore(ILambdaContext context)
    {
        var left = context.RemainingTime - ResponseTime;
        return left > TimeSpan.Zero ? left : TimeSpan.Zero;
    }

    /// <summary>
    /// The lowest sequence number of the batch. A record without a usable one makes it empty, which Lambda takes
    /// as "all of it failed" (developer guide, "Reporting batch item failures").
    /// </summary>
    private static string Lowest(IList<DynamoDBEvent.DynamodbStreamRecord> records)
    {
        var lowest = "";
        SequenceNumber? lowestNumber = null;
        foreach (var record in records)
        {
            if (!SequenceNumber.TryParse(record?.Dynamodb?.SequenceNumber, out var number))
            {
                return "";
            }

            if (lowestNumber is null || number < lowestNumber)
            {
                (lowest, lowestNumber) = (record!.Dynamodb.SequenceNumber, number);
            }
        }

        return lowest;
    }

    private static Activity? StartActivity(List<string> traceParents, ILambdaContext context)
    {
        var activity = Activities.StartBatch("process_orders", traceParents);
        activity?.SetTag("faas.trigger", "datasource");
        activity?.SetTag("faas.invocation_id", context.AwsRequestId);
        return activity;
    }
}
