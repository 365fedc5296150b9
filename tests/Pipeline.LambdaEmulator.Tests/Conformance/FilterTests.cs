using System.Text;
using Pipeline.LambdaEmulator.EventSource;

namespace Pipeline.LambdaEmulator.Tests.Conformance;

/// <summary>FilterCriteria.</summary>
public sealed class FilterTests
{
    private const string DynamoDb = "Lambda developer guide: Using event filtering with a DynamoDB event source";

    private const string Record = """
        {"eventName":"MODIFY","dynamodb":{"Keys":{"Id":{"N":"101"}},"SizeBytes":26,
        "NewImage":{"Id":{"N":"101"},"Status":{"S":"shipped"},"City":{"S":"São Paulo"},"Note":{"S":""},"Gone":{"NULL":true},"Tags":{"SS":["red","blue"]}},
        "OldImage":{"Id":{"N":"101"},"Status":{"S":"paid"}}}}
        """;

    [Theory]
    [InlineData("""{"dynamodb":{"Keys":{"Id":{"N":["101"]}}}}""", true)]
    [InlineData("""{"dynamodb":{"Keys":{"Id":{"N":["102"]}}}}""", false)]
    [InlineData("""{"dynamodb":{"Keys":{"Id":{"N":[101]}}}}""", false)]
    [InlineData("""{"dynamodb":{"SizeBytes":[26]}}""", true)]
    [InlineData("""{"dynamodb":{"SizeBytes":[26.0]}}""", false)]
    [Rule(Pages.Filtering, "Equals: text by characters, numbers as they are written (300 and 300.0 are not equal); an attribute's number is a text.")]
    public void Equality_is_by_characters(string pattern, bool matches) => Matches(pattern, matches);

    [Theory]
    [InlineData("""{"eventName":["INSERT","MODIFY"]}""", true)]
    [InlineData("""{"eventName":["INSERT","REMOVE"]}""", false)]
    [Rule(Pages.Filtering, "Or: any of the values.", Choice = "The DynamoDB page says that only the key dynamodb can be filtered and shows eventName elsewhere; the other members are allowed.")]
    public void Several_values_are_alternatives(string pattern, bool matches) => Matches(pattern, matches);

    [Theory]
    [InlineData("""{"eventName":["MODIFY"],"dynamodb":{"NewImage":{"Status":{"S":["shipped"]}}}}""", true)]
    [InlineData("""{"eventName":["MODIFY"],"dynamodb":{"NewImage":{"Status":{"S":["paid"]}}}}""", false)]
    [Rule(Pages.Filtering, "And: every field of the pattern has to match; fields that are not in it are ignored.")]
    public void Several_fields_have_to_match_together(string pattern, bool matches) => Matches(pattern, matches);

    [Theory]
    [InlineData("""{"$or":[{"eventName":["REMOVE"]},{"dynamodb":{"SizeBytes":[26]}}]}""", true)]
    [InlineData("""{"$or":[{"eventName":["REMOVE"]},{"dynamodb":{"SizeBytes":[27]}}]}""", false)]
    [InlineData("""{"dynamodb":{"$or":[{"NewImage":{"Status":{"S":["shipped"]}}},{"OldImage":{"Status":{"S":["shipped"]}}}]}}""", true)]
    [Rule(Pages.Filtering, "Or (multiple fields): $or.")]
    public void Alternatives_over_several_fields(string pattern, bool matches) => Matches(pattern, matches);

    [Theory]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[{"prefix":"ship"}]}}}}""", true)]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[{"prefix":"Ship"}]}}}}""", false)]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[{"suffix":"ped"}]}}}}""", true)]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[{"suffix":"ship"}]}}}}""", false)]
    [Rule(Pages.Filtering, "Begins with, ends with.")]
    public void Beginnings_and_ends(string pattern, bool matches) => Matches(pattern, matches);

    [Theory]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[{"equals-ignore-case":"SHIPPED"}]}}}}""", true)]
    [InlineData("""{"dynamodb":{"NewImage":{"City":{"S":[{"equals-ignore-case":"SÃO PAULO"}]}}}}""", true)]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[{"equals-ignore-case":"paid"}]}}}}""", false)]
    [Rule(Pages.Filtering, "Equals (ignore case).")]
    public void Equality_without_case(string pattern, bool matches) => Matches(pattern, matches);

    [Theory]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[{"anything-but":["paid","created"]}]}}}}""", true)]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[{"anything-but":"shipped"}]}}}}""", false)]
    [InlineData("""{"dynamodb":{"NewImage":{"Missing":{"S":[{"anything-but":["paid"]}]}}}}""", false)]
    [Rule(Pages.Filtering, "Not: anything-but; the field has to be there.")]
    public void Anything_but_these(string pattern, bool matches) => Matches(pattern, matches);

    [Theory]
    [InlineData("""{"dynamodb":{"SizeBytes":[{"numeric":["=",26]}]}}""", true)]
    [InlineData("""{"dynamodb":{"SizeBytes":[{"numeric":["=",26.0]}]}}""", true)]
    [InlineData("""{"dynamodb":{"SizeBytes":[{"numeric":[">",20,"<=",26]}]}}""", true)]
    [InlineData("""{"dynamodb":{"SizeBytes":[{"numeric":[">",20,"<",26]}]}}""", false)]
    [InlineData("""{"dynamodb":{"SizeBytes":[{"numeric":[">=",27]}]}}""", false)]
    [Rule(Pages.Filtering, "Numeric (equals) and numeric (range).")]
    public void Numbers_are_compared(string pattern, bool matches) => Matches(pattern, matches);

    [Fact]
    [Rule(DynamoDb, "Numeric operators do not work on attributes: their numbers are texts in the record.")]
    public void A_numeric_rule_never_fits_an_attribute() =>
        Matches("""{"dynamodb":{"NewImage":{"Id":{"N":[{"numeric":["=",101]}]}}}}""", false);

    [Theory]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[{"exists":true}]}}}}""", true)]
    [InlineData("""{"dynamodb":{"NewImage":{"Missing":{"S":[{"exists":true}]}}}}""", false)]
    [InlineData("""{"dynamodb":{"NewImage":{"Missing":{"S":[{"exists":false}]}}}}""", true)]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[{"exists":false}]}}}}""", false)]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":[{"exists":true}]}}}""", false)]
    [Rule(DynamoDb, "Exists works on leaf nodes only: an attribute is an intermediate node.")]
    public void Existence_of_a_leaf(string pattern, bool matches) => Matches(pattern, matches);

    [Theory]
    [InlineData("""{"dynamodb":{"NewImage":{"Note":{"S":[""]}}}}""", true)]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[""]}}}}""", false)]
    [InlineData("""{"dynamodb":{"NewImage":{"Gone":{"NULL":[true]}}}}""", true)]
    [InlineData("""{"dynamodb":{"NewImage":{"Status":{"S":[null]}}}}""", false)]
    [Rule(Pages.Filtering, "Empty and null are values like others.")]
    public void Empty_and_null(string pattern, bool matches) => Matches(pattern, matches);

    [Fact]
    [Rule(Pages.Filtering, "Of an array in the record any element may match (EventBridge user guide: Event patterns).")]
    public void Any_element_of_an_array_may_match()
    {
        Matches("""{"dynamodb":{"NewImage":{"Tags":{"SS":["blue"]}}}}""", true);
        Matches("""{"dynamodb":{"NewImage":{"Tags":{"SS":["green"]}}}}""", false);
    }

    [Fact]
    [Rule(Pages.Filtering, "With several filters a record that satisfies any of them is sent.")]
    public void Any_of_several_filters_is_enough()
    {
        var filter = FilterCriteria.Parse(["""{"eventName":["REMOVE"]}""", """{"eventName":["MODIFY"]}"""])!;
        Assert.True(filter.Matches(Encoding.UTF8.GetBytes(Record)));
        Assert.Null(FilterCriteria.Parse([]));
    }

    [Theory]
    [InlineData("no json", "The filter pattern no json is not JSON: ")]
    [InlineData("[]", "In a filter pattern, the pattern has to be an object with members, or an array of rules.")]
    [InlineData("{}", "In a filter pattern, the pattern has to be an object with members, or an array of rules.")]
    [InlineData("""{"a":"b"}""", "In a filter pattern, the pattern.a has to be an object with members, or an array of rules.")]
    [InlineData("""{"a":[]}""", "In a filter pattern, the pattern.a has no rules.")]
    [InlineData("""{"a":[[1]]}""", "In a filter pattern, a rule of the pattern.a has to be a value or an object with one operator.")]
    [InlineData("""{"a":[{"prefix":1}]}""", "In a filter pattern, the pattern.a.prefix has to be a text.")]
    [InlineData("""{"a":[{"exists":1}]}""", "In a filter pattern, the pattern.a.exists is no operator of Lambda's with this operand.")]
    [InlineData("""{"a":[{"wildcard":"*"}]}""", "In a filter pattern, the pattern.a.wildcard is no operator of Lambda's with this operand.")]
    [InlineData("""{"a":[{"numeric":["~",1]}]}""", "In a filter pattern, the pattern.a.numeric has to be an array such as [\">\", 0, \"<=\", 5].")]
    [InlineData("""{"a":[{"numeric":[">"]}]}""", "In a filter pattern, the pattern.a.numeric has to be an array such as [\">\", 0, \"<=\", 5].")]
    [InlineData("""{"a":[{"anything-but":[]}]}""", "In a filter pattern, the pattern.a.anything-but has to be a text, a number or an array of them.")]
    [InlineData("""{"a":["\ud800"]}""", "The filter pattern {\"a\":[\"\\ud800\"]} is not JSON: ")]
    [InlineData("""{"$or":{}}""", "In a filter pattern, the pattern.$or has to be an array of patterns.")]
    [Rule(Pages.Filtering, "An invalid pattern is refused when the mapping is created.")]
    public void An_invalid_pattern_is_refused(string pattern, string message) =>
        Assert.StartsWith(message, Assert.Throws<ArgumentException>(() => FilterCriteria.Parse([pattern])).Message, StringComparison.Ordinal);

    [Fact]
    [Rule(Pages.Filtering, "Five filters per mapping, ten with a quota increase; a pattern has at most 4,096 characters.", Choice = "Which quota your account has is not known here: ten are taken.")]
    public void Too_many_filters_and_too_long_patterns_are_refused()
    {
        Assert.Equal(
            "FilterCriteria has 11 filters, but Lambda takes 10 at most.",
            Assert.Throws<ArgumentException>(() => FilterCriteria.Parse([.. Enumerable.Repeat("""{"a":[1]}""", 11)])).Message);
        Assert.Equal(
            "A filter pattern has 4097 characters, but Lambda takes 4096 at most.",
            Assert.Throws<ArgumentException>(() => FilterCriteria.Parse(["""{"a":[1]}""".PadRight(4097)])).Message);
    }

    [Fact]
    [Rule(Pages.Filtering, "A record that fits a filter is sent.", Choice = "Undocumented: a record whose text is none (half of a surrogate pair) is sent, as nothing could be compared with it; left out, it would be lost unseen.")]
    public void A_record_with_a_text_that_cannot_be_read_is_sent() =>
        Assert.True(FilterCriteria.Parse(["""{"Status":{"S":["paid"]}}"""])!.Matches("""{"Status":{"S":"\ud83d"}}"""u8.ToArray()));

    private static void Matches(string pattern, bool expected) =>
        Assert.Equal(expected, FilterCriteria.Parse([pattern])!.Matches(Encoding.UTF8.GetBytes(Record)));
}
