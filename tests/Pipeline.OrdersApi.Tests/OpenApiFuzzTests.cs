using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Npgsql;
using Pipeline.Loader.Tests;

namespace Pipeline.OrdersApi.Tests;

/// <summary>
/// Holds the API to its own description: requests are made from the document, good ones and ones that are spoilt in one or
/// more places, and what comes back must be what the document says of them. FUZZ_REQUESTS=20000 is the full size,
/// FUZZ_SEED another course; a failure prints both and the request.
/// </summary>
public sealed class OpenApiFuzzTests(OrdersDatabase database, PostgresFixture postgres, ITestOutputHelper output) : IAsyncLifetime
{
    private const int Clients = 8;

    // Few, so that requests meet each other's orders and keys.
    private const int OrderIds = 40;
    private const int KeyCount = 200;

    private static readonly int Requests = Number("FUZZ_REQUESTS", 600);
    private static readonly int Seed = Number("FUZZ_SEED", 1);

    private readonly AuthenticationHeaderValue _token = OrdersApi.TokenOf(OrdersApi.Merchant);
    private readonly ConcurrentDictionary<string, int> _outcomes = new();
    private NpgsqlDataSource _warehouse = null!;
    private OrdersApi _api = null!;
    private JsonElement _document;
    private JsonSchemaOracle _oracle = null!;

    public async ValueTask InitializeAsync()
    {
        _warehouse = await postgres.CreateDatabaseAsync();
        _api = new OrdersApi(database) { Warehouse = _warehouse.ConnectionString };
        await _api.InitializeAsync();
        _document = JsonElement.Parse((await _api.SendAsync(HttpMethod.Get, "/openapi/v1.json")).Body);
        _oracle = new JsonSchemaOracle(_document);
    }

    public async ValueTask DisposeAsync()
    {
        await _api.DisposeAsync();
        await _warehouse.DisposeAsync();
    }

    [Fact]
    public async Task What_the_document_allows_is_taken_what_it_forbids_is_refused_and_nothing_is_a_5xx()
    {
        var operations = _document.GetProperty("paths").EnumerateObject()
            .SelectMany(path => path.Value.EnumerateObject().Select(operation => (Path: path.Name, Method: operation.Name, Description: operation.Value)))
            .ToList();
        await Task.WhenAll(Enumerable.Range(0, Clients).Select(async client =>
        {
            var random = new Random((Seed * Clients) + client);
            for (var n = client; n < Requests; n += Clients)
            {
                var (path, method, description) = operations[random.Next(operations.Count)];
                await SendAsync(new Fuzzed(path, method, description, _oracle, random), $"FUZZ_SEED={Seed}, request {n}");
            }
        }));

        foreach (var (outcome, count) in _outcomes.OrderBy(outcome => outcome.Key, StringComparer.Ordinal))
        {
            output.WriteLine($"{outcome}: {count}");
        }

        // The course of it: every operation was both taken and refused.
        Assert.All(operations, operation =>
        {
            Assert.Contains(_outcomes.Keys, outcome => outcome.StartsWith($"{operation.Method} {operation.Path} allowed 2", StringComparison.Ordinal));
            Assert.Contains(_outcomes.Keys, outcome => outcome.StartsWith($"{operation.Method} {operation.Path} forbidden 4", StringComparison.Ordinal));
        });
    }

    [Fact]
    public void Every_example_fits_its_schema()
    {
        var examples = 0;
        foreach (var content in _document.GetProperty("paths").EnumerateObject().SelectMany(path => path.Value.EnumerateObject()).SelectMany(operation =>
            operation.Value.GetProperty("responses").EnumerateObject().Select(response => response.Value)
                .Concat(operation.Value.TryGetProperty("requestBody", out var body) ? [body] : [])))
        {
            foreach (var type in content.TryGetProperty("content", out var types) ? types.EnumerateObject() : [])
            {
                if (type.Value.TryGetProperty("example", out var example))
                {
                    examples++;
                    Assert.True(_oracle.Fits(example, type.Value.GetProperty("schema")), example.GetRawText());
                }
            }
        }

        Assert.InRange(examples, 15, int.MaxValue);
    }

    private async Task SendAsync(Fuzzed fuzzed, string where)
    {
        using var request = fuzzed.ToRequest();
        request.Headers.Authorization = _token;
        using var response = await _api.Http.SendAsync(request, TestContext.Current.CancellationToken);
        var text = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        var status = (int)response.StatusCode;
        var what = $"{where}: {fuzzed}\n{status} {text}";
        _outcomes.AddOrUpdate($"{fuzzed.Method} {fuzzed.Path} {(fuzzed.IsAllowed ? "allowed" : "forbidden")} {status}", 1, (_, count) => count + 1);

        // Every answer is one that the document announces, with a body of the announced form.
        Assert.True(status < 500, what);
        Assert.True(fuzzed.Description.GetProperty("responses").TryGetProperty(status.ToString(CultureInfo.InvariantCulture), out var announced), what);
        if (announced.TryGetProperty("content", out var contents))
        {
            Assert.True(contents.TryGetProperty(response.Content.Headers.ContentType!.MediaType!, out var content), what);
            Assert.True(_oracle.Fits(JsonElement.Parse(text), content.GetProperty("schema")), what);
        }
        else
        {
            Assert.Equal("", text);
        }

        if (status == (int)HttpStatusCode.TooManyRequests)
        {
            return;
        }

        if (!fuzzed.IsAllowed)
        {
            Assert.True(fuzzed.Refusals.Contains(status), what);
        }
        else
        {
            Assert.False(status is 400 or 413 or 415 or 428, what);
        }

        if (fuzzed.Orders is { } orders && status == 200)
        {
            // Within a batch each order is taken or refused by itself.
            var results = JsonElement.Parse(text).GetProperty("results").EnumerateArray().Select(result => result.GetProperty("status").GetInt32()).ToList();
            Assert.True(orders.SequenceEqual(results.Select(result => result != 400)), what);
        }
    }

    private static int Number(string variable, int otherwise) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;

    /// <summary>A request of one operation, and what the document says of it.</summary>
    private sealed class Fuzzed
    {
        // The writer of JSON refuses half of a surrogate pair; it is put in afterwards.
        private const string HalfAPair = "half a pair";

        private const string GoodOrder = """{"customer":{"customer_id":"c"},"currency":"BRL","items":[],"payments":[]}""";

        private readonly JsonSchemaOracle _oracle;
        private readonly Random _random;
        private readonly List<(string Name, string Value)> _headers = [];
        private readonly List<(string Name, string Value)> _query = [];
        private readonly string? _body;
        private readonly string? _mediaType;
        private string _target;

        public Fuzzed(string path, string method, JsonElement description, JsonSchemaOracle oracle, Random random)
        {
            (Path, Method, Description, _oracle, _random, _target) = (path, method, description, oracle, random, path);
            foreach (var parameter in description.TryGetProperty("parameters", out var parameters) ? parameters.EnumerateArray() : [])
            {
                Add(parameter);
            }

            if (path == "/orders" && method == "get")
            {
                // What the operation's description says and no schema can: exactly one of the two, and cursors are not made up.
                var lists = _query.Count(one => one.Name is "customer_id" or "status");
                Forbid(lists != 1 || _query.Any(one => one.Name == "cursor"), 400);
            }

            if (description.TryGetProperty("requestBody", out var body))
            {
                var types = body.GetProperty("content").EnumerateObject().ToList();
                var (name, content) = types[random.Next(types.Count)] is var chosen ? (chosen.Name, chosen.Value) : default;
                _body = Body(oracle.Resolve(content.GetProperty("schema")));
                _mediaType = random.Next(40) == 0 ? "text/plain" : name;
                Forbid(_mediaType == "text/plain", 415);
            }
        }

        public string Path { get; }

        public string Method { get; }

        public JsonElement Description { get; }

        public bool IsAllowed => Refusals.Count == 0;

        /// <summary>The statuses that the spoilt places are refused with: one of them, whichever is looked at first.</summary>
        public HashSet<int> Refusals { get; } = [];

        /// <summary>Of a batch: which of its orders are allowed.</summary>
        public List<bool>? Orders { get; private set; }

        public override string ToString() => $"{Method} {_target} {string.Join("; ", _query.Concat(_headers))}\n{_mediaType} {_body}";

        public HttpRequestMessage ToRequest()
        {
            var query = string.Join('&', _query.Select(one => $"{one.Name}={Uri.EscapeDataString(one.Value)}"));
            var request = new HttpRequestMessage(HttpMethod.Parse(Method), query.Length > 0 ? $"{_target}?{query}" : _target);
            foreach (var (name, value) in _headers)
            {
                request.Headers.TryAddWithoutValidation(name, value);
            }

            if (_body is not null)
            {
                request.Content = new StringContent(_body, Encoding.UTF8);
                request.Content.Headers.ContentType = MediaTypeHeaderValue.Parse(_mediaType!);
            }

            return request;
        }

        private void Forbid(bool isForbidden, int status)
        {
            if (isForbidden)
            {
                Refusals.Add(status);
            }
        }

        private void Add(JsonElement parameter)
        {
            var (name, place) = (parameter.GetProperty("name").GetString()!, parameter.GetProperty("in").GetString());
            var schema = _oracle.Resolve(parameter.GetProperty("schema"));
            var isRequired = parameter.TryGetProperty("required", out var required) && required.GetBoolean();
            if (place != "path" && (isRequired ? _random.Next(20) == 0 : _random.Next(2) == 0))
            {
                // Of the headers only If-Match is required, and missing it is a status of its own.
                Forbid(isRequired, place == "query" ? 400 : 428);
                return;
            }

            var value = Parameter(name, schema);
            var isAllowed = _oracle.Fits(AsJson(value, schema), schema);
            switch (place)
            {
                case "path":
                    // These two are no names but ways to another resource, which the client takes by itself (RFC 3986, section 5.2.4).
                    if (value is "." or "..")
                    {
                        (value, isAllowed) = ($"{value}!", false);
                    }

                    _target = _target.Replace($"{{{name}}}", Uri.EscapeDataString(value), StringComparison.Ordinal);
                    Forbid(!isAllowed, 404);
                    break;
                case "query":
                    _query.Add((name, value));
                    Forbid(!isAllowed, 400);
                    break;
                default:
                    // Blanks around a header's value are not part of it.
                    value = value.Trim();
                    isAllowed = _oracle.Fits(AsJson(value, schema), schema);
                    _headers.Add((name, value));
                    Forbid(!isAllowed, 400);
                    break;
            }
        }

        private static JsonElement AsJson(string value, JsonElement schema) =>
            schema.GetProperty("type").GetString() == "integer" && Regex.IsMatch(value, @"^-?(0|[1-9]\d*)$")
                ? JsonElement.Parse(value)
                : JsonSerializer.SerializeToElement(value);

        private string Parameter(string name, JsonElement schema)
        {
            if (_random.Next(6) == 0)
            {
                // Whatever: long, empty, with signs of every kind that a header can carry.
                return string.Concat(Enumerable.Range(0, _random.Next(4) == 0 ? _random.Next(300) : _random.Next(1, 6)).Select(_ => (char)_random.Next(' ', '~' + 1))) is { Length: > 0 } text ? text : "!";
            }

            return name switch
            {
                "order_id" => $"fuzz-{_random.Next(OrderIds)}",
                "Idempotency-Key" => $"key-{_random.Next(KeyCount)}",
                "If-Match" or "If-None-Match" => _random.Next(4) switch
                {
                    0 => "*",
                    1 => string.Join(_random.Next(2) == 0 ? "," : ", ", Enumerable.Range(0, _random.Next(1, 24)).Select(n => $"{(_random.Next(4) == 0 ? "W/" : "")}\"{n}\"")),
                    2 => $"\"{(char)_random.Next('!', '~' + 1)}\"",
                    _ => $"\"{_random.Next(1, 4)}\"",
                },
                "limit" => _random.Next(-1, 103).ToString(CultureInfo.InvariantCulture),
                "min_version" => _random.Next(-1, 10).ToString(CultureInfo.InvariantCulture),
                // Nothing is loaded here, so whoever may wait does; WarehouseTests looks at the upper end.
                "wait_ms" => _random.Next(-5, 20).ToString(CultureInfo.InvariantCulture),
                _ => Text(schema),
            };
        }

        private string Body(JsonElement schema)
        {
            var isBatch = schema.GetProperty("properties").TryGetProperty("orders", out _);
            var value = isBatch ? Batch(schema) : Make(schema);
            for (var faults = _random.Next(3) == 0 ? _random.Next(1, 4) : 0; faults > 0; faults--)
            {
                value = Spoil(value);
            }

            var text = (value?.ToJsonString() ?? "null").Replace(HalfAPair, "\\ud800", StringComparison.Ordinal);
            if (_random.Next(40) == 0)
            {
                // No JSON any more.
                text = _random.Next(3) switch { 0 => text[..^1], 1 => text + "]", _ => "" };
                Refusals.Add(400);
                return text;
            }

            var parsed = JsonElement.Parse(text);
            if (isBatch && parsed.ValueKind == JsonValueKind.Object && parsed.TryGetProperty("orders", out var orders) && orders.ValueKind == JsonValueKind.Array)
            {
                var order = schema.GetProperty("properties").GetProperty("orders").GetProperty("items");
                Orders = [.. orders.EnumerateArray().Select(one => _oracle.Fits(one, order))];
                // Of the batch itself only what is around its orders counts.
                var around = parsed.EnumerateObject().Select(member =>
                    $"{JsonSerializer.Serialize(member.Name)}:{(member.Name == "orders" ? $"[{string.Join(',', Enumerable.Repeat(GoodOrder, orders.GetArrayLength()))}]" : member.Value.GetRawText())}");
                Forbid(!_oracle.Fits(JsonElement.Parse($"{{{string.Join(',', around)}}}"), schema), 400);
            }
            else
            {
                Forbid(!_oracle.Fits(parsed, schema), 400);
            }

            return text;
        }

        private JsonObject Batch(JsonElement schema)
        {
            var order = schema.GetProperty("properties").GetProperty("orders").GetProperty("items");
            var count = _random.Next(30) switch { 0 => 0, 1 => 100, 2 => 101, _ => _random.Next(1, 5) };
            return new JsonObject
            {
                ["orders"] = new JsonArray([.. Enumerable.Range(0, count).Select(_ =>
                {
                    var made = Make(order);
                    return _random.Next(8) == 0 ? Spoil(made) : made;
                })]),
            };
        }

        /// <summary>A value that fits, mostly: near the limits of its schema as often as far from them.</summary>
        private JsonNode? Make(JsonElement reference, string name = "")
        {
            var schema = _oracle.Resolve(reference);
            var types = schema.GetProperty("type") is { ValueKind: JsonValueKind.Array } several ? several.EnumerateArray().Select(type => type.GetString()!).ToList() : [schema.GetProperty("type").GetString()!];
            if (types.Contains("null") && _random.Next(8) == 0)
            {
                return null;
            }

            switch (types.First(type => type != "null"))
            {
                case "object":
                    var required = schema.TryGetProperty("required", out var names) ? names.EnumerateArray().Select(one => one.GetString()!).ToHashSet() : [];
                    return new JsonObject(schema.GetProperty("properties").EnumerateObject().OrderBy(_ => _random.Next())
                        .Where(property => required.Contains(property.Name) || _random.Next(2) == 0)
                        .Select(property => KeyValuePair.Create(property.Name, Make(property.Value, property.Name))));
                case "array":
                    var most = schema.TryGetProperty("maxItems", out var max) ? max.GetInt32() : 5;
                    var length = _random.Next(60) switch { 0 => most, 1 => most + 1, _ => _random.Next(0, 4) };
                    return new JsonArray([.. Enumerable.Range(0, length).Select(_ => Make(schema.GetProperty("items")))]);
                case "string":
                    return name switch
                    {
                        "order_id" when _random.Next(3) > 0 => $"fuzz-{_random.Next(OrderIds)}",
                        "merchant_id" when _random.Next(3) > 0 => OrdersApi.Merchant,
                        _ => Text(schema),
                    };
                case "integer":
                    return Spelled(_random.Next(4) switch
                    {
                        0 => schema.GetProperty("minimum").GetInt32(),
                        1 => schema.GetProperty("maximum").GetInt32(),
                        _ => _random.Next(schema.GetProperty("minimum").GetInt32(), schema.GetProperty("maximum").GetInt32() + 1),
                    });
                default:
                    return Spelled(_random.Next(4) switch { 0 => 0m, 1 => 9_999_999.99m, _ => _random.Next(0, 999_999_999) / 100m });
            }
        }

        /// <summary>The same number in one of its spellings.</summary>
        private JsonNode Spelled(decimal number)
        {
            var text = number.ToString(CultureInfo.InvariantCulture);
            return JsonNode.Parse(_random.Next(6) switch
            {
                0 => text.Contains('.', StringComparison.Ordinal) ? text + "000" : text + ".00",
                1 => $"{text}e0",
                2 => $"{number / 100m}E+2".Replace(',', '.'),
                3 => $"{number * 1000m}e-3",
                _ => text,
            })!;
        }

        private string Text(JsonElement schema)
        {
            if (schema.TryGetProperty("enum", out var choices))
            {
                return choices[_random.Next(choices.GetArrayLength())].GetString()!;
            }

            var most = schema.TryGetProperty("maxLength", out var max) ? max.GetInt32() : 20;
            var length = _random.Next(10) switch { 0 => most, 1 => 1, _ => _random.Next(1, Math.Min(most, 12) + 1) };
            var pattern = schema.TryGetProperty("pattern", out var rule) ? rule.GetString()! : "";
            string[] signs = ["a", "Z", "0", "_", "-", ".", "/", " ", "é", "😀", "\u00a0", "@"];
            string Of(int count, Regex? fit) => string.Concat(Enumerable.Range(0, count).Select(_ =>
            {
                string sign;
                do
                {
                    sign = signs[_random.Next(signs.Length)];
                }
                while (fit is not null && !fit.IsMatch(sign));
                return sign;
            }));
            // The e-mail's pattern is the one that no single sign fits.
            return pattern.Contains('@', StringComparison.Ordinal)
                ? $"{Of(Math.Max(1, (length / 2) - 1), new Regex(@"^[a-zA-Z0-9._-]$"))}@{Of(Math.Max(1, length / 2), new Regex(@"^[a-zA-Z0-9._-]|😀$"))}"
                : Of(length, pattern.Length > 0 ? new Regex(pattern) : null);
        }

        /// <summary>Changes one place to what the schema may forbid there; what it is then, the oracle says.</summary>
        private JsonNode? Spoil(JsonNode? root)
        {
            var places = new List<JsonNode>();
            Collect(root, places);
            if (places.Count == 0)
            {
                return Junk();
            }

            switch (places[_random.Next(places.Count)])
            {
                case JsonObject record:
                    switch (_random.Next(record.Count > 0 ? 4 : 1))
                    {
                        case 0:
                            record[_random.Next(3) switch { 0 => "more", 1 => "a/b~c", _ => new string('n', 300) }] = Junk();
                            break;
                        case 1:
                            record.Remove(record.ElementAt(_random.Next(record.Count)).Key);
                            break;
                        default:
                            record[record.ElementAt(_random.Next(record.Count)).Key] = Junk();
                            break;
                    }

                    break;
                case JsonArray list when list.Count > 0 && _random.Next(2) == 0:
                    list[_random.Next(list.Count)] = Junk();
                    break;
                case JsonArray list:
                    list.Add(Junk());
                    break;
            }

            return root;
        }

        private JsonNode? Junk() => JsonNode.Parse(_random.Next(20) switch
        {
            0 => "null",
            1 => "true",
            2 => "\"\"",
            3 => "\" \"",
            4 => "\"\\u0000\"",
            5 => "\"a\\n\"",
            6 => $"\"{HalfAPair}\"",
            7 => "-1",
            8 => "0",
            9 => "1.001",
            10 => "1e400",
            11 => "0e-400",
            12 => "12345678901234567890",
            13 => "0.1",
            14 => $"\"{new string('x', _random.Next(30, 300))}\"",
            15 => "[]",
            16 => "{}",
            17 => "[[[[1]]]]",
            18 => "{\"a\":{\"b\":[]}}",
            _ => "\"approved\"",
        });

        private static void Collect(JsonNode? node, List<JsonNode> places)
        {
            switch (node)
            {
                case JsonObject record:
                    places.Add(record);
                    foreach (var member in record)
                    {
                        Collect(member.Value, places);
                    }

                    break;
                case JsonArray list:
                    places.Add(list);
                    foreach (var entry in list)
                    {
                        Collect(entry, places);
                    }

                    break;
            }
        }
    }
}
