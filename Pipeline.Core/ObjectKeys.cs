using System.Globalization;
using System.IO.Hashing;
using System.Text;

namespace Pipeline.Core;

/// <summary>The keys of the objects in the pipeline's bucket.</summary>
public static class ObjectKeys
{
    /// <summary>
    /// <c>orders/changes/dt=YYYY-MM-DD/hour=HH/{first}-{last}-{digest}.parquet</c>. Date and hour are those of the
    /// batch's first change; the digest is over the event ids in order. So one batch always has one key: a
    /// retried PUT overwrites the object with the same bytes.
    /// </summary>
    /// <exception cref="ArgumentException"><paramref name="changes"/> is empty.</exception>
    public static string ChangeFile(IReadOnlyList<Change> changes)
    {
        if (changes.Count == 0)
        {
            throw new ArgumentException("A change file holds at least one change.", nameof(changes));
        }

        var digest = new XxHash128();
        foreach (var change in changes)
        {
            digest.Append(Encoding.UTF8.GetBytes(change.EventId));
            digest.Append("\n"u8);
        }

        var first = changes[0];
        return $"{ChangePartition(first.ChangedAt)}{first.SequenceNumber}-{changes[^1].SequenceNumber}-" +
               $"{Convert.ToHexStringLower(digest.GetCurrentHash())}.parquet";
    }

    /// <summary><c>orders/changes/dt=YYYY-MM-DD/hour=HH/</c> for an instant, in UTC.</summary>
    public static string ChangePartition(DateTimeOffset changedAt) =>
        string.Create(CultureInfo.InvariantCulture, $"{Names.ChangesPrefix}dt={changedAt.UtcDateTime:yyyy-MM-dd}/hour={changedAt.UtcDateTime:HH}/");

    /// <summary>The hour of the partition that a key lies in.</summary>
    public static bool TryHourOf(string key, out DateTimeOffset hour)
    {
        const string Form = "'dt='yyyy-MM-dd'/hour='HH'/'";
        const int Length = 22;
        hour = default;
        return key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal)
            && key.Length >= Names.ChangesPrefix.Length + Length
            && DateTimeOffset.TryParseExact(
                key.AsSpan(Names.ChangesPrefix.Length, Length), Form, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out hour);
    }

    /// <summary><c>orders/quarantine/dt=YYYY-MM-DD/{event_id}.json</c>, the date that of the change.</summary>
    public static string Quarantine(DateTimeOffset changedAt, string eventId) =>
        string.Create(CultureInfo.InvariantCulture, $"{Names.QuarantinePrefix}dt={changedAt.UtcDateTime:yyyy-MM-dd}/{Uri.EscapeDataString(eventId)}.json");
}
