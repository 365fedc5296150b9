using System.Globalization;
using System.IO.Hashing;
using System.Text;
using Bogus;
using Pipeline.Core;

namespace Pipeline.Ops.Seed;

/// <summary>
/// Made-up people: the data has none, and the pipeline must be tried with something that looks personal. The same id
/// is the same person, on every machine and in every run. Not for several threads at once.
/// </summary>
internal sealed class People
{
    // One for all: to make one costs milliseconds.
    private readonly Faker _faker = new("pt_BR");

    public Customer Of(string id)
    {
        _faker.Random = new Randomizer(Seed(id));
        var (first, last) = (_faker.Name.FirstName(), _faker.Name.LastName());
        return new Customer
        {
            CustomerId = id,
            Name = $"{first} {last}",
            // A domain that is nobody's (RFC 2606), in case these ever meet a mail server.
            Email = _faker.Internet.Email(first, last, "example.com").ToLowerInvariant(),
            Document = Cpf(_faker.Random),
            City = _faker.Address.City(),
            State = _faker.Address.State(),
        };
    }

    public static int Seed(string text) => unchecked((int)XxHash32.HashToUInt32(Encoding.UTF8.GetBytes(text)));

    /// <summary>Nine digits and two check digits: each the weighted sum of those before it, modulo 11 (10 counts as 0).</summary>
    private static string Cpf(Randomizer random)
    {
        var digits = random.Digits(9).ToList();
        for (var check = 0; check < 2; check++)
        {
            digits.Add(digits.Select((digit, index) => digit * (digits.Count + 1 - index)).Sum() * 10 % 11 % 10);
        }

        var text = string.Concat(digits.Select(digit => digit.ToString(CultureInfo.InvariantCulture)));
        return $"{text[..3]}.{text[3..6]}.{text[6..9]}-{text[9..]}";
    }
}
