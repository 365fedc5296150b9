using CsCheck;
using Pipeline.Core;

namespace Pipeline.UnitTests;

/// <summary>Changes for tests: one by one, and any at all for property tests.</summary>
internal static class Changes
{
    private static readonly DateTimeOffset Start = new(2026, 11, 24, 8, 0, 0, TimeSpan.Zero);

    public static Change Change(int n, string orderId = "o-1", string? eventId = null) => new()
    {
        OrderId = orderId,
        Version = n,
        SequenceNumber = SequenceNumber.Parse($"1000000000000000000{n:D5}"),
        EventId = eventId ?? $"event-{n}",
        Operation = Operation.Modify,
        ChangedAt = Start.AddSeconds(n),
        Status = OrderStatus.Approved,
        Currency = "BRL",
        TotalAmount = 10.50m,
        UpdatedAt = Start.AddSeconds(n).AddMilliseconds(123),
        Document = $$"""{"order_id":"{{orderId}}","version":{{n}}}""",
    };

    private static readonly Gen<DateTimeOffset> Time =
        Gen.Long[DateTimeOffset.MinValue.Ticks / 10, DateTimeOffset.MaxValue.Ticks / 10].Select(us => new DateTimeOffset(us * 10, TimeSpan.Zero));

    /// <summary>Any text that a change may hold: without U+0000, and valid Unicode.</summary>
    private static readonly Gen<string> Text = Gen.String[Gen.OneOf(Gen.Char['\u0001', '\u00ff'], Gen.Char['\u0100', '\ud7ff'], Gen.Char['\ue000', '\uffff']), 0, 40];

    /// <summary>Those of the stream, and those directly after one.</summary>
    private static readonly Gen<SequenceNumber> Sequence = Gen.Select(Gen.ULong, Gen.Int[0, 2], (number, after) =>
    {
        var sequence = SequenceNumber.Parse(number.ToString(System.Globalization.CultureInfo.InvariantCulture));
        for (; after > 0; after--)
        {
            sequence = sequence.Next();
        }

        return sequence;
    });

    private static readonly Gen<Change> AnyChange =
        Gen.Select(
            Gen.Select(Text, Gen.Long[0, long.MaxValue], Sequence, Text, Gen.Enum<Operation>(), Time),
            Gen.Select(Gen.Null(Text), Gen.Null(Text), Gen.Null(Text), Gen.Nullable(Gen.Enum<OrderStatus>()), Gen.Null(Text)),
            Gen.Select(Gen.Nullable(Gen.Long[-999_999_999_999_999_999, 999_999_999_999_999_999]), Gen.Nullable(Time), Gen.Nullable(Time), Text),
            (key, texts, rest) => new Change
            {
                OrderId = key.Item1,
                Version = key.Item2,
                SequenceNumber = key.Item3,
                EventId = key.Item4,
                Operation = key.Item5,
                ChangedAt = key.Item6,
                TraceParent = texts.Item1,
                MerchantId = texts.Item2,
                CustomerId = texts.Item3,
                Status = texts.Item4,
                Currency = texts.Item5,
                TotalAmount = rest.Item1 / 100.00m,
                CreatedAt = rest.Item2,
                UpdatedAt = rest.Item3,
                Document = rest.Item4,
            });

    public static readonly Gen<Change[]> AnyBatch = AnyChange.Array[1, 30];
}
