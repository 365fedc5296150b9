using System.Text.Json.Nodes;

namespace Pipeline.Cdk.Tests.Rules;

internal static class TableRules
{
    private const string Table = "OrdersTable";

    public static IEnumerable<Rule> All { get; } =
    [
        new("The table streams both images, can be set back to any second, lists orders by keys only, and is not deleted by mistake",
            template => template.Is(
                Table,
                "AttributeDefinitions=[{AttributeName=order_id, AttributeType=S}, {AttributeName=customer_key, AttributeType=S}, {AttributeName=created_at, AttributeType=S}, {AttributeName=status_key, AttributeType=S}]",
                "BillingMode=PAY_PER_REQUEST",
                "DeletionProtectionEnabled=true",
                "GlobalSecondaryIndexes=[{IndexName=by_customer, KeySchema=[{AttributeName=customer_key, KeyType=HASH}, {AttributeName=created_at, KeyType=RANGE}], Projection={ProjectionType=KEYS_ONLY}}, {IndexName=by_status, KeySchema=[{AttributeName=status_key, KeyType=HASH}, {AttributeName=created_at, KeyType=RANGE}], Projection={ProjectionType=KEYS_ONLY}}]",
                "KeySchema=[{AttributeName=order_id, KeyType=HASH}]",
                "PointInTimeRecoverySpecification={PointInTimeRecoveryEnabled=true}",
                "StreamSpecification={StreamViewType=NEW_AND_OLD_IMAGES}",
                "TableName=OrdersTable",
                "UpdateReplacePolicy=Retain",
                "DeletionPolicy=Retain"),
            new Mutant("another key", Table, table => table["KeySchema"]![0]!["AttributeName"] = "customer_id"),
            new Mutant("provisioned capacity", Table, table => table["BillingMode"] = "PROVISIONED"),
            new Mutant("no stream", Table, table => table.Remove("StreamSpecification")),
            new Mutant("new images only", Table, table => table["StreamSpecification"]!["StreamViewType"] = "NEW_IMAGE"),
            new Mutant("orders whole, three times written", Table, table => table["GlobalSecondaryIndexes"]![0]!["Projection"]!["ProjectionType"] = "ALL"),
            new Mutant("every merchant's orders in one list", Table, table => table["GlobalSecondaryIndexes"]![1]!["KeySchema"]![0]!["AttributeName"] = "status"),
            new Mutant("no recovery", Table, table => table.Remove("PointInTimeRecoverySpecification")),
            new Mutant("orders that expire", Table, table => table["TimeToLiveSpecification"] = new JsonObject { ["AttributeName"] = "updated_at", ["Enabled"] = true }),
            new Mutant("open to another account", Table, table => table["ResourcePolicy"] = new JsonObject { ["PolicyDocument"] = new JsonObject
            {
                ["Version"] = "2012-10-17",
                ["Statement"] = new JsonArray(new JsonObject { ["Effect"] = "Allow", ["Principal"] = "*", ["Action"] = "dynamodb:*", ["Resource"] = "*" }),
            } }),
            new Mutant("anyone may delete it", Table, table => table["DeletionProtectionEnabled"] = false),
            new Mutant("it goes with its stack", Table, table => table.Parent!["DeletionPolicy"] = "Delete")),

        new("Idempotency keys are in a table of their own that has no stream and forgets",
            template => template.Is(
                "OrdersApiIdempotency",
                "AttributeDefinitions=[{AttributeName=idempotency_key, AttributeType=S}, {AttributeName=part, AttributeType=N}]",
                "BillingMode=PAY_PER_REQUEST",
                "DeletionProtectionEnabled=true",
                "KeySchema=[{AttributeName=idempotency_key, KeyType=HASH}, {AttributeName=part, KeyType=RANGE}]",
                "TableName=OrdersIdempotencyTable",
                "TimeToLiveSpecification={AttributeName=expires_at, Enabled=true}",
                "UpdateReplacePolicy=Retain",
                "DeletionPolicy=Retain"),
            new Mutant("records for ever", "OrdersApiIdempotency", table => table.Remove("TimeToLiveSpecification")),
            new Mutant("a stream", "OrdersApiIdempotency", table => table["StreamSpecification"] = new JsonObject { ["StreamViewType"] = "NEW_IMAGE" })),
    ];
}
