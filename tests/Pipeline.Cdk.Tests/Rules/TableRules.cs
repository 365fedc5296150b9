namespace Pipeline.Cdk.Tests.Rules;

internal static class TableRules
{
    private const string Type = "AWS::DynamoDB::Table";
    private const string Table = "OrdersTable";

    public static IEnumerable<Rule> All { get; } =
    [
        new("The table is keyed by order and paid by request",
            template => template.Has(Type,
                $$"""
                {
                  "TableName": "{{Names.Table}}",
                  "KeySchema": [{ "AttributeName": "order_id", "KeyType": "HASH" }],
                  "BillingMode": "PAY_PER_REQUEST"
                }
                """),
            new Mutant("another key", Table, table => table["KeySchema"]![0]!["AttributeName"] = "customer_id"),
            new Mutant("provisioned capacity", Table, table => table["BillingMode"] = "PROVISIONED")),

        new("The stream carries both images",
            template => template.Has(Type, """{ "StreamSpecification": { "StreamViewType": "NEW_AND_OLD_IMAGES" } }"""),
            new Mutant("no stream", Table, table => table.Remove("StreamSpecification")),
            new Mutant("new images only", Table, table => table["StreamSpecification"]!["StreamViewType"] = "NEW_IMAGE")),

        new("An index lists the orders of a customer",
            template => template.Has(Type,
                $$"""
                {
                  "GlobalSecondaryIndexes": [{
                    "IndexName": "{{Names.CustomerIndex}}",
                    "KeySchema": [
                      { "AttributeName": "customer_id", "KeyType": "HASH" },
                      { "AttributeName": "created_at", "KeyType": "RANGE" }
                    ],
                    "Projection": { "ProjectionType": "ALL" }
                  }],
                  "AttributeDefinitions": [
                    { "AttributeName": "order_id", "AttributeType": "S" },
                    { "AttributeName": "customer_id", "AttributeType": "S" },
                    { "AttributeName": "created_at", "AttributeType": "S" }
                  ]
                }
                """),
            new Mutant("keys only", Table, table => table["GlobalSecondaryIndexes"]![0]!["Projection"]!["ProjectionType"] = "KEYS_ONLY")),

        new("The table can be set back to any second",
            template => template.Has(Type, """{ "PointInTimeRecoverySpecification": { "PointInTimeRecoveryEnabled": true } }"""),
            new Mutant("no recovery", Table, table => table.Remove("PointInTimeRecoverySpecification"))),

        new("The table is not deleted by mistake",
            template =>
            {
                template.AllHave(Type, """{ "DeletionProtectionEnabled": true }""");
                template.AllAre("Retain", Type);
            },
            new Mutant("anyone may delete it", Table, table => table["DeletionProtectionEnabled"] = false),
            new Mutant("it goes with its stack", Table, table => table.Parent!["DeletionPolicy"] = "Delete"))
        {
            OfProdOnly = true,
        },
    ];
}
