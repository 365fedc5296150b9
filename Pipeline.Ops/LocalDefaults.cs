namespace Pipeline.Ops;

/// <summary>Where the local AppHost has everything, so that a command beside it needs no option.</summary>
internal static class LocalDefaults
{
    public const string OrdersApi = "http://127.0.0.1:5080";
}
