using Pipeline.Core;
using Pipeline.NativeServers;

namespace Pipeline.Ops;

/// <summary>Where the local AppHost has everything (native platform), so that a command beside it needs no option.</summary>
internal static class LocalDefaults
{
    public const string OrdersApi = "http://127.0.0.1:5080";
    public const string Emulator = "http://127.0.0.1:5090";
    public const string DynamoDb = "http://127.0.0.1:18000";
    public const string S3 = "http://127.0.0.1:18001";
    public const string Region = "us-east-1";

    /// <summary>Both halves of the credentials; DynamoDB Local keeps a database for each.</summary>
    public const string AccessKey = "local";

    public static readonly string Bucket = Names.BucketFor(Names.LocalAccount, Region);

    private const int WarehousePort = 15432;
    private const string WarehouseDatabase = "warehouse";

    /// <summary>
    /// The local warehouse's password was generated when its data directory was made, beside this program's own
    /// output under <c>artifacts/</c>; null when no AppHost has run here yet.
    /// </summary>
    public static string? Warehouse()
    {
        for (var directory = new DirectoryInfo(AppContext.BaseDirectory); directory is not null; directory = directory.Parent)
        {
            var data = Path.Combine(directory.FullName, "native", "warehouse");
            if (directory.Name == "artifacts" && Directory.Exists(data))
            {
                return PostgresServer.ConnectionString(WarehousePort, data, WarehouseDatabase);
            }
        }

        return null;
    }
}
