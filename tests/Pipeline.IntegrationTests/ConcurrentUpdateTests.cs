using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json.Nodes;

namespace Pipeline.IntegrationTests;

/// <summary>Many writers on one order, and what the warehouse has of it. The full size: WRITERS=64 UPDATES=50.</summary>
[Collection(nameof(WholePipeline))]
public class ConcurrentUpdateTests(PipelineFixture pipeline)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Every_update_of_many_writers_is_a_version_of_its_own_and_a_row_of_the_history()
    {
        var (writers, updates) = (Number("WRITERS", 8), Number("UPDATES", 10));
        var before = await pipeline.ChangesAsync(Cancelled);
        var orderId = await pipeline.CreateOrderAsync(Cancelled);

        var versions = await Task.WhenAll(Enumerable.Range(0, writers).Select(writer => WriteAsync(orderId, writer, updates)));

        var expected = Enumerable.Range(1, 1 + (writers * updates)).Select(version => (long)version).ToList();
        Assert.Equal(expected.Skip(1), versions.SelectMany(mine => mine).Order());
        await pipeline.AwaitEqualAsync(before + expected.Count, Cancelled);
        Assert.Equal(expected, await VersionsInWarehouseAsync(orderId));
    }

    private async Task<List<long>> WriteAsync(string orderId, int writer, int updates)
    {
        var versions = new List<long>();
        var known = 1L;
        while (versions.Count < updates)
        {
            using var request = new HttpRequestMessage(HttpMethod.Patch, $"/orders/{orderId}")
            {
                Content = JsonContent.Create(new { customer = new { city = $"writer {writer}, update {versions.Count}" } }),
            };
            request.Headers.TryAddWithoutValidation("If-Match", $"\"{known}\"");
            using var answer = await pipeline.Api.SendAsync(request, Cancelled);
            // The order, or the problem that names the version that it has.
            var body = await answer.Content.ReadFromJsonAsync<JsonNode>(Cancelled);
            known = body!["version"]!.GetValue<long>();
            if (answer.IsSuccessStatusCode)
            {
                versions.Add(known);
            }
            else
            {
                Assert.Equal(HttpStatusCode.PreconditionFailed, answer.StatusCode);
            }
        }

        return versions;
    }

    private async Task<List<long>> VersionsInWarehouseAsync(string orderId)
    {
        await using var command = pipeline.Warehouse.CreateCommand("select version from order_changes where order_id = $1 order by version, sequence_number");
        command.Parameters.Add(new Npgsql.NpgsqlParameter { Value = orderId });
        await using var reader = await command.ExecuteReaderAsync(Cancelled);
        var versions = new List<long>();
        while (await reader.ReadAsync(Cancelled))
        {
            versions.Add(reader.GetInt64(0));
        }

        return versions;
    }

    private static int Number(string variable, int otherwise) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;
}
