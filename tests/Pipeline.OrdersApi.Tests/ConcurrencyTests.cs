using System.Net;
using System.Text.Json.Nodes;

namespace Pipeline.OrdersApi.Tests;

public sealed class ConcurrencyTests(OrdersDatabase database) : IAsyncLifetime
{
    private const int Writers = 32;

    private readonly OrdersApi _api = new(database);

    public ValueTask InitializeAsync() => _api.InitializeAsync();

    public ValueTask DisposeAsync() => _api.DisposeAsync();

    [Fact]
    public async Task Of_32_creations_of_one_order_one_is_accepted()
    {
        var answers = await Task.WhenAll(Enumerable.Range(0, Writers).Select(_ => _api.CreateAsync(OrdersApi.SampleOrder("contested"))));

        var created = Assert.Single(answers, answer => answer.Status == HttpStatusCode.Created);
        Assert.Equal(Writers - 1, answers.Count(answer => answer.Status == HttpStatusCode.Conflict));
        Assert.Equal(created.Body, (await _api.GetAsync("contested")).Body);
    }

    [Fact]
    public async Task Versions_rise_without_hole_or_double_while_32_writers_change_one_order()
    {
        var orderId = await _api.CreatedAsync();
        string[] targets = ["approved", "processing", "invoiced", "shipped", "delivered"];

        var answers = await Task.WhenAll(Enumerable.Range(0, Writers).Select(async _ =>
        {
            var mine = new List<Answer>();
            // Each reads, then tries to go one step further, until the order has arrived.
            while (true)
            {
                var read = await _api.GetAsync(orderId);
                var next = Array.IndexOf(targets, read.Json["status"]!.GetValue<string>()) + 1;
                if (next == targets.Length)
                {
                    return mine;
                }

                mine.Add(await _api.ChangeStatusAsync(orderId, targets[next], read.ETag));
            }
        }));

        var all = answers.SelectMany(mine => mine).ToList();
        Assert.All(all, answer => Assert.Contains(answer.Status, (HttpStatusCode[])[HttpStatusCode.OK, HttpStatusCode.PreconditionFailed]));
        Assert.Equal(
            targets.Select((status, index) => (Version: index + 2, status)),
            all.Where(answer => answer.Status == HttpStatusCode.OK)
                .Select(answer => (answer.Json["version"]!.GetValue<int>(), answer.Json["status"]!.GetValue<string>()))
                .Order());
        Assert.Equal("\"6\"", (await _api.GetAsync(orderId)).ETag);
    }

    [Fact]
    public async Task Whoever_writes_with_any_version_never_undoes_what_another_wrote()
    {
        var orderId = await _api.CreatedAsync();
        string[] targets = ["approved", "processing", "invoiced", "shipped"];

        var answers = await Task.WhenAll(Enumerable.Range(0, Writers).Select(n => _api.ChangeStatusAsync(orderId, targets[n % targets.Length], "*")));

        var accepted = answers.Where(answer => answer.Status == HttpStatusCode.OK)
            .Select(answer => (Version: answer.Json["version"]!.GetValue<int>(), Status: Array.IndexOf(targets, answer.Json["status"]!.GetValue<string>())))
            .Order().ToList();
        Assert.Equal(Enumerable.Range(2, accepted.Count), accepted.Select(change => change.Version));
        Assert.Equal(accepted.Select(change => change.Status).Distinct().Order(), accepted.Select(change => change.Status));
        Assert.All(answers, answer => Assert.Contains(answer.Status, (HttpStatusCode[])[HttpStatusCode.OK, HttpStatusCode.Conflict]));
    }

    [Fact]
    public async Task A_removal_and_a_change_of_the_same_version_do_not_both_succeed()
    {
        for (var round = 0; round < 10; round++)
        {
            var orderId = await _api.CreatedAsync();

            var answers = await Task.WhenAll(_api.DeleteAsync(orderId, "\"1\""), _api.ChangeStatusAsync(orderId, "approved", "\"1\""));

            var removed = answers[0].Status == HttpStatusCode.NoContent;
            Assert.Equal(removed ? HttpStatusCode.NotFound : HttpStatusCode.OK, answers[1].Status);
            Assert.Equal(removed ? HttpStatusCode.NotFound : HttpStatusCode.OK, (await _api.GetAsync(orderId)).Status);
        }
    }

    /// <summary>The full size is 64 writers and 50 updates each: WRITERS=64 UPDATES=50.</summary>
    [Fact]
    public async Task No_update_is_lost_and_none_counts_twice_when_many_writers_change_one_order_each_with_If_Match()
    {
        var (writers, updates) = (Number("WRITERS", 16), Number("UPDATES", 10));
        var orderId = await _api.CreatedAsync();

        var accepted = (await Task.WhenAll(Enumerable.Range(0, writers).Select(async writer =>
        {
            var mine = new List<(int Version, string City)>();
            var version = 1;
            while (mine.Count < updates)
            {
                var city = $"writer {writer}, update {mine.Count}";
                var answer = await _api.SendAsAsync(
                    OrdersApi.Merchant, HttpMethod.Patch, $"/orders/{orderId}", new JsonObject { ["customer"] = new JsonObject { ["city"] = city } }, ("If-Match", $"\"{version}\""));
                version = answer.Json["version"]!.GetValue<int>();
                if (answer.Status == HttpStatusCode.OK)
                {
                    Assert.Equal(city, answer.Json["customer"]!["city"]!.GetValue<string>());
                    mine.Add((version, city));
                }
                else
                {
                    answer.Problem(HttpStatusCode.PreconditionFailed, "stale-version");
                }
            }

            return mine;
        }))).SelectMany(mine => mine).OrderBy(update => update.Version).ToList();

        Assert.Equal(Enumerable.Range(2, writers * updates), accepted.Select(update => update.Version));
        var last = await _api.GetAsync(orderId);
        Assert.Equal((accepted[^1].Version, accepted[^1].City), (last.Json["version"]!.GetValue<int>(), last.Json["customer"]!["city"]!.GetValue<string>()));

        static int Number(string variable, int otherwise) =>
            Environment.GetEnvironmentVariable(variable) is { Length: > 0 } text ? int.Parse(text, System.Globalization.CultureInfo.InvariantCulture) : otherwise;
    }
}
