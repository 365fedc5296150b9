using System.Collections.Concurrent;
using System.Diagnostics;
using Amazon.Lambda.DynamoDBEvents;
using Microsoft.Extensions.Time.Testing;
using Pipeline.Core;
using Pipeline.Processor;
using AttributeValue = Amazon.Lambda.DynamoDBEvents.DynamoDBEvent.AttributeValue;

namespace Pipeline.UnitTests;

public class ProcessOrdersTests
{
    private const string PersonalData = "ana@example.com";

    private readonly MemoryObjects _objects = new();
    private readonly FakeInvocation _context = new();

    [Fact]
    public async Task An_empty_event_is_acknowledged_and_writes_nothing()
    {
        Assert.Empty((await HandleAsync([])).BatchItemFailures);
        Assert.Empty((await new ProcessOrders(_objects, Protection.GetAsync, TimeProvider.System).HandleAsync(new DynamoDBEvent(), _context)).BatchItemFailures);
        Assert.Empty(_objects.Puts);
    }

    [Fact]
    public async Task The_same_batch_writes_the_same_object_again()
    {
        DynamoDBEvent.DynamodbStreamRecord[] batch = [Good(1), Poison(2), Good(3)];
        await HandleAsync(batch);
        var first = _objects.Stored.ToDictionary();
        await HandleAsync([Good(1), Poison(2), Good(3)]);

        Assert.Equal(first.Keys.Order(), _objects.Stored.Keys.Order());
        Assert.All(first, o => Assert.Equal(o.Value, _objects.Stored[o.Key]));
        Assert.Equal(4, _objects.Puts.Count);
    }

    [Fact]
    public async Task A_record_that_is_in_the_batch_twice_is_in_the_file_twice_and_does_no_harm()
    {
        Assert.Empty((await HandleAsync([Good(1), Good(1), Good(2)])).BatchItemFailures);

        Assert.Equal(["event-1", "event-1", "event-2"], (await FileAsync()).Select(c => c.EventId));
    }

    [Fact]
    public async Task A_batch_of_nothing_but_poison_writes_no_file()
    {
        Assert.Empty((await HandleAsync([.. Enumerable.Range(1, 100).Select(Poison)])).BatchItemFailures);

        Assert.Equal(100, _objects.Stored.Count);
        Assert.All(_objects.Stored.Keys, key => Assert.StartsWith(Names.QuarantinePrefix, key, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Poison_is_stored_before_the_change_file_and_so_before_the_acknowledgement()
    {
        await HandleAsync([Good(1), Poison(2)]);

        Assert.Equal([Names.QuarantinePrefix, Names.ChangesPrefix], _objects.Puts.Select(key => string.Join('/', key.Split('/')[..2]) + "/"));
    }

    [Theory]
    [InlineData(Names.ChangesPrefix)]
    [InlineData(Names.QuarantinePrefix)]
    public async Task A_failed_PUT_fails_the_batch_from_its_lowest_record(string prefix)
    {
        _objects.Before = (key, _) => key.StartsWith(prefix, StringComparison.Ordinal) ? throw MemoryObjects.Unavailable() : Task.CompletedTask;

        var response = await HandleAsync([Good(7), Poison(8), Good(9)]);

        // As the stream wrote it, not padded: Lambda compares it with the records it sent.
        Assert.Equal(Sequence(7), Assert.Single(response.BatchItemFailures).ItemIdentifier);
        Assert.DoesNotContain(_objects.Stored.Keys, key => key.StartsWith(prefix, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(Names.ChangesPrefix)]
    [InlineData(Names.QuarantinePrefix)]
    public async Task A_PUT_whose_answer_is_lost_fails_the_batch_and_the_next_delivery_ends_the_same(string prefix)
    {
        _objects.After = (key, _) => key.StartsWith(prefix, StringComparison.Ordinal) ? throw MemoryObjects.Unavailable() : Task.CompletedTask;
        Assert.Equal(Sequence(1), Assert.Single((await HandleAsync([Good(1), Poison(2)])).BatchItemFailures).ItemIdentifier);

        _objects.After = (_, _) => Task.CompletedTask;
        Assert.Empty((await HandleAsync([Good(1), Poison(2)])).BatchItemFailures);

        Assert.Equal(2, _objects.Stored.Count);
        Assert.Equal(["event-1"], (await FileAsync()).Select(c => c.EventId));
    }

    [Fact]
    public async Task A_store_that_does_not_answer_fails_the_batch_before_Lambda_gives_up()
    {
        var time = new FakeTimeProvider();
        var putStarted = new TaskCompletionSource();
        _objects.Before = (_, cancellationToken) =>
        {
            putStarted.SetResult();
            return Task.Delay(Timeout.Infinite, cancellationToken);
        };
        var context = new FakeInvocation { RemainingTime = TimeSpan.FromSeconds(30) };

        var handling = new ProcessOrders(_objects, Protection.GetAsync, time).HandleAsync(new DynamoDBEvent { Records = [Good(1)] }, context);
        await putStarted.Task;
        time.Advance(TimeSpan.FromSeconds(28.9));
        Assert.False(handling.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(0.2));

        Assert.Equal(Sequence(1), Assert.Single((await handling).BatchItemFailures).ItemIdentifier);
    }

    [Fact]
    public async Task A_removal_arrives_whatever_its_old_image_looks_like()
    {
        var removal = Poison(3);
        removal.EventName = "REMOVE";
        removal.Dynamodb.OldImage = new() { ["order_id"] = new() { S = "order-3" }, ["total_amount"] = new() { S = "a lot" }, ["version"] = new() { N = "7" } };

        Assert.Empty((await HandleAsync([removal])).BatchItemFailures);

        var change = Assert.Single(await FileAsync());
        Assert.Equal((Operation.Remove, 7L, "{}", null), (change.Operation, change.Version, change.Document, change.TotalAmount));
    }

    [Fact]
    public async Task Without_time_left_nothing_is_acknowledged()
    {
        _objects.Before = (_, cancellationToken) => Task.FromCanceled(cancellationToken);
        var context = new FakeInvocation { RemainingTime = TimeSpan.FromSeconds(-1) };

        var response = await new ProcessOrders(_objects, Protection.GetAsync, TimeProvider.System).HandleAsync(new DynamoDBEvent { Records = [Good(1)] }, context);

        Assert.Single(response.BatchItemFailures);
    }

    [Fact]
    public async Task A_failed_batch_with_a_record_that_has_no_sequence_number_fails_as_a_whole()
    {
        _objects.Before = (_, _) => throw MemoryObjects.Unavailable();

        var response = await HandleAsync([Good(1), new DynamoDBEvent.DynamodbStreamRecord { EventID = "bare" }]);

        Assert.Equal("", Assert.Single(response.BatchItemFailures).ItemIdentifier);
    }

    [Fact]
    public async Task A_quarantined_record_is_whole_with_every_type_tag()
    {
        var record = Poison(1);
        record.Dynamodb.OldImage = new()
        {
            ["b"] = new() { B = new MemoryStream([1, 2, 255]) },
            ["bs"] = new() { BS = [new MemoryStream([3])] },
            ["bool"] = new() { BOOL = false },
            ["null"] = new() { NULL = true },
            ["ns"] = new() { NS = ["1", "2.50"] },
            ["ss"] = new() { SS = ["ã"] },
            ["l"] = new() { L = [new() { N = "1E-130" }, new() { L = [] }] },
            ["m"] = new() { M = new() { ["nul"] = new() { S = "\0" } } },
        };
        await HandleAsync([record]);

        var (key, content) = Assert.Single(_objects.Stored);
        Assert.Equal("orders/quarantine/dt=2026-11-24/event-1.json", key);
        using var stream = new MemoryStream(content);
        var quarantined = EntryPoint.Serializer.Deserialize<QuarantinedRecord>(stream);
        Assert.Equal("attribute 'version' is not a number", quarantined.Reason);
        Assert.Equal(1, quarantined.Attempt);

        // What was read back gives the same bytes: nothing of the record was lost on the way.
        Assert.Equal(content, quarantined.ToJson().ToArray());
        Assert.Equivalent(record.Dynamodb.Keys, quarantined.Record!.Dynamodb.Keys);
        Assert.Equal([1, 2, 255], quarantined.Record.Dynamodb.OldImage["b"].B.ToArray());
        Assert.Equal("\0", quarantined.Record.Dynamodb.OldImage["m"].M["nul"].S);
        Assert.Equal(record.Dynamodb.ApproximateCreationDateTime, quarantined.Record.Dynamodb.ApproximateCreationDateTime);
    }

    [Fact]
    public async Task A_record_without_an_event_id_is_quarantined_under_its_own_hash()
    {
        await HandleAsync([new DynamoDBEvent.DynamodbStreamRecord { EventName = "INSERT" }, new DynamoDBEvent.DynamodbStreamRecord { EventName = "MODIFY" }]);

        Assert.Equal(2, _objects.Stored.Count);
        Assert.All(_objects.Stored.Keys, key => Assert.StartsWith("orders/quarantine/dt=1970-01-01/no-event-id-", key, StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_log_has_ids_and_counts_and_no_personal_data()
    {
        await HandleAsync([Good(1), Poison(2)]);

        Assert.Contains("event-2.json: attribute 'version' is not a number", _context.Log, StringComparison.Ordinal);
        Assert.Contains("Stored 1 changes, 1 in quarantine", _context.Log, StringComparison.Ordinal);
        Assert.DoesNotContain(PersonalData, _context.Log, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_span_of_a_batch_links_to_the_requests_that_wrote_its_changes_and_goes_on_with_the_trace_of_a_single_one()
    {
        var ended = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source == ProcessOrders.Activities,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = ended.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        const string One = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        const string Other = "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203332-01";
        DynamoDBEvent.DynamodbStreamRecord[] ofOne = [Good(901, One), Good(902, One), Good(903, "not a traceparent"), Good(904)];
        DynamoDBEvent.DynamodbStreamRecord[] ofTwo = [Good(911, One), Good(912, Other), Removed(913, "00-0af7651916cd43dd8448eb211c80319e-b7ad6b7169203333-01")];

        await HandleAsync(ofOne);
        await HandleAsync(ofTwo);

        var span = Assert.Single(ended, IsOfBatch(901));
        Assert.Equal([One[3..35]], span.Links.Select(link => link.Context.TraceId.ToString()));
        Assert.Equal((One[3..35], One[36..52]), (span.TraceId.ToString(), span.ParentSpanId.ToString()));
        Assert.Equal(4, span.GetTagItem("pipeline.changes"));

        var root = Assert.Single(ended, IsOfBatch(911));
        Assert.Equal([One[3..35], Other[3..35]], root.Links.Select(link => link.Context.TraceId.ToString()));
        Assert.Equal(default, root.ParentSpanId);

        // Other tests run beside this one and are listened to as well.
        static Predicate<Activity> IsOfBatch(int first) =>
            activity => activity.GetTagItem("pipeline.object_key") is string key && key.Contains($"{first}-", StringComparison.Ordinal);
    }

    private Task<StreamsEventResponse> HandleAsync(IList<DynamoDBEvent.DynamodbStreamRecord> records) =>
        new ProcessOrders(_objects, Protection.GetAsync, TimeProvider.System).HandleAsync(new DynamoDBEvent { Records = records }, _context);

    private async Task<IReadOnlyList<Change>> FileAsync()
    {
        var file = Assert.Single(_objects.Stored, o => o.Key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal));
        using var stream = new MemoryStream(file.Value);
        return await ChangeFile.ReadAsync(stream, TestContext.Current.CancellationToken);
    }

    private static string Sequence(int n) => $"10000000000000000{n:D4}";

    private static DynamoDBEvent.DynamodbStreamRecord Good(int n) => Good(n, traceParent: null);

    private static DynamoDBEvent.DynamodbStreamRecord Removed(int n, string traceParent)
    {
        var record = Good(n, traceParent);
        (record.EventName, record.Dynamodb.OldImage, record.Dynamodb.NewImage) = ("REMOVE", record.Dynamodb.NewImage, null);
        return record;
    }

    private static DynamoDBEvent.DynamodbStreamRecord Good(int n, string? traceParent)
    {
        var image = new Dictionary<string, AttributeValue>
        {
            ["order_id"] = new() { S = $"o-{n}" },
            ["version"] = new() { N = "1" },
            ["email"] = new() { S = PersonalData },
        };
        if (traceParent is not null)
        {
            image["trace_parent"] = new() { S = traceParent };
        }

        return new()
        {
            EventID = $"event-{n}",
            EventName = "INSERT",
            Dynamodb = new()
            {
                ApproximateCreationDateTime = new DateTime(2026, 11, 24, 8, 0, 0, DateTimeKind.Utc),
                Keys = new() { ["order_id"] = image["order_id"] },
                NewImage = image,
                SequenceNumber = Sequence(n),
            },
        };
    }

    private static DynamoDBEvent.DynamodbStreamRecord Poison(int n)
    {
        var record = Good(n);
        record.Dynamodb.NewImage["version"] = new() { S = PersonalData };
        return record;
    }
}
