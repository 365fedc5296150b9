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
            RemovalPolicy = keep ? RemovalPolicy.RETAIN : RemovalPolicy.DESTROY,
        });
        Table.AddGlobalSecondaryIndex(new GlobalSecondaryIndexProps
        {
            IndexName = Names.CustomerIndex,
            PartitionKey = StringAttribute("customer_id"),
            SortKey = StringAttribute("created_at"),
            // A customer's orders are listed whole, without a read per order.
            ProjectionType = ProjectionType.ALL,
        });
    }

    private static Attribute StringAttribute(string name) => new() { Name = name, Type = AttributeType.STRING };
}
