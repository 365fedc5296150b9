using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Microsoft.Extensions.Options;
using Pipeline.Core;
using JsonOptions = Microsoft.AspNetCore.Http.Json.JsonOptions;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// Creates orders, each once. Without a key that is one conditional PutItem. With a key it is one transaction of two
/// conditional puts: the order, and the record of its outcome under the key. There is nothing between the two, so
/// wherever the process dies, both are there or neither is, and no record is ever left half done.
/// </summary>
internal sealed class OrderCreation(
    IAmazonDynamoDB dynamo, IOptions<OrdersTableOptions> tables, IOptions<JsonOptions> json, TimeProvider time, ILogger<OrderCreation> log)
{
    /// <summary>
    /// How long an outcome is replayed. Promised are 24 hours; twice that lets a client that was down for a day
    /// still find out what became of its last request.
    /// </summary>
    public static readonly TimeSpan KeptFor = TimeSpan.FromHours(48);

    // DynamoDB's TTL deletes within days, so a record that has expired may still be there: it counts as absent.
    private const string KeyIsFree = "attribute_not_exists(idempotency_key) OR expires_at <= :now";

    private readonly ConcurrentDictionary<IdempotencyKey, bool> _inProgress = new();

    /// <summary>201, or 409 when the order_id is taken.</summary>
    public async Task<Outcome> CreateAsync(Order order, CancellationToken cancellationToken)
    {
        try
        {
            await dynamo.PutItemAsync(new PutItemRequest
            {
                TableName = tables.Value.TableName,
                Item = OrderItems.ToItem(order),
                ConditionExpression = "attribute_not_exists(order_id)",
                ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure.ALL_OLD,
            }, cancellationToken);
        }
        catch (ConditionalCheckFailedException failed) when (!IsOurs(failed.Item, order))
        {
            return Exists(order);
        }
        catch (ConditionalCheckFailedException)
        {
            log.LogInformation("Order {OrderId} had been created by this request's first, unanswered call", order.OrderId);
        }

        return Created(order);
    }

    /// <summary>
    /// The same, and the outcome of the first request with this key is every later one's. Besides: 422 when the key
    /// stands for another request, 409 when its first request has no outcome yet; these two are not kept.
    /// </summary>
    /// <param name="order">What the request asks for.</param>
    /// <param name="key">The request's key.</param>
    /// <param name="fingerprint">Of what was asked for, without what the server adds.</param>
    /// <param name="cancellationToken">Ends the wait, not the write.</param>
    public async Task<Outcome> CreateAsync(Order order, IdempotencyKey key, string fingerprint, CancellationToken cancellationToken)
    {
        // DynamoDB would find out too (below), but only for two transactions that really meet. Whoever comes while
        // the first request is at work is told so.
        if (!_inProgress.TryAdd(key, true))
        {
            return InProgress(order);
        }

        try
        {
            return await CreateOnceAsync(order, key, fingerprint, cancellationToken);
        }
        finally
        {
            _inProgress.TryRemove(key, out _);
        }
    }

    /// <summary>What two requests must have in common to be the same one. Amounts count, not the way they are written.</summary>
    public static string Fingerprint(string operation, params IEnumerable<Order> orders)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(JsonSerializer.SerializeToUtf8Bytes(operation));
        foreach (var order in orders)
        {
            hash.AppendData(JsonSerializer.SerializeToUtf8Bytes(order, OrderJsonContext.Default.Order));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private async Task<Outcome> CreateOnceAsync(Order order, IdempotencyKey key, string fingerprint, CancellationToken cancellationToken)
    {
        var created = Outcome.Created(order, json.Value.SerializerOptions);
        var record = Record(key, fingerprint, created);
        try
        {
            // The SDK gives the transaction a token of its own, so DynamoDB takes a call that is sent again for the same one.
            await dynamo.TransactWriteItemsAsync(new TransactWriteItemsRequest
            {
                TransactItems =
                [
                    new() { Put = record },
                    new()
                    {
                        Put = new Put
                        {
                            TableName = tables.Value.TableName,
                            Item = OrderItems.ToItem(order),
                            ConditionExpression = "attribute_not_exists(order_id)",
                        },
                    },
                ],
            }, cancellationToken);
            return Created(order);
        }
        catch (TransactionCanceledException canceled) when (Failed(canceled, 0))
        {
            return Earlier(canceled.CancellationReasons[0].Item, record, order);
        }
        catch (TransactionCanceledException canceled) when (canceled.CancellationReasons.Any(reason => reason.Code == "TransactionConflict"))
        {
            return InProgress(order);
        }
        catch (TransactionCanceledException canceled) when (Failed(canceled, 1))
        {
            return await KeepAsync(record, order, cancellationToken);
        }

        static bool Failed(TransactionCanceledException canceled, int item) => canceled.CancellationReasons[item].Code == "ConditionalCheckFailed";
    }

    /// <summary>
    /// A refusal is an outcome too. It changes nothing, so a process that dies before it is kept loses nothing: the
    /// client has had no answer, and the repeated request is the first.
    /// </summary>
    private async Task<Outcome> KeepAsync(Put record, Order order, CancellationToken cancellationToken)
    {
        var refused = Exists(order);
        refused.AddTo(record.Item);
        try
        {
            await dynamo.PutItemAsync(new PutItemRequest
            {
                TableName = record.TableName,
                Item = record.Item,
                ConditionExpression = record.ConditionExpression,
                ExpressionAttributeValues = record.ExpressionAttributeValues,
                ReturnValuesOnConditionCheckFailure = record.ReturnValuesOnConditionCheckFailure,
            }, cancellationToken);
            return refused;
        }
        catch (ConditionalCheckFailedException failed)
        {
            return Earlier(failed.Item, record, order);
        }
    }

    /// <summary>What the key stands for already. If that is this very request, whose answer was lost, nothing is replayed.</summary>
    private Outcome Earlier(Dictionary<string, AttributeValue> found, Put wanted, Order order) =>
        found["fingerprint"].S != wanted.Item["fingerprint"].S
            ? Outcome.Refused(order.OrderId, Problems.KeyReused(), json.Value.SerializerOptions)
            : Outcome.FromItem(found) with { IsReplay = found["body"].S != wanted.Item["body"].S };

    private Put Record(IdempotencyKey key, string fingerprint, Outcome outcome)
    {
        var now = time.GetUtcNow();
        var item = key.ToItem();
        item["fingerprint"] = new(fingerprint);
        item["expires_at"] = Seconds(now + KeptFor);
        outcome.AddTo(item);
        return new Put
        {
            TableName = tables.Value.IdempotencyTableName,
            Item = item,
            ConditionExpression = KeyIsFree,
            ExpressionAttributeValues = new() { [":now"] = Seconds(now) },
            ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure.ALL_OLD,
        };
    }

    private Outcome Created(Order order)
    {
        log.LogInformation("Order {OrderId} created at version {Version}", order.OrderId, order.Version);
        return Outcome.Created(order, json.Value.SerializerOptions);
    }

    private Outcome Exists(Order order) => Outcome.Refused(order.OrderId, Problems.Exists(order.OrderId), json.Value.SerializerOptions);

    private Outcome InProgress(Order order) =>
        Outcome.Refused(order.OrderId, Problems.InProgress(), json.Value.SerializerOptions) with { RetryAfterSeconds = 1 };

    private static bool IsOurs(Dictionary<string, AttributeValue>? item, Order order) =>
        item is not null && item.TryGetValue("trace_parent", out var written) && written.S == order.TraceParent;

    private static AttributeValue Seconds(DateTimeOffset time) => new() { N = time.ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture) };
}
