using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json.Nodes;

namespace Pipeline.IntegrationTests;

/// <summary>Many writers on one order, and what the warehouse has of it. The full size: WRITERS=64 UPDATES=50.</summary>
[Collection(nameof(WholePipeline))]
public class ConcurrentUpdateTests(PipelineFixture pipeline, ITestOutputHelper output)
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Every_update_of_many_writers_is_a_version_of_its_own_and_a_row_of_the_history()
    {
        var (writers, updates) = (Number("WRITERS", 8), Number("UPDATES", 10));
        var before = await pipeline.ChangesAsync(Cancelled);
        var orderId = await pipeline.CreateOrderAsync(Cancelled);
        var unanswered = new ConcurrentBag<string>();

        var watch = Stopwatch.StartNew();
        var acknowledged = (await Task.WhenAll(Enumerable.Range(0, writers).Select(writer => WriteAsync(orderId, writer, updates, unanswered)))).SelectMany(mine => mine).ToList();
        var elapsed = watch.Elapsed;

        Assert.Equal(writers * updates, acknowledged.Count);
        var order = await pipeline.Api.GetFromJsonAsync<JsonNode>($"/orders/{orderId}", Cancelled);
        var versions = (long)order!["version"]!;
        await pipeline.AwaitEqualAsync(before + versions, Cancelled);
        // From 1 on without hole or double, each with what its writer was told; any other is of a write that got no answer.
        var history = await HistoryAsync(orderId);
        Assert.Equal(Enumerable.Range(1, (int)versions).Select(version => (long)version), history.Select(row => row.Version));
        Assert.Equal(acknowledged.Order(), history.Skip(1).Where(row => !unanswered.Contains(row.City)));
        output.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{writers} writers, {acknowledged.Count} acknowledged updates in {elapsed.TotalSeconds:0.0} s, {unanswered.Count} attempts without an answer, {versions} versions, each in order_changes"));
    }

    /// <summary>Every attempt writes a text of its own, by which it is found again.</summary>
    private async Task<List<(long Version, string City)>> WriteAsync(string orderId, int writer, int updates, ConcurrentBag<string> unanswered)
    {
        var written = new List<(long, string)>();
        var known = 1L;
        for (var attempt = 0; written.Count < updates; attempt++)
        {
            var city = $"writer {writer}, attempt {attempt}";
            using var request = new HttpRequestMessage(HttpMethod.Patch, $"/orders/{orderId}") { Content = JsonContent.Create(new { customer = new { city } }) };
            request.Headers.TryAddWithoutValidation("If-Match", $"\"{known}\"");
            using var answer = await pipeline.Api.SendAsync(request, Cancelled);
            var body = await answer.Content.ReadFromJsonAsync<JsonNode>(Cancelled);
            switch (answer.StatusCode)
            {
                case HttpStatusCode.OK:
                    known = (long)body!["version"]!;
                    written.Add((known, city));
                    break;
                case HttpStatusCode.PreconditionFailed:
                    known = (long)body!["version"]!;
                    break;
                case HttpStatusCode.TooManyRequests:
                    await Task.Delay(answer.Headers.RetryAfter!.Delta!.Value, Cancelled);
                    break;
                case HttpStatusCode.ServiceUnavailable:
                    // It may have been written; if so the next attempt is told the version.
                    unanswered.Add(city);
                    break;
                default:
                    Assert.Fail($"{answer.StatusCode}: {body}");
                    break;
            }
        }

        return written;
    }

    private async Task<List<(long Version, string City)>> HistoryAsync(string orderId)
    {
        await using var command = pipeline.Warehouse.CreateCommand(
            "select version, document -> 'customer' ->> 'city' from order_changes where order_id = $1 order by version, sequence_number");
        command.Parameters.Add(new Npgsql.NpgsqlParameter { Value = orderId });
        await using var reader = await command.ExecuteReaderAsync(Cancelled);
        var history = new List<(long, string)>();
        while (await reader.ReadAsync(Cancelled))
        {
            history.Add((reader.GetInt64(0), reader.GetString(1)));
        }

        return history;
    }

    private static int Number(string variable, int otherwise) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;
}
