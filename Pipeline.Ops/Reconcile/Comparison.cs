using System.Text.Json.Serialization;
using Pipeline.Core;

namespace Pipeline.Ops.Reconcile;

/// <summary>How an order differs, seen from the table, which is the truth.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<DifferenceKind>))]
internal enum DifferenceKind
{
    /// <summary>In the table, and not in the warehouse (or only as removed).</summary>
    [JsonStringEnumMemberName("missing")] Missing,

    /// <summary>In the warehouse, and not in the table.</summary>
    [JsonStringEnumMemberName("extra")] Extra,

    /// <summary>The warehouse has an older version.</summary>
    [JsonStringEnumMemberName("older")] Older,

    /// <summary>The warehouse has a newer version: the table was restored, or the order was removed and created again.</summary>
    [JsonStringEnumMemberName("newer")] Newer,

    /// <summary>The same version with another content.</summary>
    [JsonStringEnumMemberName("different")] Different,

    /// <summary>The warehouse has more than one row of the order.</summary>
    [JsonStringEnumMemberName("duplicate")] Duplicate,

    /// <summary>The pipeline could make no change of the item, so the warehouse cannot have it.</summary>
    [JsonStringEnumMemberName("undecodable")] Undecodable,
}

/// <summary>The version and the content of an order on one side.</summary>
internal readonly record struct OrderState(long Version, UInt128 Hash);

/// <summary>An order on the table's side.</summary>
/// <param name="State">Null when it is not there, or cannot be decoded.</param>
/// <param name="Undecodable">Why it cannot be decoded.</param>
internal readonly record struct TableOrder(OrderState? State, string? Undecodable = null)
{
    /// <summary>As it counts in the digest: what cannot be decoded is an order all the same, with a hash that no order has.</summary>
    public DigestSum Digest => State is { } state ? default(DigestSum).Add(state.Hash)
        : Undecodable is not null ? new DigestSum(1, 0, 0)
        : default;
}

/// <summary>An order's rows in the warehouse.</summary>
/// <param name="Present">Those that are not tombstones.</param>
/// <param name="Rows">How many there are with the tombstones.</param>
internal readonly record struct WarehouseOrder(IReadOnlyList<OrderState> Present, int Rows)
{
    public DigestSum Digest => Present.Aggregate(default(DigestSum), (digest, row) => digest.Add(row.Hash));
}

internal static class Comparison
{
    /// <summary>Null when both sides have the same.</summary>
    public static DifferenceKind? Of(TableOrder table, WarehouseOrder warehouse) => (table.State, warehouse.Present) switch
    {
        _ when table.Undecodable is not null => DifferenceKind.Undecodable,
        _ when warehouse.Rows > 1 => DifferenceKind.Duplicate,
        (null, []) => null,
        (null, _) => DifferenceKind.Extra,
        (_, []) => DifferenceKind.Missing,
        ({ } item, [var row, ..]) when row.Version < item.Version => DifferenceKind.Older,
        ({ } item, [var row, ..]) when row.Version > item.Version => DifferenceKind.Newer,
        ({ } item, [var row, ..]) => row.Hash == item.Hash ? null : DifferenceKind.Different,
    };

    /// <summary>Whether time alone can make the sides equal: what is on its way arrives, these two do not become right.</summary>
    public static bool MayBeOnItsWay(DifferenceKind kind) => kind is not (DifferenceKind.Undecodable or DifferenceKind.Duplicate);
}
