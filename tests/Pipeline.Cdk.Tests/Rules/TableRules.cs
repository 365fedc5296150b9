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

        new("Two indexes list a merchant's orders, of a customer and with a status, and hold keys only",
            template => template.Has(Type,
                $$"""
                {
                  "GlobalSecondaryIndexes": [
                    {
                      "IndexName": "{{Names.CustomerIndex}}",
                      "KeySchema": [
                        { "AttributeName": "{{Names.CustomerKey}}", "KeyType": "HASH" },
                        { "AttributeName": "created_at", "KeyType": "RANGE" }
                      ],
                      "Projection": { "ProjectionType": "KEYS_ONLY" }
                    },
                    {
                      "IndexName": "{{Names.StatusIndex}}",
                      "KeySchema": [
                        { "AttributeName": "{{Names.StatusKey}}", "KeyType": "HASH" },
                        { "AttributeName": "created_at", "KeyType": "RANGE" }
                      ],
                      "Projection": { "ProjectionType": "KEYS_ONLY" }
                    }
                  ],
                  "AttributeDefinitions": [
                    { "AttributeName": "order_id", "AttributeType": "S" },
                    { "AttributeName": "{{Names.CustomerKey}}", "AttributeType": "S" },
                    { "AttributeName": "created_at", "AttributeType": "S" },
                    { "AttributeName": "{{Names.StatusKey}}", "AttributeType": "S" }
                  ]
                }
                """),
            new Mutant("orders whole, three times written", Table, table => table["GlobalSecondaryIndexes"]![0]!["Projection"]!["ProjectionType"] = "ALL"),
            new Mutant("every merchant's orders in one list", Table, table => table["GlobalSecondaryIndexes"]![1]!["KeySchema"]![0]!["AttributeName"] = "status")),

        new("The table can be set back to any second",
            template => template.Has(Type, """{ "PointInTimeRecoverySpecification": { "PointInTimeRecoveryEnabled": true } }"""),
            new Mutant("no recovery", Table, table => table.Remove("PointInTimeRecoverySpecification"))),

        new("The table is not deleted by mistake",
            template =>
            {
                template.AllHave(Type, """{ "DeletionProtectionEnabled": true }""");
                template.AllAre("Retain", "Retain", Type);
            },
            new Mutant("anyone may delete it", Table, table => table["DeletionProtectionEnabled"] = false),
            new Mutant("it goes with its stack", Table, table => table.Parent!["DeletionPolicy"] = "Delete"))
        {
            OfProdOnly = true,
        },
    ];
}
