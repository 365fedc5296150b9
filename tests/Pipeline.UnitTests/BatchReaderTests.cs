using System.Text;
using System.Text.Json;
using CsCheck;
using Pipeline.Core;
using Pipeline.Processor;

namespace Pipeline.UnitTests;

/// <summary>The short way of a batch gives what the long way gives, to the byte, or leaves the batch to it.</summary>
public class BatchReaderTests
{
    private const string Order = """
        "version":{"N":"3"},"merchant_id":{"S":"m-1"},"status":{"S":"shipped"},"currency":{"S":"BRL"},"total_amount":{"N":"12.50"},
        "customer_id":{"S":"c-1"},"created_at":{"S":"2026-11-24T08:00:00.123Z"},"updated_at":{"S":"2026-11-24T09:00:00+01:00"},
        "trace_parent":{"S":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        "customer":{"M":{"name":{"S":"José \"Zé\" 😀"},"email":{"S":"A@example.com"},"document":{"S":""},"city":{"S":"S\u00e3o Paulo"}}},
        "items":{"L":[{"M":{"line":{"N":"1"},"unit_price":{"N":"1E+2"}}},{"M":{}},{"L":[]}]},"gift":{"BOOL":false},"note":{"NULL":true}
        """;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task An_order_takes_the_short_way()
    {
        await AssertSameAsync(Event(Record(1, "INSERT", Order), Record(2, "MODIFY", Order), Record(3, "REMOVE", Order)), isShort: true);
        await AssertSameAsync(Event(Record(1, "INSERT", ""), Record(2, "INSERT", "\"customer\":{\"S\":\"somebody\"}")), isShort: true);
    }

    [Theory]
    [InlineData("\"version\":{\"N\":\"1.5\"}")]
    [InlineData("\"version\":{\"S\":\"1\"}")]
    [InlineData("\"status\":{\"S\":\"lost\"}")]
    [InlineData("\"total_amount\":{\"N\":\"0.001\"}")]
    [InlineData("\"created_at\":{\"S\":\"2026-11-24T08:00:00\"}")]
    [InlineData("\"currency\":{\"N\":\"1\"}")]
    [InlineData("\"customer\":{\"M\":{\"name\":{\"N\":\"7\"}}}")]
    [InlineData("\"x\":{\"S\":\"\\u0000\"}")]
    [InlineData("\"x\":{\"N\":\"1,5\"}")]
    [InlineData("\"x\":{}")]
    [InlineData("\"x\":{\"S\":\"a\",\"N\":\"1\"}")]
    [InlineData("\"x\":{\"SS\":[\"b\",\"a\"]}")]
    [InlineData("\"x\":{\"B\":\"AQI=\"}")]
    [InlineData("\"x\":{\"S\":\"a\"},\"x\":{\"S\":\"b\"}")]
    [InlineData("\"é\":{\"S\":\"a\"}")]
    [InlineData("\"a\\\"b\":{\"S\":\"a\"}")]
    [InlineData("\"merchant_id\":{\"S\":\"back\\\\slash\"}")]
    public async Task What_is_unusual_takes_the_long_way_with_its_whole_batch(string attributes) =>
        await AssertSameAsync(Event(Record(1, "INSERT", Order), Record(2, "INSERT", attributes), Record(3, "MODIFY", Order)), isShort: false);

    [Theory]
    [InlineData("""{"Records":[]}""")]
    [InlineData("""{"Records":null}""")]
    [InlineData("{}")]
    [InlineData("""{"Records":[{"eventName":"INSERT"}]}""")]
    [InlineData("""{"Records":[{"eventID":"e","eventName":"OTHER","dynamodb":{"ApproximateCreationDateTime":1795507200,"SequenceNumber":"5","Keys":{"order_id":{"S":"o"}},"NewImage":{"a":{"S":"b"}}}}]}""")]
    [InlineData("""{"Records":[{"eventID":"e","eventName":"INSERT","dynamodb":{"ApproximateCreationDateTime":1795507200,"SequenceNumber":"x","Keys":{"order_id":{"S":"o"}},"NewImage":{"a":{"S":"b"}}}}]}""")]
    [InlineData("""{"Records":[{"eventID":"e","eventName":"INSERT","dynamodb":{"SequenceNumber":"5","Keys":{"order_id":{"S":"o"}},"NewImage":{"a":{"S":"b"}}}}]}""")]
    [InlineData("""{"Records":[{"eventID":"e","eventName":"INSERT","dynamodb":{"ApproximateCreationDateTime":1795507200,"SequenceNumber":"5","Keys":{"order_id":{"N":"1"}},"NewImage":{"a":{"S":"b"}}}}]}""")]
    [InlineData("""{"Records":[{"eventID":"e","eventName":"REMOVE","dynamodb":{"ApproximateCreationDateTime":1795507200,"SequenceNumber":"5","Keys":{"order_id":{"S":"o"}},"NewImage":{"a":{"S":"b"}}}}]}""")]
    public async Task An_event_that_lacks_something_takes_the_long_way(string payload) => await AssertSameAsync(payload, isShort: false);

    [Fact]
    public async Task Whatever_the_items_are_both_ways_give_the_same_bytes()
    {
        await Gen.Select(AnyMap(3).Array[1, 5], Gen.Int[0, 2]).SampleAsync(
            async (maps, first) => await AssertSameAsync(
                Event([.. maps.Select((map, n) => Record(n + 1, ((first + n) % 3) switch { 0 => "INSERT", 1 => "MODIFY", _ => "REMOVE" }, map))]), isShort: null),
            iter: 500);
    }

    [Fact]
    public void The_lowest_sequence_number_is_found_wherever_it_is()
    {
        var payload = Encoding.UTF8.GetBytes(Event(Record(20, "INSERT", Order), Record(3, "INSERT", Order), Record(100, "INSERT", Order)));
        using var changes = new ChangeFileWriter();

        Assert.Equal(new BatchEnds("20", "100", "3"), BatchReader.TryRead(payload, Protection.Protector, changes, traceParents: null));
    }

    [Fact]
    public void A_removal_names_no_request_for_its_image_has_that_of_the_write_before_it()
    {
        string Written(int n, string eventName) => Record(n, eventName, $$"""
            "trace_parent":{"S":"request-{{n}}"}
            """);
        var payload = Encoding.UTF8.GetBytes(Event(Written(1, "INSERT"), Written(2, "MODIFY"), Written(3, "REMOVE")));
        using var changes = new ChangeFileWriter();
        var traceParents = new List<string>();

        Assert.NotNull(BatchReader.TryRead(payload, Protection.Protector, changes, traceParents));

        Assert.Equal(["request-1", "request-2"], traceParents);
    }

    /// <summary>Attributes with their tags: texts of any kind, numbers, lists and maps, and now and then something odd.</summary>
    private static Gen<string> AnyMap(int depth)
    {
        var name = Gen.OneOf(OneOf("version", "customer", "name", "email", "a", "b", "Z", "z9", "_"), Gen.String[Gen.Char['a', 'e'], 1, 3]);
        return Gen.Select(name, AnyValue(depth)).Array[0, 7].Select(members =>
            string.Join(',', members.DistinctBy(member => member.Item1).Select(member => $"{JsonSerializer.Serialize(member.Item1)}:{member.Item2}")));
    }

    private static Gen<string> AnyValue(int depth)
    {
        // The serializer's own escapes (\u00E9) and letters as they are: both forms come in.
        var text = Gen.Select(Gen.OneOf(Gen.String[Gen.Char[' ', '~'], 0, 12], Gen.String[OneOf('é', '漢', '\n', '"', '\\', 'a', ' '), 0, 6], Gen.Const("😀")), Gen.Bool)
            .Select((value, isEscaped) => JsonSerializer.Serialize(value, isEscaped ? Escaped : Relaxed));
        var number = Gen.OneOf(Gen.Int.Select(value => $"\"{value}\""), OneOf("\"1E-7\"", "\"0.10\"", "\"-0\"", "\"01\""));
        var scalar = Gen.Frequency(
            (6, text.Select(value => $$"""{"S":{{value}}}""")),
            (3, number.Select(value => $$"""{"N":{{value}}}""")),
            (1, OneOf("""{"BOOL":true}""", """{"NULL":true}""", """{"SS":["b","a"]}""", """{"B":"AQI="}""", """{"NULL":false}""")));
        return depth == 0 ? scalar : Gen.Frequency(
            (4, scalar),
            (1, AnyMap(depth - 1).Select(value => $$$"""{"M":{{{{value}}}}}""")),
            (1, AnyValue(depth - 1).Array[0, 3].Select(values => $$"""{"L":[{{string.Join(',', values)}}]}""")));
    }

    private static Gen<T> OneOf<T>(params T[] values) => Gen.Int[0, values.Length - 1].Select(index => values[index]);

    private static readonly JsonSerializerOptions Escaped = new();
    private static readonly JsonSerializerOptions Relaxed = new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static string Event(params string[] records) => $$"""{"Records":[{{string.Join(',', records)}}]}""";

    private static string Record(int n, string eventName, string attributes)
    {
        var image = $$$"""{"order_id":{"S":"o-{{{n}}}"}{{{(attributes.Length > 0 ? "," : "")}}}{{{attributes}}}}""";
        return $$$"""
            {"eventID":"event-{{{n}}}","eventName":"{{{eventName}}}","eventVersion":"1.1","dynamodb":{"ApproximateCreationDateTime":1795507200,"Keys":{"order_id":{"S":"o-{{{n}}}"}},
             "{{{(eventName == "REMOVE" ? "OldImage" : "NewImage")}}}":{{{image}}},"SequenceNumber":"{{{n}}}","SizeBytes":7},"eventSourceARN":"arn"}
            """;
    }

    private static async Task AssertSameAsync(string payload, bool? isShort)
    {
        var bytes = Encoding.UTF8.GetBytes(payload);
        using var changes = new ChangeFileWriter();
        if (isShort is { } expected)
        {
            Assert.Equal(expected, BatchReader.TryRead(bytes, Protection.Protector, changes, traceParents: null) is not null);
        }

        var (byTheShort, byTheLong) = (new MemoryObjects(), new MemoryObjects());
        var first = await new ProcessOrders(byTheShort, Protection.GetAsync, TimeProvider.System).HandleAsync(bytes, new FakeInvocation());
        var second = await new ProcessOrders(byTheLong, Protection.GetAsync, TimeProvider.System).HandleAsync(EntryPoint.Read(bytes), new FakeInvocation());
        Assert.Equal(second.BatchItemFailures.Select(f => f.ItemIdentifier), first.BatchItemFailures.Select(f => f.ItemIdentifier));
        Assert.Equal(byTheLong.Stored.OrderBy(o => o.Key, StringComparer.Ordinal), byTheShort.Stored.OrderBy(o => o.Key, StringComparer.Ordinal), (x, y) => x.Key == y.Key && x.Value.AsSpan().SequenceEqual(y.Value));
        Cancelled.ThrowIfCancellationRequested();
    }
}
