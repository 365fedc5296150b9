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
    public static string? Warehouse() =>
        Artifacts() is { } artifacts && Path.Combine(artifacts, LocalSettings.DataFolder, LocalSettings.WarehouseFolder) is var data && Directory.Exists(data)
            ? PostgresServer.ConnectionString(LocalSettings.WarehousePort, data, LocalSettings.WarehouseDatabase)
            : null;

    /// <summary>
    /// Who issues tokens for the local Orders API: the key comes from the AppHost through the environment, or lies where the
    /// AppHost left it; null when none has run here yet.
    /// </summary>
    public static LocalIssuer? Issuer() =>
        Options.Setting(LocalIssuer.KeySetting) is { } key ? new LocalIssuer(Convert.FromBase64String(key))
        : Artifacts() is { } artifacts ? LocalIssuer.Find(artifacts)
        : null;

    /// <summary>What the local AppHost has personal data protected with; null when none has run here yet.</summary>
    public static string? PersonalDataKey() =>
        Artifacts() is { } artifacts && LocalKey.Find(artifacts, LocalKey.PersonalData) is { } key ? Convert.ToBase64String(key) : null;

    private static string? Artifacts()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (directory is not null && directory.Name != "artifacts")
        {
            directory = directory.Parent;
        }

        return directory?.FullName;
    }
}
