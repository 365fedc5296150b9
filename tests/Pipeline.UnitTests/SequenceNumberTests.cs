using Pipeline.Core;

namespace Pipeline.UnitTests;

public class SequenceNumberTests
{
    private const string Padded = "0000000000000000001000000000000000000005";

    [Fact]
    public void Shorter_numbers_are_padded_and_text_order_is_number_order()
    {
        Assert.Equal(Padded, SequenceNumber.Parse("1000000000000000000005").ToString());
        Assert.True(SequenceNumber.Parse("9") < SequenceNumber.Parse("10"));
    }

    [Fact]
    public void The_default_is_zero_and_before_every_other()
    {
        Assert.Equal(SequenceNumber.Parse("0"), default);
        Assert.Equal(SequenceNumber.Parse("0").GetHashCode(), SequenceNumber.Zero.GetHashCode());
        Assert.True(SequenceNumber.Zero < SequenceNumber.Zero.Next());
        Assert.True(SequenceNumber.Zero.Next() < SequenceNumber.Parse("1"));
    }

    [Fact]
    public void Directly_after_a_change_lies_before_the_next_of_the_stream_and_is_read_back()
    {
        var change = SequenceNumber.Parse(Padded);
        var first = change.Next();
        var second = first.Next();

        Assert.Equal(Padded + ".000001", first.ToString());
        Assert.Equal(Padded + ".000002", second.ToString());
        SequenceNumber[] expected = [change, first, second, SequenceNumber.Parse("1000000000000000000006")];
        Assert.Equal(expected, expected.Reverse().Order());
        Assert.Equal(expected, expected.OrderBy(number => number.ToString(), StringComparer.Ordinal));
        Assert.Equal(second, SequenceNumber.Parse(second.ToString()));
    }

    [Fact]
    public void The_last_counter_has_no_next() =>
        Assert.Throws<InvalidOperationException>(() => SequenceNumber.Parse(Padded + ".999999").Next());

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("-1")]
    [InlineData("1x")]
    [InlineData("1.000001")]
    [InlineData(Padded + "0")]
    [InlineData(Padded + ".")]
    [InlineData(Padded + ".000000")]
    [InlineData(Padded + ".00001")]
    [InlineData(Padded + ".0000001")]
    [InlineData(Padded + ".00000a")]
    [InlineData(Padded + "-000001")]
    [InlineData("000000000000000000100000000000000000000x.000001")]
    public void Anything_else_is_refused(string? text) => Assert.False(SequenceNumber.TryParse(text, out _));
}
