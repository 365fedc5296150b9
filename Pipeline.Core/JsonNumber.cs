namespace Pipeline.Core;

/// <summary>
/// Numbers as DynamoDB writes them: up to 38 digits, with an exponent when they are long, so neither double nor
/// decimal holds them all. They are kept as text, and a typed field is taken from the text exactly or not at all.
/// </summary>
public static class JsonNumber
{
    /// <summary>Whether the text is a number in the grammar of RFC 8259, section 6, and nothing else.</summary>
    public static bool IsValid(ReadOnlySpan<char> text)
    {
        var rest = text is ['-', ..] ? text[1..] : text;
        var whole = DigitCount(rest);
        if (whole == 0 || (whole > 1 && rest[0] == '0'))
        {
            return false;
        }

        rest = rest[whole..];
        if (rest is ['.', ..])
        {
            var fraction = DigitCount(rest[1..]);
            if (fraction == 0)
            {
                return false;
            }

            rest = rest[(1 + fraction)..];
        }

        if (rest is ['e' or 'E', ..])
        {
            rest = rest[1..];
            rest = rest is ['+' or '-', ..] ? rest[1..] : rest;
            return rest.Length > 0 && DigitCount(rest) == rest.Length;
        }

        return rest.IsEmpty;
    }

    /// <summary>
    /// The number times 10^<paramref name="scale"/>, when that is a whole number of at most 18 digits. Never
    /// rounds: 10.001 at scale 2 is refused, and so is a fraction too small for a decimal to see.
    /// </summary>
    /// <param name="number">A valid JSON number in UTF-8.</param>
    /// <param name="scale">0 for a whole number, 2 for money.</param>
    /// <param name="scaled">The result; 0 when there is none.</param>
    public static bool TryScale(ReadOnlySpan<byte> number, int scale, out long scaled)
    {
        const int DigitsMax = 18;
        scaled = 0;

        var negative = number is [(byte)'-', ..];
        var exponentAt = number.IndexOfAny((byte)'e', (byte)'E');
        var mantissa = number[(negative ? 1 : 0)..(exponentAt < 0 ? number.Length : exponentAt)];

        // An exponent beyond five digits is far outside of what DynamoDB stores (-130 to 125).
        var exponent = 0;
        if (exponentAt >= 0)
        {
            var text = number[(exponentAt + 1)..];
            text = text is [(byte)'+', ..] ? text[1..] : text;
            if (text.Length > 6 || !int.TryParse(text, System.Globalization.CultureInfo.InvariantCulture, out exponent))
            {
                return false;
            }
        }

        // Value = digits × 10^(exponent − digits after the point). Zeros at the end of the digits move into the
        // power; what is left of a negative power after that is a fraction that the scale does not hold.
        var point = mantissa.IndexOf((byte)'.');
        var power = exponent + scale - (point < 0 ? 0 : mantissa.Length - point - 1);
        var digits = 0;
        var pendingZeros = 0;
        long value = 0;
        foreach (var c in mantissa)
        {
            if (c == '.')
            {
                continue;
            }

            if (c == '0')
            {
                pendingZeros += value == 0 ? 0 : 1;
                continue;
            }

            digits += (value == 0 ? 0 : pendingZeros) + 1;
            if (digits > DigitsMax)
            {
                return false;
            }

            for (; pendingZeros > 0; pendingZeros--)
            {
                value *= 10;
            }

            value = (value * 10) + (c - '0');
        }

        if (value == 0)
        {
            return true;
        }

        power += pendingZeros;
        if (power < 0 || digits + power > DigitsMax)
        {
            return false;
        }

        for (; power > 0; power--)
        {
            value *= 10;
        }

        scaled = negative ? -value : value;
        return true;
    }

    private static int DigitCount(ReadOnlySpan<char> text)
    {
        var end = text.IndexOfAnyExceptInRange('0', '9');
        return end < 0 ? text.Length : end;
    }
}
