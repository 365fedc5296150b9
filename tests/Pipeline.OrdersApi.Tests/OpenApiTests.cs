using System.Net;
using System.Text.Json.Nodes;

namespace Pipeline.OrdersApi.Tests;

public sealed class OpenApiTests(OrdersDatabase database) : IAsyncLifetime
{
    private readonly OrdersApi _api = new(database);

    public ValueTask InitializeAsync() => _api.InitializeAsync();

    public ValueTask DisposeAsync() => _api.DisposeAsync();

    [Fact]
    public async Task The_document_names_every_operation_with_all_its_answers()
    {
        var document = await DocumentAsync();

        Assert.Equal(
            new SortedDictionary<string, string>(StringComparer.Ordinal)
            {
                ["delete /orders/{order_id}"] = "204 400 401 403 404 412 428 429 503",
                ["get /orders"] = "200 400 401 403 429 503",
                ["get /orders/{order_id}"] = "200 304 400 401 403 404 429 503",
                ["get /orders/{order_id}/warehouse"] = "200 400 401 403 404 429 501 503",
                ["patch /orders/{order_id}"] = "200 400 401 403 404 412 413 415 428 429 503",
                ["post /orders"] = "201 400 401 403 409 413 415 422 429 503",
                ["post /orders/batch"] = "200 400 401 403 409 413 415 422 429 503",
                ["put /orders/{order_id}/status"] = "200 400 401 403 404 409 412 413 415 428 429 503",
            },
            new SortedDictionary<string, string>(
                document["paths"]!.AsObject().SelectMany(path => path.Value!.AsObject().Select(operation => (
                    Key: $"{operation.Key} {path.Key}",
                    Value: string.Join(' ', operation.Value!["responses"]!.AsObject().Select(response => response.Key).Order()))))
                    .ToDictionary(operation => operation.Key, operation => operation.Value),
                StringComparer.Ordinal));
    }

    [Fact]
    public async Task The_document_names_the_headers_that_an_answer_may_have()
    {
        var operations = (await DocumentAsync())["paths"]!;

        Assert.Equal(
            "201: ETag Idempotent-Replayed Location, 401: WWW-Authenticate, 403: WWW-Authenticate, 409: Idempotent-Replayed Retry-After, 429: Retry-After, 503: Retry-After",
            HeadersOf("/orders", "post"));
        Assert.Equal(
            "200: Idempotent-Replayed, 401: WWW-Authenticate, 403: WWW-Authenticate, 409: Idempotent-Replayed Retry-After, 429: Retry-After, 503: Retry-After",
            HeadersOf("/orders/batch", "post"));
        Assert.Equal(
            "200: ETag, 401: WWW-Authenticate, 403: WWW-Authenticate, 429: Retry-After, 503: Retry-After",
            HeadersOf("/orders/{order_id}/status", "put"));

        string HeadersOf(string path, string operation) => string.Join(", ", operations[path]![operation]!["responses"]!.AsObject()
            .Where(response => response.Value!["headers"] is not null)
            .OrderBy(response => response.Key, StringComparer.Ordinal)
            .Select(response => $"{response.Key}: {string.Join(' ', response.Value!["headers"]!.AsObject().Select(header => header.Key).Order(StringComparer.Ordinal))}"));
    }

    [Fact]
    public async Task Every_reference_of_the_document_leads_somewhere()
    {
        var document = await DocumentAsync();
        var references = document.ToJsonString().Split("\"$ref\":\"")[1..].Select(rest => rest[..rest.IndexOf('"', StringComparison.Ordinal)]).Distinct().ToList();

        Assert.NotEmpty(references);
        Assert.All(references, reference =>
            Assert.NotNull(reference.TrimStart('#', '/').Split('/').Aggregate((JsonNode?)document, (node, step) => node?[step])));
    }

    [Fact]
    public async Task The_document_states_the_rules_that_bodies_are_held_against()
    {
        var newOrder = (await DocumentAsync())["components"]!["schemas"]!["NewOrder"]!;

        Assert.Equal("false", newOrder["additionalProperties"]!.ToJsonString());
        Assert.Equal("""["customer","currency","items","payments"]""", newOrder["required"]!.ToJsonString());
        Assert.Equal("200", newOrder["properties"]!["items"]!["maxItems"]!.ToJsonString());
        var price = newOrder["properties"]!["items"]!["items"]!["properties"]!["unit_price"]!;
        Assert.Equal(
            """{"multipleOf":0.01,"maximum":9999999.99,"minimum":0,"type":"number"}""",
            new JsonObject(price.AsObject().Where(keyword => keyword.Key != "description").Select(keyword => KeyValuePair.Create(keyword.Key, keyword.Value?.DeepClone()))).ToJsonString());
    }

    private async Task<JsonNode> DocumentAsync()
    {
        var answer = await _api.SendAsync(HttpMethod.Get, "/openapi/v1.json");
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        return answer.Json;
    }
}
