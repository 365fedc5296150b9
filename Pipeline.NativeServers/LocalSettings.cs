namespace Pipeline.NativeServers;

/// <summary>What the AppHost gives the native platform, and where whoever works beside it finds things.</summary>
public static class LocalSettings
{
    public const int OrdersApiPort = 5080;
    public const int LoaderPort = 5081;
    public const int EmulatorPort = 5090;
    public const int DynamoDbPort = 18000;
    public const int S3Port = 18001;
    public const int WarehousePort = 15432;

    public const string Region = "us-east-1";

    /// <summary>Both halves of the credentials. Alphanumeric: DynamoDB Local keeps one database per access key, and refuses other characters.</summary>
    public const string AccessKey = "local";

    public const string WarehouseDatabase = "warehouse";

    /// <summary>Below <c>artifacts/</c>: the servers' data.</summary>
    public const string DataFolder = "native";

    /// <summary>Below <see cref="DataFolder"/>: the warehouse's.</summary>
    public const string WarehouseFolder = "warehouse";
}
