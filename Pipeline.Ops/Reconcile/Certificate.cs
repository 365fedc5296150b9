using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Pipeline.Ops.Reconcile;

[JsonConverter(typeof(JsonStringEnumConverter<Verdict>))]
internal enum Verdict
{
    [JsonStringEnumMemberName("equal")] Equal,
    [JsonStringEnumMemberName("different")] Different,
    [JsonStringEnumMemberName("could_not_tell")] CouldNotTell,
}

/// <summary>What was compared, when, and what came of it. docs/reconcile.md says what it proves and what not.</summary>
internal sealed record Certificate
{
    public required Verdict Result { get; init; }
    public required ToolInfo Tool { get; init; }
    public required DateTimeOffset StartedAt { get; init; }
    public required DateTimeOffset FinishedAt { get; init; }
    public required TableReading Table { get; init; }
    public required WarehouseReading Warehouse { get; init; }
    public required BucketCounts Buckets { get; init; }

    /// <summary>Orders whose sides differed at first, and were looked at again.</summary>
    public required long LookedAtAgain { get; init; }

    /// <summary>Of those, the ones that became equal: changes that were on their way.</summary>
    public required long Settled { get; init; }
    public required Differences Differences { get; init; }

    /// <summary>Orders that changed in the table for as long as they were looked at.</summary>
    public required Differences StillChanging { get; init; }

    /// <summary>Only with --repair.</summary>
    public RepairReport? Repair { get; init; }
    public required CostReport Cost { get; init; }

    /// <summary>People read it: é and not \u00E9.</summary>
    private static readonly CertificateJsonContext Readable =
        new(new JsonSerializerOptions(CertificateJsonContext.Default.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });

    public string ToJson() => JsonSerializer.Serialize(this, Readable.Certificate);

    /// <summary>The kind's name in certificates.</summary>
    public static string NameOf(DifferenceKind kind) => JsonSerializer.Serialize(kind, CertificateJsonContext.Default.DifferenceKind).Trim('"');
}

internal sealed record ToolInfo(string Name, string Version, string DigestRule);

/// <param name="Name">The table's name.</param>
/// <param name="Arn">The table's ARN.</param>
/// <param name="ReadFrom">When the scan began.</param>
/// <param name="ReadTo">When it ended.</param>
/// <param name="Orders">Items, those that cannot be decoded too, as they were last looked at.</param>
/// <param name="Digest">The sum over all orders, as they were last looked at.</param>
internal sealed record TableReading(string Name, string Arn, DateTimeOffset ReadFrom, DateTimeOffset ReadTo, long Orders, string Digest);

/// <param name="Name">Host and database.</param>
/// <param name="ReadFrom">When the digests were asked for.</param>
/// <param name="ReadTo">When they were there.</param>
/// <param name="Orders">Rows of <c>orders</c> that are not tombstones, as they were last looked at.</param>
/// <param name="Digest">The sum over all of them, as they were last looked at.</param>
internal sealed record WarehouseReading(string Name, DateTimeOffset ReadFrom, DateTimeOffset ReadTo, long Orders, string Digest);

/// <param name="Total">Into so many the orders are divided.</param>
/// <param name="Descended">So many differed at first, and their orders were compared one by one.</param>
internal sealed record BucketCounts(int Total, int Descended);

/// <param name="Total">All of them.</param>
/// <param name="ByKind">How many of each kind.</param>
/// <param name="Listed">The first ones, at most as many as --list says.</param>
internal sealed record Differences(long Total, IReadOnlyDictionary<DifferenceKind, long> ByKind, IReadOnlyList<Difference> Listed);

internal sealed record Difference
{
    public required string OrderId { get; init; }
    public required DifferenceKind Kind { get; init; }

    /// <summary>Null when it is not there, or cannot be decoded.</summary>
    public long? TableVersion { get; init; }
    public long? WarehouseVersion { get; init; }

    /// <summary>Which fields differ, when the versions are the same.</summary>
    public IReadOnlyList<string>? Fields { get; init; }

    /// <summary>Why the item cannot be decoded; without values.</summary>
    public string? Reason { get; init; }

    /// <summary>Rows of the order, when it has several.</summary>
    public int? Rows { get; init; }

    /// <summary>Objects in quarantine that hold a change of this order: its later changes wait behind them.</summary>
    public IReadOnlyList<string>? ParkedIn { get; init; }
}

/// <param name="Orders">For which changes were written.</param>
/// <param name="NotRepairable">Orders that no change can mend, or that wait behind a parked one.</param>
/// <param name="StillChanging">Orders that changed in the table meanwhile: their changes are on their way.</param>
/// <param name="Files">The change files, at most as many as --list says.</param>
/// <param name="NotLoaded">How many of the change files were not in the ledger when the deadline passed.</param>
internal sealed record RepairReport(long Orders, long NotRepairable, long StillChanging, IReadOnlyList<string> Files, int NotLoaded);

/// <param name="Seconds">All of it, waiting included.</param>
/// <param name="TableBytes">Bytes of DynamoDB's answers.</param>
/// <param name="TableUnits">Read capacity units.</param>
/// <param name="WarehouseBytes">Bytes of PostgreSQL's answers.</param>
/// <param name="PeakMemoryBytes">Of the process.</param>
internal sealed record CostReport(double Seconds, long TableBytes, double TableUnits, long WarehouseBytes, long PeakMemoryBytes);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, WriteIndented = true)]
[JsonSerializable(typeof(Certificate))]
internal sealed partial class CertificateJsonContext : JsonSerializerContext;
