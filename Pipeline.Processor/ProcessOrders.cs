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

    public async Task<StreamsEventResponse> HandleAsync(DynamoDBEvent batch, ILambdaContext context)
    {
        if (batch.Records is not { Count: > 0 } records)
        {
            context.Logger.LogInformation("An empty batch");
            return new StreamsEventResponse { BatchItemFailures = [] };
        }

        // 1. Decode each record once, into a typed change or into the reason why it is none. Without the key that personal
        //    data is protected with, nothing is written at all.
        PersonalDataProtector protector;
        try
        {
            using var timeout = new CancellationTokenSource(TimeToStore(context), time);
            protector = await protection(timeout.Token);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException)
        {
            context.Logger.LogError(e, "There is no key for personal data; the batch will be delivered again");
            return new StreamsEventResponse { BatchItemFailures = [new() { ItemIdentifier = Lowest(records) }] };
        }

        var changes = new List<Change>(records.Count);
        var poison = new List<QuarantinedRecord>();
        foreach (var record in records)
        {
            try
            {
                changes.Add(ChangeDecoder.Decode(EventRecord.ToStreamRecord(record, protector)));
            }
            catch (UndecodableRecordException e)
            {
                poison.Add(QuarantinedRecord.Of(e.Message, record, protector));
            }
        }

        // 2. Store: first what cannot go on, then the change file. Both keys and bytes follow from the records
        //    alone, so when the batch comes again everything is overwritten with itself.
        var failed = true;
        var key = changes.Count > 0 ? ObjectKeys.ChangeFile(changes) : null;
        using (var activity = StartActivity(changes, context))
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
                    e,
                    "The batch {First} to {Last} is not stored and will be delivered again",
                    records[0].Dynamodb?.SequenceNumber,
                    records[^1].Dynamodb?.SequenceNumber);
            }
        }

        // 3. Answer. Failing the lowest record makes Lambda deliver the whole batch again, from that record on.
        if (failed)
        {
            return new StreamsEventResponse { BatchItemFailures = [new() { ItemIdentifier = Lowest(records) }] };
        }

        context.Logger.LogInformation(
            "Stored {Changes} changes, {Quarantined} in quarantine, {First} to {Last}, in {Key}",
            changes.Count,
            poison.Count,
            records[0].Dynamodb?.SequenceNumber,
            records[^1].Dynamodb?.SequenceNumber,
            key);
        return new StreamsEventResponse { BatchItemFailures = [] };
    }

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

    private async Task WriteChangeFileAsync(string key, List<Change> changes, ILambdaContext context, CancellationToken cancellationToken)
    {
        using var file = new MemoryStream();
        await ChangeFile.WriteAsync(changes, file, cancellationToken);

        // Named as OpenTelemetry's semantic conventions for AWS calls and for S3 say.
        using var activity = Activities.StartActivity("S3.PutObject", ActivityKind.Client);
        activity?.SetTag("rpc.system", "aws-api").SetTag("rpc.service", "S3").SetTag("rpc.method", "PutObject").SetTag("aws.s3.key", key);
        await objects.PutAsync(
            key, file.GetBuffer().AsMemory(0, (int)file.Length), ChangeFile.ContentType, Metadata(changes.Count, context), cancellationToken);
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

    private static Activity? StartActivity(List<Change> changes, ILambdaContext context)
    {
        var activity = Activities.StartBatch("process_orders", changes);
        activity?.SetTag("faas.invocation_id", context.AwsRequestId);
        return activity;
    }
}
