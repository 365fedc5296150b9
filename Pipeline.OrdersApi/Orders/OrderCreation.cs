using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Microsoft.AspNetCore.Http.HttpResults;
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

        LogCreated(order);
        return Outcome.Created(order, json.Value.SerializerOptions);
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
        if (!TryBegin(key))
        {
            return Refused(order.OrderId, Problems.InProgress()) with { RetryAfterSeconds = 1 };
        }

        try
        {
            return await CreateOnceAsync(order, key, fingerprint, time.GetUtcNow() + KeptFor, cancellationToken);
        }
        finally
        {
            End(key);
        }
    }

    /// <summary>
    /// Runs a batch under its key until its results are final; then they are every later request's. A batch that was
    /// cut off is run again: each of its orders has a record of its own (<see cref="CreatePartAsync"/>).
    /// </summary>
    /// <param name="key">The request's key.</param>
    /// <param name="fingerprint">Of all the orders that were asked for.</param>
    /// <param name="run">Runs it, given when its records end: its results as text, and whether they are final.</param>
    /// <param name="cancellationToken">Ends the wait, not the writes.</param>
    /// <returns>The results, or 422 or 409 as for a single order.</returns>
    public async Task<(string? Results, bool IsReplay, Outcome? Refusal)> CreateBatchAsync(
        IdempotencyKey key, string fingerprint, Func<DateTimeOffset, Task<(string Results, bool IsFinal)>> run, CancellationToken cancellationToken)
    {
        if (!TryBegin(key))
        {
            return (null, false, Refused("", Problems.InProgress()) with { RetryAfterSeconds = 1 });
        }

        try
        {
            var expiresAt = time.GetUtcNow() + KeptFor;
            var begun = Record(key, fingerprint, expiresAt);
            if (await PutAsync(begun, cancellationToken) is { } found)
            {
                if (found["fingerprint"].S != fingerprint)
                {
                    return (null, false, Refused("", Problems.KeyReused()));
                }

                if (found.TryGetValue("results", out var kept))
                {
                    return (kept.S, true, null);
                }

                expiresAt = DateTimeOffset.FromUnixTimeSeconds(long.Parse(found["expires_at"].N, CultureInfo.InvariantCulture));
            }

            var (results, isFinal) = await run(expiresAt);
            return (isFinal ? await KeepAsync(key, fingerprint, expiresAt, results, cancellationToken) : results, false, null);
        }
        finally
        {
            End(key);
        }
    }

    /// <summary>One order of a batch. The batch has the key to itself, so nobody else is at work on the part.</summary>
    public Task<Outcome> CreatePartAsync(Order order, IdempotencyKey key, string fingerprint, DateTimeOffset expiresAt, CancellationToken cancellationToken) =>
        CreateOnceAsync(order, key, fingerprint, expiresAt, cancellationToken);

    /// <summary>What two requests must have in common to be the same one. Amounts count, not the way they are written.</summary>
    public static string Fingerprint(string operation, params IEnumerable<byte[]> orders)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var part in orders.Prepend(Encoding.UTF8.GetBytes(operation)))
        {
            hash.AppendData(part);
            // No JSON text holds it (RFC 7464), so 12 and 3 are not 1 and 23.
            hash.AppendData("\u001e"u8);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    // DynamoDB would find out too (below), but only for two transactions that really meet. Whoever comes while the first
    // request is at work is told so.
    private bool TryBegin(IdempotencyKey key) => _inProgress.TryAdd(key, true);

    private void End(IdempotencyKey key) => _inProgress.TryRemove(key, out _);

    private async Task<Outcome> CreateOnceAsync(
        Order order, IdempotencyKey key, string fingerprint, DateTimeOffset expiresAt, CancellationToken cancellationToken)
    {
        var record = Record(key, fingerprint, expiresAt);
        var created = Outcome.Created(order, json.Value.SerializerOptions);
        created.AddTo(record.Item);
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
            LogCreated(order);
            return created;
        }
        catch (TransactionCanceledException canceled) when (Failed(canceled, 0))
        {
            return Earlier(canceled.CancellationReasons[0].Item, record, order);
        }
        catch (TransactionCanceledException canceled) when (canceled.CancellationReasons.Any(reason => reason.Code == "TransactionConflict"))
        {
            return Refused(order.OrderId, Problems.InProgress()) with { RetryAfterSeconds = 1 };
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
        return await PutAsync(record, cancellationToken) is { } found ? Earlier(found, record, order) : refused;
    }

    /// <summary>The results that count: another process may have run the same batch, and been first.</summary>
    private async Task<string> KeepAsync(
        IdempotencyKey key, string fingerprint, DateTimeOffset expiresAt, string results, CancellationToken cancellationToken)
    {
        try
        {
            await dynamo.UpdateItemAsync(new UpdateItemRequest
            {
                TableName = tables.Value.IdempotencyTableName,
                Key = key.ToItem(),
                UpdateExpression = "SET results = :results",
                ConditionExpression = "fingerprint = :fingerprint AND expires_at = :expires_at AND attribute_not_exists(results)",
                ExpressionAttributeValues = new()
                {
                    [":results"] = new(results),
                    [":fingerprint"] = new(fingerprint),
                    [":expires_at"] = Seconds(expiresAt),
                },
                ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure.ALL_OLD,
            }, cancellationToken);
            return results;
        }
        catch (ConditionalCheckFailedException failed)
        {
            // Where it is not this batch's record any more, the two days ended in between, and nothing is to be kept.
            return failed.Item is { Count: > 0 } found && found["fingerprint"].S == fingerprint && found.TryGetValue("results", out var theirs) ? theirs.S : results;
        }
    }

    /// <returns>Null when the record was put, else what is there.</returns>
    private async Task<Dictionary<string, AttributeValue>?> PutAsync(Put record, CancellationToken cancellationToken)
    {
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
            return null;
        }
        catch (ConditionalCheckFailedException failed)
        {
            return failed.Item;
        }
    }

    /// <summary>What the key stands for already. If that is this very request, whose answer was lost, nothing is replayed.</summary>
    private Outcome Earlier(Dictionary<string, AttributeValue> found, Put wanted, Order order) =>
        found["fingerprint"].S != wanted.Item["fingerprint"].S
            ? Refused(order.OrderId, Problems.KeyReused())
            : Outcome.FromItem(found) with { IsReplay = found["body"].S != wanted.Item["body"].S };

    private Put Record(IdempotencyKey key, string fingerprint, DateTimeOffset expiresAt)
    {
        var item = key.ToItem();
        item["fingerprint"] = new(fingerprint);
        item["expires_at"] = Seconds(expiresAt);
        return new Put
        {
            TableName = tables.Value.IdempotencyTableName,
            Item = item,
            ConditionExpression = KeyIsFree,
            ExpressionAttributeValues = new() { [":now"] = Seconds(time.GetUtcNow()) },
            ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure.ALL_OLD,
        };
    }

    private void LogCreated(Order order) => log.LogInformation("Order {OrderId} created at version {Version}", order.OrderId, order.Version);

    private Outcome Exists(Order order) => Refused(order.OrderId, Problems.Exists(order.OrderId));

    private Outcome Refused(string orderId, ProblemHttpResult problem) => Outcome.Refused(orderId, problem, json.Value.SerializerOptions);

    private static bool IsOurs(Dictionary<string, AttributeValue>? item, Order order) =>
        item is not null && item.TryGetValue("trace_parent", out var written) && written.S == order.TraceParent;

    private static AttributeValue Seconds(DateTimeOffset time) => new() { N = time.ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture) };
}
