using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Core;
using Pipeline.Processor;

namespace Pipeline.UnitTests;

/// <summary>
/// golden/*.json: a Lambda event as it comes over the wire, and what must come of it: the rows of the change file,
/// and the reason for each record in quarantine.
/// </summary>
public class GoldenTests
{
    private static readonly JsonSerializerOptions Readable = new()
    {
        WriteIndented = true,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public static TheoryData<string> Cases => [.. Directory.GetFiles(GoldenFolder, "*.json").Select(Path.GetFileNameWithoutExtension).OfType<string>()];

    private static string GoldenFolder => Path.Combine(AppContext.BaseDirectory, "golden");

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task The_event_becomes_exactly_these_rows_and_quarantined_records(string name)
    {
        var golden = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(GoldenFolder, name + ".json"), Cancelled))!;
        var payload = JsonSerializer.SerializeToUtf8Bytes(golden["event"]);
        var objects = new MemoryObjects();

        var response = await new ProcessOrders(objects, Protection.GetAsync, TimeProvider.System)
            .HandleAsync(payload, new FakeInvocation());

        Assert.Empty(response.BatchItemFailures);
        var actual = new JsonObject
        {
            ["files"] = new JsonObject(await Task.WhenAll(objects.Stored
                .Where(o => o.Key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal))
                .Select(async o => KeyValuePair.Create(o.Key, (JsonNode?)await RowsAsync(o.Value))))),
            ["quarantine"] = new JsonObject(objects.Stored
                .Where(o => o.Key.StartsWith(Names.QuarantinePrefix, StringComparison.Ordinal))
                .OrderBy(o => o.Key, StringComparer.Ordinal)
                .Select(o => KeyValuePair.Create(o.Key, (JsonNode?)(string?)JsonNode.Parse(o.Value)!["reason"]))),
        };
        Assert.Equal(golden["expected"]!.ToJsonString(Readable), actual.ToJsonString(Readable));
    }

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    private static async Task<JsonArray> RowsAsync(byte[] file)
    {
        using var stream = new MemoryStream(file);
        return [.. (await ChangeFile.ReadAsync(stream, Cancelled)).Select(change => (JsonNode)new JsonObject
        {
            ["order_id"] = change.OrderId,
            ["version"] = change.Version,
            ["sequence_number"] = change.SequenceNumber.ToString(),
            ["event_id"] = change.EventId,
            ["operation"] = ChangeFile.NameOf(change.Operation),
            ["changed_at"] = Text(change.ChangedAt),
            ["trace_parent"] = change.TraceParent,
            ["merchant_id"] = change.MerchantId,
            ["customer_id"] = change.CustomerId,
            ["status"] = change.Status is { } status ? OrderStatusText.Of(status) : null,
            ["currency"] = change.Currency,
            ["total_amount"] = change.TotalAmount?.ToString(CultureInfo.InvariantCulture),
            ["created_at"] = Text(change.CreatedAt),
            ["updated_at"] = Text(change.UpdatedAt),
            ["document"] = change.Document,
        })];
    }

    private static string? Text(DateTimeOffset? time) => time?.ToString("yyyy-MM-ddTHH:mm:ss.ffffffK", CultureInfo.InvariantCulture);
}
