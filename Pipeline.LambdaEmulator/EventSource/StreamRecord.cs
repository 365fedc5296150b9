namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>One record of a shard, already in the form in which a function receives it.</summary>
/// <param name="SequenceNumber">Decimal digits; rises within a shard.</param>
/// <param name="ItemHash">The same for all records of one item (partition and sort key); decides the lane.</param>
/// <param name="CreatedAt">When the change was made, as the stream says; age limits count from here.</param>
/// <param name="Json">The record as an element of the event's <c>Records</c>.</param>
public sealed record StreamRecord(string SequenceNumber, ulong ItemHash, DateTimeOffset CreatedAt, ReadOnlyMemory<byte> Json);
