using Amazon.CDK;
using Amazon.CDK.AWS.DynamoDB;
using Constructs;
using Attribute = Amazon.CDK.AWS.DynamoDB.Attribute;

namespace Pipeline.Cdk;

/// <summary>The orders and their stream: the source of truth, so in production nothing that deletes a stack deletes it.</summary>
public sealed class OrdersTable : Construct
{
    public Table Table { get; }

    public OrdersTable(Construct scope, string id, bool keep)
        : base(scope, id)
    {
        // Table and not TableV2: that one is an AWS::DynamoDB::GlobalTable, which emulators refuse.
        Table = new Table(this, "Table", new TableProps
        {
            TableName = Names.Table,
            PartitionKey = StringAttribute("order_id"),
            BillingMode = BillingMode.PAY_PER_REQUEST,
            // Both images: a change holds the order as it is now, a removal the order as it last was.
            Stream = StreamViewType.NEW_AND_OLD_IMAGES,
            PointInTimeRecovery = true,
            DeletionProtection = keep,
            // Also when a first deployment fails: taking a protected table away again fails, and with it the rollback.
            RemovalPolicy = keep ? RemovalPolicy.RETAIN : RemovalPolicy.DESTROY,
        });
        AddIndex(Names.CustomerIndex, Names.CustomerKey);
        AddIndex(Names.StatusIndex, Names.StatusKey);
    }

    /// <summary>
    /// Keys only: a list reads its orders from the table, and a write that changes no key costs the index nothing.
    /// </summary>
    private void AddIndex(string name, string partitionKey) => Table.AddGlobalSecondaryIndex(new GlobalSecondaryIndexProps
    {
        IndexName = name,
        PartitionKey = StringAttribute(partitionKey),
        SortKey = StringAttribute("created_at"),
        ProjectionType = ProjectionType.KEYS_ONLY,
    });

    private static Attribute StringAttribute(string name) => new() { Name = name, Type = AttributeType.STRING };
}
