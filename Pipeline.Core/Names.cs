namespace Pipeline.Core;

/// <summary>
/// Every name that more than one process has to know. The CDK app puts them into the template, the services
/// find them in their settings, and the local platforms use the same ones.
/// </summary>
public static class Names
{
    public const string Table = "OrdersTable";

    /// <summary>
    /// The orders of a merchant's customer, and those with a status, each newest first. Their partition keys are
    /// attributes that the API adds to an order, <c>{merchant}#{customer}</c> and <c>{merchant}#{status}</c>.
    /// </summary>
    public const string CustomerIndex = "by_customer";
    public const string StatusIndex = "by_status";
    public const string CustomerKey = "customer_key";
    public const string StatusKey = "status_key";

    /// <summary>Which requests with an Idempotency-Key were answered with what; without a stream, so they are no orders.</summary>
    public const string IdempotencyTable = "OrdersIdempotencyTable";
    public const string Function = "process_orders";
    public const string FailureQueue = "process_orders-failures";

    /// <summary>The name of the CloudFormation stack; its template is <c>artifacts/cdk.out/{Stack}.template.json</c>.</summary>
    public const string Stack = "OrderPipeline";

    public const string ChangesPrefix = "orders/changes/";
    public const string QuarantinePrefix = "orders/quarantine/";
    public const string DiscardedPrefix = "orders/discarded/";
    public const string BackfillPrefix = "orders/backfill/";

    /// <summary>What the loader has Redshift copy; of use until the load is done.</summary>
    public const string ManifestsPrefix = "orders/manifests/";

    /// <summary>
    /// Bucket names are global to AWS, so account and region are part of it. In the CDK app both are tokens that
    /// CloudFormation resolves; locally the account is <see cref="LocalAccount"/>.
    /// </summary>
    public static string BucketFor(string account, string region) => $"order-pipeline-{account}-{region}";

    /// <summary>The account id that the local servers use in their ARNs.</summary>
    public const string LocalAccount = "000000000000";

    /// <summary>In Secrets Manager: the key that personal data is protected with.</summary>
    public const string PersonalDataSecret = "order-pipeline/personal-data";

    /// <summary>Environment variables (.NET configuration keys with <c>__</c> for <c>:</c>) that services read.</summary>
    public static class Settings
    {
        public const string TableName = "Pipeline__TableName";
        public const string IdempotencyTableName = "Pipeline__IdempotencyTableName";
        public const string CursorKey = "Pipeline__CursorKey";
        public const string RequestsPerSecond = "Pipeline__RequestsPerSecond";
        public const string BucketName = "Pipeline__BucketName";
        public const string WarehouseSecretArn = "Pipeline__WarehouseSecretArn";
        public const string WarehouseCopyRoleArn = "Pipeline__WarehouseCopyRoleArn";

        /// <summary>The key that personal data is protected with; or where the function finds it on AWS.</summary>
        public const string PersonalDataKey = "Pipeline__PersonalDataKey";
        public const string PersonalDataSecretArn = "Pipeline__PersonalDataSecretArn";

        /// <summary>The configuration's key of a variable.</summary>
        public static string Key(string variable) => variable.Replace("__", ":", System.StringComparison.Ordinal);
    }
}
