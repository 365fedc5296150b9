using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text;
using Amazon.DynamoDBv2.Model;
using Pipeline.IntegrationTests;
using Pipeline.NativeServers;

namespace Pipeline.OrdersApi.Tests;

/// <summary>
/// Two processes of the API on the same tables, 64 clients that repeat requests and use keys for something else, and
/// kills. The full size is 10,000 requests: IDEMPOTENCY_REQUESTS=10000.
/// </summary>
public sealed class IdempotencyKillTests(OrdersDatabase database, ITestOutputHelper output) : IAsyncLifetime
{
    private const int Clients = 64;
    private static readonly int Requests = int.Parse(Environment.GetEnvironmentVariable("IDEMPOTENCY_REQUESTS") ?? "300", CultureInfo.InvariantCulture);

    // A kill takes a process out for a second or two.
    private static readonly int Kills = Math.Clamp(Requests / 500, 3, 20);

    // What a client waits for at most until its request has an outcome, kills and all.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    // Between two attempts of one request, as a client would; the server asks for a second.
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(50);

    private readonly OrdersApi _tables = new(database);
    private readonly List<KeyHistory> _keys = [];
    private readonly List<(ServiceProcess Process, Uri Address)> _apis = [];
    private readonly ConcurrentDictionary<HttpStatusCode, int> _statuses = new();
    private readonly HttpClient _http = new(new SocketsHttpHandler { MaxConnectionsPerServer = Clients });
    private readonly string _token = OrdersApi.TokenOf(OrdersApi.Merchant).ToString();
    private int _requests;
    private int _attempts;
    private int _unanswered;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        await _tables.InitializeAsync();
        for (var n = 0; n < 2; n++)
        {
            var address = new Uri($"http://127.0.0.1:{LoopbackPorts.Free()}");
            var environment = new Dictionary<string, string>(_tables.Settings)
            {
                ["AWS_REGION"] = "us-east-1",
                ["AWS_ACCESS_KEY_ID"] = OrdersDatabase.AccessKey,
                ["AWS_SECRET_ACCESS_KEY"] = OrdersDatabase.AccessKey,
                ["AWS_ENDPOINT_URL_DYNAMODB"] = database.Url,
                ["ASPNETCORE_URLS"] = address.ToString(),
            };
            _apis.Add((new ServiceProcess("Pipeline.OrdersApi", [], environment, new Uri(address, "/health")), address));
            await _apis[n].Process.StartAsync(Cancelled);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var (process, _) in _apis)
        {
            await process.DisposeAsync();
        }

        _http.Dispose();
        await _tables.DisposeAsync();
    }

    [Fact]
    public async Task Whatever_is_repeated_reused_and_killed_each_key_has_one_order_and_one_answer()
    {
        Assert.Equal(HttpStatusCode.Created, (await _tables.CreateAsync(OrdersApi.SampleOrder("taken"))).Status);
        var watch = Stopwatch.StartNew();
        var done = new TaskCompletionSource();
        var killer = KillAsync(done.Task);

        await Task.WhenAll(Enumerable.Range(0, Clients).Select(client => ClientAsync(new Random(client))));
        done.SetResult();
        var kills = await killer;

        // Every key once more, with what it stands for and with something else: now each has an outcome.
        await Parallel.ForEachAsync(_keys, new ParallelOptions { MaxDegreeOfParallelism = Clients, CancellationToken = Cancelled }, async (key, _) =>
        {
            await SendAsync(key, isReuse: false);
            await SendAsync(key, isReuse: true);
        });

        var orders = (await ReadTableAsync()).ToLookup(order => order.Key, order => order.Body);
        foreach (var key in _keys)
        {
            // The one body that the key stands for got one answer, to the byte; the other body was refused each time.
            var answer = Assert.Single(key.Answers.Distinct());
            var found = orders[key.Name];
            if (key.IsTaken)
            {
                Assert.Equal(HttpStatusCode.Conflict, answer.Status);
                Assert.Empty(found);
            }
            else
            {
                Assert.Equal(HttpStatusCode.Created, answer.Status);
                Assert.Equal(answer.Body, Assert.Single(found));
            }
        }

        Assert.Equal(_keys.Count(key => !key.IsTaken) + 1, orders.Sum(order => order.Count()));
        Assert.Equal(Kills, kills);
        var statuses = string.Join(", ", _statuses.OrderBy(status => status.Key).Select(status => $"{(int)status.Key}: {status.Value}"));
        output.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{_requests} requests ({_attempts} attempts) from {Clients} clients in {watch.Elapsed.TotalSeconds:0.0} s, {_keys.Count} keys, {kills} kills, {_unanswered} without an answer; {statuses}"));
    }

    private async Task ClientAsync(Random random)
    {
        while (Volatile.Read(ref _requests) < Requests)
        {
            var lot = random.NextDouble();
            KeyHistory key;
            lock (_keys)
            {
                if (lot < 0.4 || _keys.Count == 0)
                {
                    // A new key; one in twenty asks for an order_id that is taken.
                    _keys.Add(new KeyHistory($"key-{Guid.NewGuid():N}", IsTaken: random.Next(20) == 0));
                    key = _keys[^1];
                }
                else
                {
                    // Half of the duplicates go after the newest keys, whose first requests may still be at work.
                    key = _keys[lot < 0.7 ? _keys.Count - 1 - random.Next(Math.Min(8, _keys.Count)) : random.Next(_keys.Count)];
                }
            }

            // Something else under a key, once it is known what the key stands for.
            await SendAsync(key, isReuse: lot > 0.85 && !key.Answers.IsEmpty);
        }
    }

    /// <summary>As a client should: again, with the same key, until there is an outcome.</summary>
    private async Task SendAsync(KeyHistory key, bool isReuse)
    {
        var body = OrdersApi.SampleOrder();
        body.Remove("order_id");
        if (key.IsTaken)
        {
            body["order_id"] = "taken";
        }

        body["items"]![0]!["product_id"] = key.Name;
        body["items"]![0]!["quantity"] = isReuse ? 2 : 1;
        var text = body.ToJsonString();
        var watch = Stopwatch.StartNew();
        Interlocked.Increment(ref _requests);
        for (; ; await Task.Delay(Pause, Cancelled))
        {
            Assert.True(watch.Elapsed < Patience, $"{key.Name} has no outcome after {Patience}.");
            Interlocked.Increment(ref _attempts);
            try
            {
                using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(_apis[Random.Shared.Next(_apis.Count)].Address, "/orders"))
                {
                    Content = new StringContent(text, Encoding.UTF8, "application/json"),
                    Headers = { { "Idempotency-Key", key.Name }, { "Authorization", _token } },
                };
                using var response = await _http.SendAsync(request, Cancelled);
                var answer = await response.Content.ReadAsStringAsync(Cancelled);
                _statuses.AddOrUpdate(response.StatusCode, 1, (_, count) => count + 1);
                if (response.StatusCode is HttpStatusCode.ServiceUnavailable or HttpStatusCode.TooManyRequests
                    || (response.StatusCode == HttpStatusCode.Conflict && answer.Contains("request-in-progress", StringComparison.Ordinal)))
                {
                    continue;
                }

                if (isReuse)
                {
                    Assert.Equal(HttpStatusCode.UnprocessableEntity, response.StatusCode);
                }
                else
                {
                    key.Answers.Add((response.StatusCode, answer));
                }

                return;
            }
            catch (Exception error) when (error is HttpRequestException or IOException)
            {
                // Killed in the middle, or not back yet.
                Interlocked.Increment(ref _unanswered);
            }
        }
    }

    /// <summary>SIGKILL to one process after the other, spread over the run by the number of requests.</summary>
    private async Task<int> KillAsync(Task done)
    {
        var kills = 0;
        for (; kills < Kills; kills++)
        {
            var at = Requests * (kills + 1) / (Kills + 1);
            while (Volatile.Read(ref _requests) < at && !done.IsCompleted)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(5), Cancelled);
            }

            var process = _apis[kills % _apis.Count].Process;
            await process.KillAsync();
            await process.StartAsync(Cancelled);
        }

        return kills;
    }

    private async Task<List<(string Key, string Body)>> ReadTableAsync()
    {
        var orders = new List<(string, string)>();
        var scan = new ScanRequest(_tables.TableName) { ConsistentRead = true, Limit = 1_000 };
        do
        {
            var page = await _tables.Table.ScanAsync(scan, Cancelled);
            foreach (var item in page.Items)
            {
                orders.Add((item["items"].L[0].M["product_id"].S, (await _tables.GetAsync(item["order_id"].S)).Body));
            }

            scan.ExclusiveStartKey = page.LastEvaluatedKey;
        }
        while (scan.ExclusiveStartKey is { Count: > 0 });

        return orders;
    }

    private sealed record KeyHistory(string Name, bool IsTaken)
    {
        /// <summary>The outcomes that requests with the key's own body got.</summary>
        public ConcurrentBag<(HttpStatusCode Status, string Body)> Answers { get; } = [];
    }
}
