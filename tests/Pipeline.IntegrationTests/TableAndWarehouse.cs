using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Npgsql;

namespace Pipeline.IntegrationTests;

/// <summary>
/// Reads both ends of the pipeline, each with code of its own that shares nothing with the product, and names
/// every order in which they differ.
/// </summary>
internal static class TableAndWarehouse
{
    /// <returns>A line per difference; empty when the table and the warehouse hold the same orders, versions and documents.</returns>
    public static async Task<IReadOnlyList<string>> DifferencesAsync(
        IAmazonDynamoDB dynamoDb, string table, string personalDataKey, NpgsqlDataSource warehouse, CancellationToken cancellationToken)
    {
        var items = await ReadTableAsync(dynamoDb, table, cancellationToken);
        foreach (var (_, document) in items.Values)
        {
            Protect(document["customer"] as JsonObject, Encoding.UTF8.GetBytes(personalDataKey));
        }

        var rows = await ReadWarehouseAsync(warehouse, cancellationToken);
        var differences = new List<string>();
        foreach (var (orderId, item) in items)
        {
            if (!rows.Remove(orderId, out var row))
            {
                differences.Add($"{orderId}: in the table (version {item.Version}), not in the warehouse");
            }
            else if (row.Version != item.Version)
            {
                differences.Add($"{orderId}: version {item.Version} in the table, {row.Version} in the warehouse");
            }
            else if (!SameJson(item.Document, row.Document))
            {
                differences.Add($"{orderId}: version {item.Version} has different documents");
            }
        }

        differences.AddRange(rows.Select(row => $"{row.Key}: in the warehouse (version {row.Value.Version}), not in the table"));
        return differences;
    }

    private static async Task<Dictionary<string, (long Version, JsonNode Document)>> ReadTableAsync(
        IAmazonDynamoDB dynamoDb, string table, CancellationToken cancellationToken)
    {
        var items = new Dictionary<string, (long, JsonNode)>();
        var request = new ScanRequest { TableName = table, ConsistentRead = true, Limit = 1_000 };
        do
        {
            var page = await dynamoDb.ScanAsync(request, cancellationToken);
            foreach (var item in page.Items ?? [])
            {
                var version = item.TryGetValue("version", out var value) ? long.Parse(value.N, CultureInfo.InvariantCulture) : 0;
                items.Add(item["order_id"].S, (version, PlainJson(new AttributeValue { M = item })!));
            }

            request.ExclusiveStartKey = page.LastEvaluatedKey;
        }
        while (request.ExclusiveStartKey is { Count: > 0 });

        return items;
    }

    private static async Task<Dictionary<string, (long Version, JsonNode Document)>> ReadWarehouseAsync(
        NpgsqlDataSource warehouse, CancellationToken cancellationToken)
    {
        var rows = new Dictionary<string, (long, JsonNode)>();
        await using var command = warehouse.CreateCommand("select order_id, version, document::text from orders where not is_deleted");
        await using var reader = await command.ExecuteReaderAsync(cancellationToken);
        while (await reader.ReadAsync(cancellationToken))
        {
            // Add, not the indexer: an order that has two rows must fail here.
            rows.Add(reader.GetString(0), (reader.GetInt64(1), JsonNode.Parse(reader.GetString(2))!));
        }

        return rows;
    }

    /// <summary>Personal data as docs/privacy.md says that the warehouse has it.</summary>
    private static void Protect(JsonObject? customer, byte[] key)
    {
        const string Rule = "order-pipeline/personal-data/1";
        foreach (var name in (string[])["name", "email", "document"])
        {
            if ((string?)customer?[name] is not { } value)
            {
                continue;
            }

            var normal = name switch
            {
                "name" => string.Join(' ', value.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)).ToLowerInvariant(),
                "email" => value.Trim().ToLowerInvariant(),
                _ => string.Concat(value.Where(char.IsLetterOrDigit)).ToUpperInvariant(),
            };
            var keyId = Convert.ToHexStringLower(HMACSHA256.HashData(key, Encoding.UTF8.GetBytes($"{Rule}\0key id")))[..8];
            var hash = HMACSHA256.HashData(key, Encoding.UTF8.GetBytes($"{Rule}\0customer.{name}\0{normal}"));
            customer![name] = $"hmac:{keyId}:{Convert.ToBase64String(hash[..16]).TrimEnd('=').Replace('+', '-').Replace('/', '_')}";
        }
    }

    private static JsonNode? PlainJson(AttributeValue value) => value switch
    {
        { M: not null } => new JsonObject(value.M.Select(member => KeyValuePair.Create(member.Key, PlainJson(member.Value)))),
        { L: not null } => new JsonArray([.. value.L.Select(PlainJson)]),
        { N: not null } => JsonNode.Parse(value.N),
        { BOOL: not null } => JsonValue.Create(value.BOOL.Value),
        { S: not null } => JsonValue.Create(value.S),
        { NULL: true } => null,
        _ => throw new NotSupportedException("These tests write only strings, numbers, booleans, nulls, lists and maps."),
    };

    /// <summary>Compares numbers by value: DynamoDB and PostgreSQL may write the same number differently.</summary>
    private static bool SameJson(JsonNode? left, JsonNode? right) => (left, right) switch
    {
        (JsonObject a, JsonObject b) => a.Count == b.Count && a.All(member => b.TryGetPropertyValue(member.Key, out var other) && SameJson(member.Value, other)),
        (JsonArray a, JsonArray b) => a.Count == b.Count && a.Zip(b).All(pair => SameJson(pair.First, pair.Second)),
        (JsonValue a, JsonValue b) when a.GetValueKind() == System.Text.Json.JsonValueKind.Number && b.GetValueKind() == System.Text.Json.JsonValueKind.Number =>
            a.GetValue<decimal>() == b.GetValue<decimal>(),
        _ => JsonNode.DeepEquals(left, right),
    };
}
