using System.Runtime.CompilerServices;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Amazon.Lambda.DynamoDBEvents;
using Pipeline.Core;
using Pipeline.Processor;
using Image = System.Collections.Generic.Dictionary<string, Amazon.Lambda.DynamoDBEvents.DynamoDBEvent.AttributeValue>;
using TaggedValue = Amazon.Lambda.DynamoDBEvents.DynamoDBEvent.AttributeValue;

namespace Pipeline.Ops;

/// <summary>An item of the table: the order that the pipeline would make of it, or why it would make none.</summary>
/// <param name="OrderId">The partition key.</param>
/// <param name="Change">The order as a snapshot; null when it cannot be decoded.</param>
/// <param name="Undecodable">The reason, without values.</param>
internal sealed record TableItem(string OrderId, Change? Change, string? Undecodable)
{
    /// <summary>
    /// Decodes with the code of the function process_orders: what it would refuse is refused here, what it would
    /// write is what is compared.
    /// </summary>
    /// <param name="orderId">The partition key.</param>
    /// <param name="image">The item with its type tags.</param>
    /// <param name="sequenceNumber">The rank of the snapshot.</param>
    /// <param name="readAt">When the reading of the table began.</param>
    /// <param name="protector">With the key of the function.</param>
    public static TableItem Decode(
        string orderId, Image image, SequenceNumber sequenceNumber, DateTimeOffset readAt, PersonalDataProtector protector)
    {
        try
        {
            var record = EventRecord.ToStreamRecord(new DynamoDBEvent.DynamodbStreamRecord
            {
                // The decoder asks for an id; the real one is a hash of what it decodes.
                EventID = "snapshot",
                EventName = "SNAPSHOT",
                Dynamodb = new DynamoDBEvent.StreamRecord
                {
                    ApproximateCreationDateTime = readAt.UtcDateTime,
                    Keys = new Image { ["order_id"] = new() { S = orderId } },
                    NewImage = image,
                    SequenceNumber = sequenceNumber.ToString(),
                },
            }, protector);
            var change = ChangeDecoder.Decode(record);
            return new TableItem(orderId, change with { EventId = ObjectKeys.SnapshotId(change) }, null);
        }
        catch (UndecodableRecordException e)
        {
            return new TableItem(orderId, null, e.Message);
        }
    }

    /// <summary>Of an item as the SDK gives it.</summary>
    public static TableItem Decode(
        Dictionary<string, AttributeValue> item, SequenceNumber sequenceNumber, DateTimeOffset readAt, PersonalDataProtector protector) =>
        Decode(item["order_id"].S, item.ToDictionary(attribute => attribute.Key, attribute => Tagged(attribute.Value)), sequenceNumber, readAt, protector);

    /// <summary>The SDK's type of a value and Lambda's differ in nothing but their names.</summary>
    private static TaggedValue Tagged(AttributeValue value) => new()
    {
        S = value.S,
        N = value.N,
        BOOL = value.BOOL,
        NULL = value.NULL,
        B = value.B,
        SS = value.SS,
        NS = value.NS,
        BS = value.BS,
        L = value.L?.ConvertAll(Tagged),
        M = value.M?.ToDictionary(member => member.Key, member => Tagged(member.Value)),
    };
}

/// <summary>A page of a segment.</summary>
/// <param name="Items">As the SDK gives them.</param>
/// <param name="LastKey">The order after which the next page begins; null on the last one.</param>
internal sealed record TablePage(IReadOnlyList<Dictionary<string, AttributeValue>> Items, string? LastKey);

/// <summary>What a table is, as far as a reader of all of it needs to know.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Arn">Its ARN.</param>
/// <param name="Id">Differs for a table that was made anew under the same name; empty where the server knows none.</param>
/// <param name="ItemsAbout">Hours old on AWS: for a progress bar, and for nothing else.</param>
internal sealed record TableDescription(string Name, string Arn, string Id, long ItemsAbout);

/// <summary>The orders' table, read at a bounded rate, always consistently: the answer is at least as new as the question.</summary>
internal sealed class OrderTable(IAmazonDynamoDB dynamo, string name, ReadBudget budget)
{
    /// <summary>Of BatchGetItem, which takes at most 100 keys.</summary>
    public const int KeysMax = 100;

    /// <summary>
    /// Of a Scan. DynamoDB ends a page at 1 MB anyway, which are about so many orders. DynamoDB Local without a limit reads all
    /// that is left of a segment for each page, and needs hours for a million items.
    /// </summary>
    public const int PageItemsMax = 1_000;

    /// <summary>Keys that a BatchGetItem leaves over are asked for again, so often; each time after the SDK's own retries.</summary>
    private const int LeftOverAttemptsMax = 8;

    public double Units => budget.Spent;

    public async Task<TableDescription> DescribeAsync(CancellationToken cancellationToken)
    {
        var table = (await dynamo.DescribeTableAsync(name, cancellationToken)).Table;
        return table.KeySchema is [{ AttributeName: "order_id" }]
            ? new TableDescription(name, table.TableArn, table.TableId ?? "", table.ItemCount ?? 0)
            : throw new OperatorException(
                $"The table {name} has the key {string.Join(", ", table.KeySchema.Select(key => key.AttributeName))}, not order_id: it is no table of orders.");
    }

    /// <summary>The pages of one segment of a parallel scan.</summary>
    /// <param name="segment">Counts from 0.</param>
    /// <param name="segments">How many there are.</param>
    /// <param name="startAfter">The order after which to begin; null for the beginning.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    public async IAsyncEnumerable<TablePage> ScanAsync(
        int segment, int segments, string? startAfter, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var request = new ScanRequest(name)
        {
            ConsistentRead = true,
            Segment = segment,
            TotalSegments = segments,
            Limit = PageItemsMax,
            ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
            ExclusiveStartKey = startAfter is null ? null : Key(startAfter),
        };
        do
        {
            await budget.WaitAsync(cancellationToken);
            var page = await dynamo.ScanAsync(request, cancellationToken);
            budget.Spend(page.ConsumedCapacity?.CapacityUnits ?? 0);
            request.ExclusiveStartKey = page.LastEvaluatedKey is { Count: > 0 } ? page.LastEvaluatedKey : null;
            yield return new TablePage(page.Items ?? [], request.ExclusiveStartKey?["order_id"].S);
        }
        while (request.ExclusiveStartKey is not null);
    }

    /// <summary>The items of these orders, at most <see cref="KeysMax"/>; those that are not there are missing in the answer.</summary>
    public async Task<IReadOnlyList<Dictionary<string, AttributeValue>>> GetAsync(IReadOnlyCollection<string> orderIds, CancellationToken cancellationToken)
    {
        var items = new List<Dictionary<string, AttributeValue>>(orderIds.Count);
        var keys = new KeysAndAttributes { ConsistentRead = true, Keys = [.. orderIds.Select(Key)] };
        for (var attempt = 1; keys.Keys.Count > 0; attempt++)
        {
            if (attempt > LeftOverAttemptsMax)
            {
                throw new OperatorException($"The table {name} left over {keys.Keys.Count} of {orderIds.Count} orders {LeftOverAttemptsMax} times: it is throttled. Give a lower --rate.");
            }

            await budget.WaitAsync(cancellationToken);
            var answer = await dynamo.BatchGetItemAsync(
                new BatchGetItemRequest { RequestItems = new() { [name] = keys }, ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL }, cancellationToken);
            budget.Spend(answer.ConsumedCapacity?.Sum(capacity => capacity.CapacityUnits ?? 0) ?? 0);
            items.AddRange(answer.Responses?.GetValueOrDefault(name) ?? []);
            keys.Keys = answer.UnprocessedKeys?.GetValueOrDefault(name)?.Keys ?? [];
        }

        return items;
    }

    private static Dictionary<string, AttributeValue> Key(string orderId) => new() { ["order_id"] = new AttributeValue { S = orderId } };
}
