using System.Globalization;
using System.IO.Hashing;
using System.Text;

namespace Pipeline.Core;

/// <summary>The keys of the objects in the pipeline's bucket.</summary>
public static class ObjectKeys
{
    /// <summary>A key's segment may be 255 characters long in some S3 servers that keep files; ids of AWS have 32.</summary>
    private const int EventIdMax = 200;

    private const string FileEnding = ".parquet";
    private const string CompactedEnding = ".compacted.parquet";

    /// <summary>
    /// <c>orders/changes/dt=YYYY-MM-DD/hour=HH/{first}-{last}-{digest}.parquet</c>. Date and hour are those of the
    /// batch's first change; the digest is over the event ids in order. So one batch always has one key: a
    /// retried PUT overwrites the object with the same bytes.
    /// </summary>
    /// <exception cref="ArgumentException"><paramref name="changes"/> is empty.</exception>
    public static string ChangeFile(IReadOnlyList<Change> changes) => ChangeFile(changes, changes.Count > 0 ? changes[0].ChangedAt : default);

    /// <summary>The same in another hour: for changes that lie before that in which the loader gets to know of them.</summary>
    /// <exception cref="ArgumentException"><paramref name="changes"/> is empty.</exception>
    public static string ChangeFile(IReadOnlyList<Change> changes, DateTimeOffset hour) => changes.Count > 0
        ? ChangeFile(changes[0], changes[^1], hour, changes.Select(c => c.EventId))
        : throw new ArgumentException("A change file holds at least one change.", nameof(changes));

    /// <summary>
    /// The key of a change file with changes that are brought back from quarantine: like any other, but in the hour of the
    /// redrive, where the loader looks often, and with the tries and the time in the digest: the ledger must not know it
    /// from an earlier redrive, or it would never be loaded.
    /// </summary>
    /// <param name="changes">With the number of tries of each.</param>
    /// <param name="at">When they are brought back.</param>
    /// <exception cref="ArgumentException"><paramref name="changes"/> is empty.</exception>
    public static string RedriveFile(IReadOnlyList<(Change Change, int Attempt)> changes, DateTimeOffset at) =>
        ChangeFile(
            changes.Count > 0 ? changes[0].Change : throw new ArgumentException("A change file holds at least one change.", nameof(changes)),
            changes[^1].Change,
            at,
            changes.Select(c => string.Create(CultureInfo.InvariantCulture, $"{c.Change.EventId} {c.Attempt} {at.UtcTicks}")));

    /// <summary>
    /// <c>orders/changes/dt=…/hour=HH/{first}-{last}-{digest}.compacted.parquet</c>: the changes of several files of that hour. The
    /// same changes give the same key, and never that of a batch. The digest is over the content, since a change may be there in
    /// two forms with one event id: the file with the one form must not be written over that with the other.
    /// </summary>
    /// <param name="changes">At least one.</param>
    /// <param name="hour">In which partition.</param>
    /// <param name="content">The file's bytes.</param>
    public static string CompactedFile(IReadOnlyList<Change> changes, DateTimeOffset hour, ReadOnlySpan<byte> content)
    {
        var digest = new XxHash128();
        digest.Append(content);
        return $"{ChangeFile(changes[0].SequenceNumber, changes[^1].SequenceNumber, hour, digest)[..^FileEnding.Length]}{CompactedEnding}";
    }

    public static bool IsCompacted(string key) => key.EndsWith(CompactedEnding, StringComparison.Ordinal);

    private static string ChangeFile(Change first, Change last, DateTimeOffset hour, IEnumerable<string> identities)
    {
        var digest = new XxHash128();
        foreach (var identity in identities)
        {
            AppendIdentity(digest, Encoding.UTF8.GetBytes(identity));
        }

        return ChangeFile(first.SequenceNumber, last.SequenceNumber, hour, digest);
    }

    internal static void AppendIdentity(XxHash128 digest, ReadOnlySpan<byte> identity)
    {
        digest.Append(identity);
        digest.Append("\n"u8);
    }

    /// <param name="first">Of the first change.</param>
    /// <param name="last">Of the last change.</param>
    /// <param name="hour">In which partition.</param>
    /// <param name="digest">To which the identity of every change was appended.</param>
    internal static string ChangeFile(SequenceNumber first, SequenceNumber last, DateTimeOffset hour, XxHash128 digest) =>
        $"{ChangePartition(hour)}{first}-{last}-{Convert.ToHexStringLower(digest.GetCurrentHash())}{FileEnding}";

    /// <summary><c>orders/changes/dt=YYYY-MM-DD/hour=HH/</c> for an instant, in UTC.</summary>
    public static string ChangePartition(DateTimeOffset changedAt) =>
        string.Create(CultureInfo.InvariantCulture, $"{Names.ChangesPrefix}dt={changedAt.UtcDateTime:yyyy-MM-dd}/hour={changedAt.UtcDateTime:HH}/");

    /// <summary>The event id of a change that the stream has none for: the same for the same state of the order at the same rank.</summary>
    public static string SnapshotId(Change change)
    {
        var digest = new XxHash128();
        digest.Append(Encoding.UTF8.GetBytes($"{change.OrderId}\n{change.SequenceNumber}\n{Core.ChangeFile.NameOf(change.Operation)}\n"));
        digest.Append(Encoding.UTF8.GetBytes(change.Document));
        return $"snapshot-{Convert.ToHexStringLower(digest.GetCurrentHash())}";
    }

    /// <summary><c>orders/backfill/{table}.json</c>: how far the backfill of a table is.</summary>
    public static string BackfillState(string table) => $"{Names.BackfillPrefix}{table}.json";

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

    /// <summary>
    /// <c>orders/quarantine/dt=YYYY-MM-DD/{event_id}.json</c>, the date that of the change. Where the event id is missing
    /// or unusable, the hash of <paramref name="identity"/> takes its place.
    /// </summary>
    /// <param name="changedAt">When the change happened; null when that cannot be read.</param>
    /// <param name="eventId">The stream's id of the record.</param>
    /// <param name="identity">What tells this record from all others without an id.</param>
    public static string Quarantine(DateTimeOffset? changedAt, string? eventId, ReadOnlySpan<byte> identity)
    {
        var name = Uri.EscapeDataString(eventId ?? "");
        name = name is { Length: > 0 and <= EventIdMax } ? name : $"no-event-id-{Convert.ToHexStringLower(XxHash128.Hash(identity))}";
        return string.Create(
            CultureInfo.InvariantCulture, $"{Names.QuarantinePrefix}dt={(changedAt ?? DateTimeOffset.UnixEpoch).UtcDateTime:yyyy-MM-dd}/{name}.json");
    }

    /// <summary>The place of a change in quarantine.</summary>
    public static string Quarantine(Change change) => Quarantine(
        change.ChangedAt, change.EventId, Encoding.UTF8.GetBytes($"{change.OrderId}\n{change.SequenceNumber}"));

    /// <summary><c>orders/discarded/dt=YYYY-MM-DD/{event_id}.json</c>: where the record of a discarded change goes, named as in quarantine.</summary>
    /// <exception cref="ArgumentException"><paramref name="quarantineKey"/> is not in quarantine.</exception>
    public static string Discarded(string quarantineKey) => quarantineKey.StartsWith(Names.QuarantinePrefix, StringComparison.Ordinal)
        ? Names.DiscardedPrefix + quarantineKey[Names.QuarantinePrefix.Length..]
        : throw new ArgumentException($"{quarantineKey} does not begin with {Names.QuarantinePrefix}.", nameof(quarantineKey));
}
