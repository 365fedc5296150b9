namespace Pipeline.Core;

/// <summary>
/// A DynamoDB Streams sequence number: a decimal string of up to 40 digits (the API reference of StreamRecord
/// says 21 to 40) that grows within a shard. Kept zero-padded to 40 digits, so that text order is number order
/// in object keys, Parquet files and SQL alike.
/// </summary>
public readonly record struct SequenceNumber : IComparable<SequenceNumber>
{
    public const int Digits = 40;

    private readonly string? _padded;

    private SequenceNumber(string padded) => _padded = padded;

    /// <exception cref="FormatException">Not 1 to 40 decimal digits.</exception>
    public static SequenceNumber Parse(string? text) => TryParse(text, out var value)
        ? value
        : throw new FormatException($"A sequence number has 1 to {Digits} decimal digits.");

    public static bool TryParse(string? text, out SequenceNumber value)
    {
        var valid = text is { Length: > 0 and <= Digits } && !text.AsSpan().ContainsAnyExceptInRange('0', '9');
        value = valid ? new SequenceNumber(text!.PadLeft(Digits, '0')) : default;
        return valid;
    }

    public int CompareTo(SequenceNumber other) => string.CompareOrdinal(ToString(), other.ToString());

    /// <summary>The padded form, always 40 digits.</summary>
    public override string ToString() => _padded ?? new string('0', Digits);

    public static bool operator <(SequenceNumber left, SequenceNumber right) => left.CompareTo(right) < 0;
    public static bool operator >(SequenceNumber left, SequenceNumber right) => left.CompareTo(right) > 0;
    public static bool operator <=(SequenceNumber left, SequenceNumber right) => left.CompareTo(right) <= 0;
    public static bool operator >=(SequenceNumber left, SequenceNumber right) => left.CompareTo(right) >= 0;
}
