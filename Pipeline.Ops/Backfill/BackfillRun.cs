using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Serialization;
using Pipeline.Core;
using Pipeline.Loader;

namespace Pipeline.Ops.Backfill;

/// <summary>Where the items of a backfill come from: the table itself, or an export of it.</summary>
internal interface IBackfillSource
{
    Task<BackfillSource> DescribeAsync(CancellationToken cancellationToken);

    /// <summary>The items of a part, from behind a place in it.</summary>
    /// <param name="part">Counts from 0.</param>
    /// <param name="parts">How many there are.</param>
    /// <param name="after">A <see cref="BackfillPage.After"/>; null for the beginning.</param>
    /// <param name="readAt">When the backfill began: the time of the snapshots.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    IAsyncEnumerable<BackfillPage> ReadAsync(int part, int parts, string? after, DateTimeOffset readAt, CancellationToken cancellationToken);
}

/// <param name="Id">Tells this source from all others: a state of another one is of no use.</param>
/// <param name="Parts">How many parts it has, if it has parts of its own; null when it can be divided at will.</param>
/// <param name="ItemsAbout">For a progress bar.</param>
internal sealed record BackfillSource(string Id, int? Parts, long ItemsAbout);

/// <param name="Items">Decoded, or refused.</param>
/// <param name="After">Where the part can be gone on with behind this page; null when only from its beginning.</param>
internal sealed record BackfillPage(IReadOnlyList<TableItem> Items, string? After);

/// <summary>How far a backfill is; an object in the bucket, so that any machine can go on.</summary>
internal sealed record BackfillState
{
    public required string Source { get; init; }
    public required DateTimeOffset StartedAt { get; init; }
    public DateTimeOffset? FinishedAt { get; set; }
    public required IReadOnlyList<BackfillPart> Parts { get; init; }
}

internal sealed class BackfillPart
{
    /// <summary>What is stored of the part; null for nothing.</summary>
    public string? After { get; set; }
    public bool IsDone { get; set; }
    public long Snapshots { get; set; }
    public long Undecodable { get; set; }
    public long Files { get; set; }
}

/// <param name="Snapshots">Items that are in change files now.</param>
/// <param name="Files">The change files.</param>
/// <param name="Undecodable">Items that the pipeline can make no change of.</param>
/// <param name="Examples">Some of those, and why.</param>
/// <param name="Resumed">It went on with an interrupted one.</param>
/// <param name="Seconds">Of this run.</param>
internal sealed record BackfillReport(
    long Snapshots, long Files, long Undecodable, IReadOnlyList<UndecodableItem> Examples, bool Resumed, double Seconds);

internal sealed record UndecodableItem(string OrderId, string Reason);

/// <summary>
/// Table → change files, while changes flow: each item becomes a snapshot, which by its rank never overwrites a change
/// (docs/decisions/0008-reading-the-table-itself.md), in files that the loader finds like all others. They lie in the hour in which they are
/// written, however long the backfill takes, under keys that begin with the sequence number zero, which no file of the stream has. What is
/// stored is noted after it is stored: an interrupted run reads the items behind the last note again, and gives the same
/// changes where they did not change, in the same hour also under the same keys.
/// </summary>
/// <param name="objects">The pipeline's bucket.</param>
/// <param name="source">What is read.</param>
/// <param name="parallelism">Parts that are read at once.</param>
/// <param name="stateKey">Where it is noted how far it is.</param>
/// <param name="time">The clock.</param>
/// <param name="rowsPerFile">Snapshots of a change file.</param>
internal sealed class BackfillRun(
    IObjectStore objects, IBackfillSource source, int parallelism, string stateKey, TimeProvider time, int rowsPerFile = ChangeWriter.RowsMax) : IDisposable
{
    private const int ExamplesMax = 20;

    private readonly SemaphoreSlim _saving = new(1);
    private readonly List<UndecodableItem> _examples = [];
    private BackfillState? _state;

    public long ItemsAbout { get; private set; }

    public long Items => _state?.Parts.Sum(part => part.Snapshots + part.Undecodable) ?? 0;

    /// <param name="restart">Forget an interrupted run.</param>
    /// <param name="cancellationToken">Interrupts it; it can be gone on with.</param>
    public async Task<BackfillReport> RunAsync(bool restart, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        var description = await source.DescribeAsync(cancellationToken);
        ItemsAbout = description.ItemsAbout;
        var state = restart ? null : await ReadStateAsync(description.Id, cancellationToken);
        var isResumed = state is not null;
        _state = state ??= new BackfillState
        {
            Source = description.Id,
            StartedAt = ChangeDecoder.ToMicroseconds(time.GetUtcNow()),
            Parts = [.. Enumerable.Range(0, description.Parts ?? parallelism).Select(_ => new BackfillPart())],
        };
        await SaveAsync(() => { }, cancellationToken);
        await Parallel.ForAsync(
            0,
            state.Parts.Count,
            new ParallelOptions { MaxDegreeOfParallelism = parallelism, CancellationToken = cancellationToken },
            async (part, ct) => await ReadPartAsync(state, part, ct));
        await SaveAsync(() => state.FinishedAt = ChangeDecoder.ToMicroseconds(time.GetUtcNow()), cancellationToken);
        return new BackfillReport(
            state.Parts.Sum(part => part.Snapshots),
            state.Parts.Sum(part => part.Files),
            state.Parts.Sum(part => part.Undecodable),
            _examples,
            isResumed,
            Math.Round(time.GetElapsedTime(started).TotalSeconds, 3));
    }

    public void Dispose() => _saving.Dispose();

    private async Task ReadPartAsync(BackfillState state, int number, CancellationToken cancellationToken)
    {
        var part = state.Parts[number];
        if (part.IsDone)
        {
            return;
        }

        var writer = new ChangeWriter(objects, time, rowsPerFile);
        long undecodable = 0;
        await foreach (var page in source.ReadAsync(number, state.Parts.Count, part.After, state.StartedAt, cancellationToken))
        {
            foreach (var item in page.Items.Where(item => item.Change is null))
            {
                undecodable++;
                Note(item);
            }

            await writer.AddAsync(page.Items.Select(item => item.Change).OfType<Change>(), cancellationToken);

            // The note and the end of a file go together, so that going on gives the same files.
            if (page.After is { } after && writer.Buffered + page.Items.Count > rowsPerFile)
            {
                await NoteAsync(after);
            }
        }

        await NoteAsync(after: null);

        // Only when the file is stored: whichever part notes next writes down all of them.
        async Task NoteAsync(string? after)
        {
            await writer.FlushAsync(cancellationToken);
            var (keys, rows) = writer.TakeWritten();
            await SaveAsync(
                () =>
                {
                    part.After = after;
                    part.IsDone = after is null;
                    part.Snapshots += rows;
                    part.Files += keys.Count;
                    part.Undecodable += undecodable;
                },
                cancellationToken);
            undecodable = 0;
        }
    }

    private void Note(TableItem item)
    {
        lock (_examples)
        {
            if (_examples.Count < ExamplesMax)
            {
                _examples.Add(new UndecodableItem(item.OrderId, item.Undecodable!));
            }
        }
    }

    /// <summary>Null when there is none, it is finished, or it is of another table.</summary>
    private async Task<BackfillState?> ReadStateAsync(string sourceId, CancellationToken cancellationToken)
    {
        if (await objects.GetAsync(stateKey, cancellationToken) is not { } content)
        {
            return null;
        }

        try
        {
            var state = JsonSerializer.Deserialize(content.Bytes, BackfillJsonContext.Default.BackfillState);
            return state is { FinishedAt: null } && state.Source == sourceId ? state : null;
        }
        catch (JsonException e)
        {
            throw new OperatorException($"{stateKey} is no state of a backfill: {e.Message} Remove it, or begin anew with --restart.", e);
        }
    }

    /// <param name="note">Changes the state; no part's note is half in what another one saves.</param>
    /// <param name="cancellationToken">Ends it before the note or within the PUT.</param>
    private async Task SaveAsync(Action note, CancellationToken cancellationToken)
    {
        await _saving.WaitAsync(cancellationToken);
        try
        {
            note();
            await objects.PutAsync(
                stateKey, JsonSerializer.SerializeToUtf8Bytes(_state!, BackfillJsonContext.Default.BackfillState), "application/json", cancellationToken);
        }
        finally
        {
            _saving.Release();
        }
    }
}

/// <summary>The table, scanned in parallel segments.</summary>
internal sealed class TableSource(OrderTable table, PersonalDataProtector protector) : IBackfillSource
{
    public async Task<BackfillSource> DescribeAsync(CancellationToken cancellationToken)
    {
        var description = await table.DescribeAsync(cancellationToken);
        return new BackfillSource($"{description.Arn} {description.Id}", Parts: null, description.ItemsAbout);
    }

    public async IAsyncEnumerable<BackfillPage> ReadAsync(
        int part, int parts, string? after, DateTimeOffset readAt, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var page in table.ScanAsync(part, parts, after, cancellationToken))
        {
            yield return new BackfillPage([.. page.Items.Select(item => TableItem.Decode(item, SequenceNumber.Zero, readAt, protector))], page.LastKey);
        }
    }
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    WriteIndented = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    RespectNullableAnnotations = true)]
[JsonSerializable(typeof(BackfillState))]
[JsonSerializable(typeof(BackfillReport))]
internal sealed partial class BackfillJsonContext : JsonSerializerContext;
