namespace Pipeline.Core;

/// <summary>What a change did to the item.</summary>
public enum Operation
{
    Insert,
    Modify,
    Remove,

    /// <summary>
    /// No record of the stream: the image was read from the table itself, by a backfill or a repair
    /// (docs/decisions/0008-reading-the-table-itself.md).
    /// </summary>
    Snapshot,
}

/// <summary>
/// One stream record, decoded: a typed value that cannot be wrong, so nothing behind it checks again. The
/// order's fields are those of the new image, for a removal those of the old one; each is null when the item
/// (written by something other than the Orders API) has no such attribute.
/// </summary>
/// <remarks>
/// Which change wins for an order: the greater (<see cref="Version"/>, <see cref="SequenceNumber"/>) within one
/// life of the order; a removal ends a life, and whatever has a greater sequence number than the removal wins
/// over everything before it (docs/decisions/0004-which-change-wins.md). Never a timestamp.
/// </remarks>
public sealed record Change
{
    public required string OrderId { get; init; }

    /// <summary>The item's <c>version</c>; 0 for an item without one. For a removal, that of the removed image.</summary>
    public required long Version { get; init; }
    public required SequenceNumber SequenceNumber { get; init; }

    /// <summary>The stream's own id of the record, the same at every delivery; for a snapshot a hash of it.</summary>
    public required string EventId { get; init; }
    public required Operation Operation { get; init; }

    /// <summary>
    /// ApproximateCreationDateTime: whole seconds on AWS, whole minutes in DynamoDB Local. For a snapshot, when the
    /// reading of the table began.
    /// </summary>
    public required DateTimeOffset ChangedAt { get; init; }
    public string? TraceParent { get; init; }

    public string? MerchantId { get; init; }
    public string? CustomerId { get; init; }
    public OrderStatus? Status { get; init; }
    public string? Currency { get; init; }

    /// <summary>At most 16 digits before the point and two after it: DECIMAL(18, 2) in Parquet and SQL.</summary>
    public decimal? TotalAmount { get; init; }
    public DateTimeOffset? CreatedAt { get; init; }
    public DateTimeOffset? UpdatedAt { get; init; }

    /// <summary>
    /// The whole image as canonical JSON (UTF-8 text): object keys in ordinal order, no white space, numbers as
    /// DynamoDB writes them, sets as sorted arrays, binary as base64. <c>{}</c> for a removal whose old image does not
    /// fit the warehouse.
    /// </summary>
    public required string Document { get; init; }
}
