using System.Globalization;
using System.IO.Hashing;
using Pipeline.Core;
using Pipeline.Loader;
using Pipeline.Processor;

namespace Pipeline.Simulation;

/// <summary>The bucket in memory: whole objects, the last write wins, listings are always up to date (S3 promises both).</summary>
internal sealed class Bucket(int pageSize)
{
    private readonly SortedList<string, ObjectContent> _objects = new(StringComparer.Ordinal);

    private readonly Dictionary<string, IReadOnlyList<string>> _quarantineAtListing = new(StringComparer.Ordinal);

    public IEnumerable<(string Key, ObjectContent Content)> Objects => _objects.Select(o => (o.Key, o.Value));

    public void Put(string key, ReadOnlyMemory<byte> bytes) =>
        _objects[key] = new ObjectContent(XxHash3.HashToUInt64(bytes.Span).ToString("x16", CultureInfo.InvariantCulture), bytes.ToArray());

    /// <summary>What was parked and what was discarded when the process last began to list the quarantine.</summary>
    public IReadOnlyList<string> QuarantineAtListing(Process process) => _quarantineAtListing.GetValueOrDefault(process.Name, []);

    public void Delete(string key) => _objects.Remove(key);

    public ObjectContent? Get(string key) => _objects.GetValueOrDefault(key);

    public ObjectPage List(Process process, string prefix, string? startAfter)
    {
        if (prefix == Names.QuarantinePrefix && startAfter is null)
        {
            _quarantineAtListing[process.Name] = [.. _objects.Keys.Where(Parking.Holds)];
        }

        var found = new List<ObjectInfo>();
        foreach (var (key, content) in _objects)
        {
            if (key.StartsWith(prefix, StringComparison.Ordinal) && string.CompareOrdinal(key, startAfter) > 0)
            {
                if (found.Count == pageSize)
                {
                    return new ObjectPage(found, IsTruncated: true);
                }

                found.Add(new ObjectInfo(key, content.ETag, content.Bytes.Length));
            }
        }

        return new ObjectPage(found, IsTruncated: false);
    }
}

/// <summary>The bucket as one process sees it: the writer's port for the function, the loader's for the loader.</summary>
internal sealed class BucketPort(Caller caller, Bucket bucket) : IObjectWriter, IObjectStore
{
    public Task PutAsync(
        string key, ReadOnlyMemory<byte> content, string contentType, IReadOnlyDictionary<string, string> metadata, CancellationToken cancellationToken)
    {
        // What is sent is what is in the buffer now.
        var bytes = content.ToArray();
        return caller.CallAsync(
            Port.Put, key,
            _ =>
            {
                caller.World.Count(key.StartsWith(Names.QuarantinePrefix, StringComparison.Ordinal) ? "object: parked"
                    : bucket.Get(key) is null ? "object: change file" : "object: change file written again");
                bucket.Put(key, bytes);
                return true;
            },
            message => new Processor.ObjectStoreException(message, new IOException(message)),
            cancellationToken);
    }

    /// <summary>The loader's and the operator's: what is parked, redriven and discarded.</summary>
    public Task PutAsync(string key, ReadOnlyMemory<byte> content, string contentType, CancellationToken cancellationToken)
    {
        var bytes = content.ToArray();
        return caller.CallAsync(
            Port.Put, key,
            _ =>
            {
                caller.World.Count(key.StartsWith(Names.QuarantinePrefix, StringComparison.Ordinal) ? "object: parked by the loader, or once more"
                    : key.StartsWith(Names.DiscardedPrefix, StringComparison.Ordinal) ? "object: discarded"
                    : ObjectKeys.IsCompacted(key) ? "object: compacted" : "object: redriven");
                bucket.Put(key, bytes);
                return true;
            },
            message => new Loader.ObjectStoreException(message),
            cancellationToken);
    }

    public Task DeleteAsync(string key, CancellationToken cancellationToken) => caller.CallAsync(
        Port.Delete, key,
        _ =>
        {
            caller.World.Count(key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal) ? "object: merged into another" : "object: left the quarantine");
            bucket.Delete(key);
            return true;
        },
        message => new Loader.ObjectStoreException(message),
        cancellationToken);

    public Task<ObjectPage> ListAsync(string prefix, string? startAfter, CancellationToken cancellationToken) =>
        caller.CallAsync(Port.List, prefix, _ => bucket.List(caller.Process, prefix, startAfter), message => new Loader.ObjectStoreException(message), cancellationToken);

    public Task<ObjectContent?> GetAsync(string key, CancellationToken cancellationToken) =>
        caller.CallAsync(Port.Get, key, _ => bucket.Get(key), message => new Loader.ObjectStoreException(message), cancellationToken);
}
