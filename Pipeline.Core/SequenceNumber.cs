using System.Globalization;

namespace Pipeline.Core;

/// <summary>
/// A DynamoDB Streams sequence number: a decimal string of up to 40 digits (the API reference of StreamRecord
/// says 21 to 40) that grows within a shard. Kept zero-padded to 40 digits, so that text order is number order
/// in object keys, Parquet files and SQL alike.
/// </summary>
/// <remarks>
/// A change that does not come from the stream needs a rank among those that do: a point and a counter of six
/// digits behind the 40 mean "directly after that one". Such a number lies before the next one of the stream and is
/// never equal to any, and text order is still the order. The stream begins far above zero, so
/// <see cref="Zero"/> ranks before everything.
/// </remarks>
public readonly record struct SequenceNumber : IComparable<SequenceNumber>
{
    public const int Digits = 40;

    /// <summary>For error messages.</summary>
    public const string Form = "40 decimal digits, or those with a point and six more behind them";

    private const int CounterDigits = 6;
    private const int CounterMax = 999_999;

    private static readonly string ZeroText = new('0', Digits);

    private readonly string? _text;

    private SequenceNumber(string text) => _text = text;

    /// <summary>Before every change of the stream; also the default value.</summary>
    public static SequenceNumber Zero => default;

    /// <exception cref="FormatException">Neither 1 to 40 decimal digits nor 40 with a counter.</exception>
    public static SequenceNumber Parse(string? text) => TryParse(text, out var value)
        ? value
        : throw new FormatException($"A sequence number has 1 to {Digits} decimal digits, or {Digits} with a point and {CounterDigits} more behind them.");

    public static bool TryParse(string? text, out SequenceNumber value)
    {
        value = default;
        if (text is not { Length: > 0 })
        {
            return false;
        }

        if (text.Length <= Digits)
        {
            if (text.AsSpan().ContainsAnyExceptInRange('0', '9'))
            {
                return false;
            }

            value = new SequenceNumber(text.PadLeft(Digits, '0'));
            return true;
        }

        // Counters begin at 1: what is "directly after by nothing" would be a second form of the same number.
        if (text.Length != Digits + 1 + CounterDigits || text[Digits] != '.'
            || text.AsSpan(0, Digits).ContainsAnyExceptInRange('0', '9')
            || text.AsSpan(Digits + 1).ContainsAnyExceptInRange('0', '9')
            || !text.AsSpan(Digits + 1).ContainsAnyExcept('0'))
        {
            return false;
        }

        value = new SequenceNumber(text);
        return true;
    }

    /// <summary>Directly after this one, and before whatever the stream has next.</summary>
    /// <exception cref="InvalidOperationException">There are 999,999 directly after the same stream change already.</exception>
    public SequenceNumber Next()
    {
        var text = ToString();
        var counter = text.Length == Digits ? 0 : int.Parse(text.AsSpan(Digits + 1), CultureInfo.InvariantCulture);
        return counter < CounterMax
            ? new SequenceNumber(string.Create(CultureInfo.InvariantCulture, $"{text.AsSpan(0, Digits)}.{counter + 1:D6}"))
            : throw new InvalidOperationException($"No sequence number is left directly after {text}.");
    }

    public int CompareTo(SequenceNumber other) => string.CompareOrdinal(ToString(), other.ToString());

    /// <summary>40 digits, with a counter 47 characters.</summary>
    public override string ToString() => _text ?? ZeroText;

    /// <summary>By text: the default value is the same as a parsed zero.</summary>
    public bool Equals(SequenceNumber other) => ToString() == other.ToString();

    public override int GetHashCode() => string.GetHashCode(ToString(), StringComparison.Ordinal);

    public static bool operator <(SequenceNumber left, SequenceNumber right) => left.CompareTo(right) < 0;
    public static bool operator >(SequenceNumber left, SequenceNumber right) => left.CompareTo(right) > 0;
    public static bool operator <=(SequenceNumber left, SequenceNumber right) => left.CompareTo(right) <= 0;
    public static bool operator >=(SequenceNumber left, SequenceNumber right) => left.CompareTo(right) >= 0;
}
