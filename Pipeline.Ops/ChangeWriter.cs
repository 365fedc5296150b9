using Pipeline.Core;
using Pipeline.Loader;

namespace Pipeline.Ops;

/// <summary>
/// Collects changes into change files under the ordinary prefix, in the hour in which they are written, where the loader
/// finds them like all others: it looks at the last hours once a minute, and at all there are only a few times a day. The
/// same changes in the same order and hour give the same keys and bytes.
/// </summary>
/// <param name="objects">The bucket.</param>
/// <param name="time">The clock.</param>
/// <param name="rowsMax">Changes of a file.</param>
internal sealed class ChangeWriter(IObjectStore objects, TimeProvider time, int rowsMax = ChangeWriter.RowsMax)
{
    /// <summary>Changes of a file: large enough that ten million orders are a thousand files, small enough for one short load.</summary>
    public const int RowsMax = 10_000;

    /// <summary>Characters of documents after which a file is closed, so that large items do not fill the memory: 32 Mi.</summary>
    private const long TextMax = 32L << 20;

    private readonly List<Change> _changes = [];
    private readonly List<string> _keys = [];
    private long _text;
    private long _rows;

    /// <summary>Added and not written yet.</summary>
    public int Buffered => _changes.Count;

    /// <summary>The files that were written and not taken, and how many rows they have.</summary>
    public (IReadOnlyList<string> Keys, long Rows) TakeWritten()
    {
        (IReadOnlyList<string>, long) written = ([.. _keys], _rows);
        _keys.Clear();
        _rows = 0;
        return written;
    }

    public async Task AddAsync(IEnumerable<Change> changes, CancellationToken cancellationToken)
    {
        foreach (var change in changes)
        {
            _changes.Add(change);
            _text += change.Document.Length;
            if (_changes.Count == rowsMax || _text >= TextMax)
            {
                await FlushAsync(cancellationToken);
            }
        }
    }

    /// <summary>Returns when all that was added is stored.</summary>
    public async Task FlushAsync(CancellationToken cancellationToken)
    {
        if (_changes.Count == 0)
        {
            return;
        }

        using var file = new MemoryStream();
        await ChangeFile.WriteAsync(_changes, file, cancellationToken);
        var key = ObjectKeys.ChangeFile(_changes, time.GetUtcNow());
        await objects.PutAsync(key, file.GetBuffer().AsMemory(0, (int)file.Length), ChangeFile.ContentType, cancellationToken);
        _keys.Add(key);
        _rows += _changes.Count;
        _changes.Clear();
        _text = 0;
    }
}
