using System.Globalization;
using System.Numerics;
using System.Text;
using System.Text.Json;
using CsCheck;
using Pipeline.Core;

namespace Pipeline.UnitTests;

public class JsonNumberTests
{
    /// <summary>Text that looks like numbers: every mixture of sign, digits, point and exponent.</summary>
    private static readonly Gen<string> NumberLike = Gen.String[Gen.Char["0123456789-+.eE"], 0, 12];

    private static readonly Gen<string> Number =
        Gen.Select(
            Gen.OneOf("", "-"),
            Gen.String[Gen.Char["0123456789"], 1, 22],
            Gen.String[Gen.Char["0009123"], 0, 8],
            Gen.OneOf("", "E+1", "e2", "E-1", "E-3", "E+17", "E-20", "E0"),
            (sign, whole, fraction, exponent) =>
                $"{sign}{(whole.TrimStart('0') is { Length: > 0 } digits ? digits : "0")}{(fraction.Length > 0 ? "." + fraction : "")}{exponent}");

    [Fact]
    public void Valid_is_exactly_what_the_JSON_reader_takes_as_a_number() => NumberLike.Sample(text =>
    {
        Assert.Equal(IsJsonNumber(text), JsonNumber.IsValid(text));
    }, iter: 20_000);

    [Fact]
    public void A_scaled_number_is_exact_or_refused() => Gen.Select(Number, Gen.OneOf(0, 2)).Sample((text, scale) =>
    {
        Assert.True(JsonNumber.IsValid(text), text);
        var expected = Exact(text, scale);
        var taken = JsonNumber.TryScale(Encoding.UTF8.GetBytes(text), scale, out var scaled);

        Assert.True(taken == expected.HasValue, text);
        Assert.Equal(expected ?? 0, scaled);
    }, iter: 50_000);

    [Theory]
    [InlineData("1E+99999999999")]
    [InlineData("1E-99999999999")]
    [InlineData("1E400")]
    [InlineData("0.00999999999999999999999999999999995")]
    [InlineData("99999999999999999999999999999999999999")]
    public void A_number_beyond_every_type_is_refused(string text) =>
        Assert.False(JsonNumber.TryScale(Encoding.UTF8.GetBytes(text), 2, out _));

    private static bool IsJsonNumber(string text)
    {
        try
        {
            var reader = new Utf8JsonReader(Encoding.UTF8.GetBytes(text));
            return reader.Read() && reader.TokenType == JsonTokenType.Number && !reader.Read();
        }
        catch (JsonException)
        {
            return false;
        }
    }

    /// <summary>The number times 10^scale in arithmetic without limits; null when it is no whole number of at most 18 digits.</summary>
    private static long? Exact(string text, int scale)
    {
        var parts = text.Split('e', 'E');
        var mantissa = parts[0].Split('.');
        var fraction = mantissa.Length > 1 ? mantissa[1] : "";
        var value = BigInteger.Parse(mantissa[0].TrimStart('-') + fraction, CultureInfo.InvariantCulture);
        var power = (parts.Length > 1 ? int.Parse(parts[1], CultureInfo.InvariantCulture) : 0) - fraction.Length + scale;
        if (power < 0)
        {
            value = BigInteger.DivRem(value, BigInteger.Pow(10, -power), out var rest);
            if (!rest.IsZero)
            {
                return null;
            }
        }
        else
        {
            value *= BigInteger.Pow(10, power);
        }

        return value >= BigInteger.Pow(10, 18) ? null : (long)(text.StartsWith('-') ? -value : value);
    }
}
