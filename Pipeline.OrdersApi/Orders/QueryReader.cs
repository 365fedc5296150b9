using System.Globalization;

namespace Pipeline.OrdersApi.Orders;

/// <summary>The parameters of a URL, and everything that is wrong with them.</summary>
internal sealed class QueryReader
{
    private readonly IQueryCollection _query;
    private readonly List<InvalidInput> _faults;

    /// <param name="query">What the caller sent.</param>
    /// <param name="known">The names of all parameters that there are.</param>
    public QueryReader(IQueryCollection query, params string[] known)
    {
        _query = query;
        _faults = [.. query.Keys.Except(known).Order(StringComparer.Ordinal).Select(name => new InvalidInput("is not a known parameter", Parameter: name))];
    }

    public IReadOnlyList<InvalidInput> Faults => _faults;

    public void Fault(string parameter, string detail) => _faults.Add(new InvalidInput(detail, Parameter: parameter));

    /// <summary>Null when it is not there; of several, which are a fault, the first.</summary>
    public string? Single(string name)
    {
        var values = _query[name];
        if (values.Count > 1)
        {
            Fault(name, "must be given once");
        }

        return values.FirstOrDefault();
    }

    /// <param name="name">The parameter.</param>
    /// <param name="least">Its least value, and what a faulty one is taken for.</param>
    /// <param name="most">Its greatest value.</param>
    /// <param name="otherwise">What it is when it is not there; null: it must be.</param>
    public int Whole(string name, int least, int most, int? otherwise = null)
    {
        var text = Single(name);
        if (text is null && otherwise is { } value)
        {
            return value;
        }

        if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most)
        {
            return number;
        }

        Fault(name, string.Create(CultureInfo.InvariantCulture, $"must be a whole number from {least} to {most}"));
        return least;
    }
}
