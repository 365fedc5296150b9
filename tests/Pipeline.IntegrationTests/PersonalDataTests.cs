using System.Buffers;
using System.Globalization;
using System.Text;
using Amazon.DynamoDBv2.Model;
using Pipeline.Core;

namespace Pipeline.IntegrationTests;

/// <summary>What is behind the table has no clear personal data, whichever way it came.</summary>
[Collection(nameof(WholePipeline))]
public class PersonalDataTests(PipelineFixture pipeline)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    /// <summary>With OLIST_LIMIT=0 of all real orders, as <see cref="SeedTests"/>.</summary>
    [Fact]
    public async Task No_object_of_the_bucket_and_no_row_of_the_warehouse_has_a_name_an_email_or_a_document()
    {
        var before = await pipeline.ChangesAsync(Cancelled);
        var seeded = (await pipeline.SeedAsync(["--generate", "200", "--seed", "3"], Cancelled)).AcceptedWrites;
        if (PipelineFixture.OlistDirectory is { } olist)
        {
            var limit = Environment.GetEnvironmentVariable("OLIST_LIMIT") ?? "200";
            seeded += (await pipeline.SeedAsync(["--olist", olist, .. limit == "0" ? Array.Empty<string>() : ["--limit", limit]], Cancelled)).AcceptedWrites;
        }

        await pipeline.AwaitEqualAsync(before + seeded, Cancelled);
        var parked = await ParkAsync("Maria Quarentena", "maria@quarantine.example", "529.982.247-25");
        var clear = await ClearValuesAsync();
        Assert.Superset(new HashSet<string> { "Maria Quarentena", "maria@quarantine.example", "52998224725" }, clear);
        Assert.True(clear.Count > 150, $"There are only {clear.Count} values to look for.");

        // The reader of the files is somebody else's; the objects that are no Parquet are text.
        var folder = await pipeline.DownloadAsync("orders/", Cancelled);
        var texts = ChangeFiles.TextsWithDuckDb($"{folder}/{Names.ChangesPrefix}");
        Assert.True(texts.Count >= seeded, $"There are only {texts.Count} rows in the change files.");
        foreach (var file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
        {
            texts.Add(Encoding.UTF8.GetString(await File.ReadAllBytesAsync(file, Cancelled)));
        }

        texts.AddRange(await RowsAsync());
        texts.AddRange(pipeline.Processes.Values.Select(process => process.Log));
        Assert.Contains(texts, text => text.Contains(parked, StringComparison.Ordinal) && text.Contains("\"reason\"", StringComparison.Ordinal));
        var sought = SearchValues.Create([.. clear], StringComparison.OrdinalIgnoreCase);
        Assert.All(texts, text => Assert.True(
            text.AsSpan().IndexOfAny(sought) is var found && found < 0,
            $"There is a clear value: {text[Math.Max(0, found - 100)..Math.Min(text.Length, found + 100)]}"));

        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"{seeded:N0} writes; none of {clear.Count:N0} names, e-mails and documents is in {texts.Count:N0} texts: rows of files, objects, rows of the warehouse, logs."));

        // An analyst counts the same people as there are in the table.
        Assert.Equal(
            await EmailsInTableAsync(),
            await pipeline.ScalarAsync<long>("select count(distinct document::jsonb #>> '{customer,email}') from orders where not is_deleted", Cancelled));

        await pipeline.DynamoDb.DeleteItemAsync(Names.Table, new Dictionary<string, AttributeValue> { ["order_id"] = new() { S = parked } }, Cancelled);
        await pipeline.OpsAsync(["quarantine", "discard", (await KeyOfAsync(parked))!, "--reason", "a test wrote it by hand"], Cancelled);
        await pipeline.AwaitEqualAsync(before + seeded + 1, Cancelled);
    }

    /// <summary>An order that cannot be decoded, with everything that there is of a person.</summary>
    private async Task<string> ParkAsync(string name, string email, string document)
    {
        var orderId = $"personal-{Guid.NewGuid():N}";
        await pipeline.DynamoDb.PutItemAsync(
            Names.Table,
            new Dictionary<string, AttributeValue>
            {
                ["order_id"] = new() { S = orderId },
                ["version"] = new() { N = "1" },
                ["total_amount"] = new() { S = "a lot" },
                ["customer"] = new() { M = new() { ["name"] = new() { S = name }, ["email"] = new() { S = email }, ["document"] = new() { S = document } } },
            },
            Cancelled);
        await Eventually.TrueAsync(async () => await KeyOfAsync(orderId) is not null, PipelineFixture.FreshnessDeadline, () => $"{orderId} is in quarantine", Cancelled);
        return orderId;
    }

    private async Task<string?> KeyOfAsync(string orderId) => (await pipeline.ReadObjectsAsync(Names.QuarantinePrefix, Cancelled))
        .FirstOrDefault(entry => entry.Value.Contains(orderId, StringComparison.Ordinal)).Key;

    /// <summary>All of the table, read with code of this test: as written, and a document also without its punctuation.</summary>
    private async Task<HashSet<string>> ClearValuesAsync()
    {
        var values = new HashSet<string>(StringComparer.Ordinal);
        var customers = await CustomersAsync();
        foreach (var customer in customers)
        {
            foreach (var name in (string[])["name", "email", "document"])
            {
                if (customer.GetValueOrDefault(name)?.S is { Length: > 0 } text)
                {
                    values.Add(text);
                    values.Add(name == "document" ? string.Concat(text.Where(char.IsLetterOrDigit)) : text);
                }
            }
        }

        // A city stays as it is, and some people are called as a city is: Miguel Pereira.
        var cities = customers.Select(customer => customer.GetValueOrDefault("city")?.S).OfType<string>().ToHashSet(StringComparer.OrdinalIgnoreCase);
        values.ExceptWith(values.Where(cities.Contains).ToList());
        return values;
    }

    private async Task<long> EmailsInTableAsync() => (await CustomersAsync(decodable: true))
        .Select(customer => customer.GetValueOrDefault("email")?.S?.Trim().ToLowerInvariant()).OfType<string>().Distinct().LongCount();

    private async Task<List<Dictionary<string, AttributeValue>>> CustomersAsync(bool decodable = false)
    {
        var customers = new List<Dictionary<string, AttributeValue>>();
        var request = new ScanRequest { TableName = Names.Table, ConsistentRead = true, Limit = 1_000 };
        do
        {
            var page = await pipeline.DynamoDb.ScanAsync(request, Cancelled);
            customers.AddRange(page.Items.Where(item => !decodable || item.GetValueOrDefault("total_amount")?.S is null).Select(item => item.GetValueOrDefault("customer")?.M).OfType<Dictionary<string, AttributeValue>>());
            request.ExclusiveStartKey = page.LastEvaluatedKey;
        }
        while (request.ExclusiveStartKey is { Count: > 0 });

        return customers;
    }

    private async Task<List<string>> RowsAsync()
    {
        var rows = new List<string>();
        foreach (var table in (string[])["orders", "order_changes", "waiting_changes", "order_history", "order_lines", "order_payments", "load_ledger"])
        {
            await using var command = pipeline.Warehouse.CreateCommand($"select row_to_json(t)::text from {table} t");
            await using var reader = await command.ExecuteReaderAsync(Cancelled);
            while (await reader.ReadAsync(Cancelled))
            {
                rows.Add(reader.GetString(0));
            }
        }

        return rows;
    }
}
