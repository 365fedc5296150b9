using System.Text.Json.Serialization;

namespace Pipeline.Ops.Status;

/// <summary>Where everything stands. A part that could not be asked is null and named in <see cref="Unreachable"/>.</summary>
internal sealed record StatusReport
{
    public TableStatus? Table { get; init; }
    public StreamStatus? Stream { get; init; }
    public FilesStatus? ChangeFiles { get; init; }
    public FilesStatus? Quarantine { get; init; }
    public WarehouseStatus? Warehouse { get; init; }
    public NotLoadedStatus? NotLoaded { get; init; }

    /// <summary>Part → reason.</summary>
    public required IReadOnlyDictionary<string, string> Unreachable { get; init; }
}

internal sealed record TableStatus(string Name, long Items);

/// <param name="OldestUnreadMs">How long the oldest change that no function has taken yet has waited; 0 when there is none.</param>
/// <param name="Mappings">The event source mappings that read the stream.</param>
internal sealed record StreamStatus(long OldestUnreadMs, IReadOnlyList<MappingStatus> Mappings);

internal sealed record MappingStatus(string Function, string State, string? Problem);

internal sealed record FilesStatus(long Files, long Bytes, string? Newest, DateTimeOffset? NewestAt);

/// <param name="Orders">Rows of orders, removed ones among them.</param>
/// <param name="Removed">Of these, those that are removed.</param>
/// <param name="OrderChanges">Rows of order_changes.</param>
/// <param name="WaitingChanges">Changes that wait behind a parked one of their order.</param>
/// <param name="FilesLoaded">Rows of load_ledger.</param>
/// <param name="FilesFailing">Files that the loader could not read or load so far.</param>
/// <param name="LastLoadAt">When the latest load that brought changes began.</param>
/// <param name="LastLoadRows">The changes that it brought.</param>
internal sealed record WarehouseStatus(
    long Orders, long Removed, long OrderChanges, long WaitingChanges, long FilesLoaded, long FilesFailing, DateTimeOffset? LastLoadAt, long LastLoadRows)
{
    /// <summary>Null when nothing was loaded in the last hour.</summary>
    public FreshnessStatus? Freshness { get; init; }
}

/// <summary>From the write of a change to the beginning of its load, of all that was loaded in the last hour. In seconds.</summary>
/// <param name="Writes">How many there were.</param>
/// <param name="P50">The median.</param>
/// <param name="P95">Nineteen of twenty took less.</param>
/// <param name="P99">All but one of a hundred took less.</param>
internal sealed record FreshnessStatus(long Writes, double P50, double P95, double P99);

internal sealed record NotLoadedStatus(long Files, string? Oldest, DateTimeOffset? OldestAt);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, WriteIndented = true)]
[JsonSerializable(typeof(StatusReport))]
[JsonSerializable(typeof(IReadOnlyList<EmulatorMapping>))]
internal sealed partial class StatusJsonContext : JsonSerializerContext;

/// <summary>What the Lambda emulator tells at GET /event-source-mappings, as far as it is shown here.</summary>
internal sealed record EmulatorMapping(string Function, string State, string? Problem, IReadOnlyList<EmulatorShard> Shards);

internal sealed record EmulatorShard(long IteratorAgeMs);
