using Pipeline.Core;
using Pipeline.NativeServers;

namespace Pipeline.Ops;

/// <summary>Where the local AppHost has everything (native platform), so that a command beside it needs no option.</summary>
internal static class LocalDefaults
{
    public static readonly string OrdersApi = $"http://127.0.0.1:{LocalSettings.OrdersApiPort}";
    public static readonly string Emulator = $"http://127.0.0.1:{LocalSettings.EmulatorPort}";
    public static readonly string DynamoDb = $"http://127.0.0.1:{LocalSettings.DynamoDbPort}";
    public static readonly string S3 = $"http://127.0.0.1:{LocalSettings.S3Port}";

    public static readonly string Bucket = Names.BucketFor(Names.LocalAccount, LocalSettings.Region);

    /// <summary>
    /// The local warehouse's password was generated when its data directory was made, beside this program's own
    /// output under <c>artifacts/</c>; null when no AppHost has run here yet.
    /// </summary>
    public static string? Warehouse()
    {
        for (var directory = new DirectoryInfo(AppContext.BaseDirectory); directory is not null; directory = directory.Parent)
        {
            var data = Path.Combine(directory.FullName, LocalSettings.DataFolder, LocalSettings.WarehouseFolder);
            if (directory.Name == "artifacts" && Directory.Exists(data))
            {
                return PostgresServer.ConnectionString(LocalSettings.WarehousePort, data, LocalSettings.WarehouseDatabase);
            }
        }

        return null;
    }
}
