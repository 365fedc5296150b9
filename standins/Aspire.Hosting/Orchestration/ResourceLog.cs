using System.Threading.Channels;

namespace Aspire.Hosting.Orchestration;

/// <summary>The newest lines of one resource, for its failure report and for the dashboard.</summary>
internal sealed class ResourceLog
{
    private const int LinesKept = 1000;

    private readonly Lock _lock = new();
    private readonly Queue<Line> _lines = [];
    private readonly List<Channel<Line>> _followers = [];
    private int _count;

    public void Add(string text, bool isError)
    {
        lock (_lock)
        {
            var line = new Line(++_count, text, isError);
            _lines.Enqueue(line);
            if (_lines.Count > LinesKept)
            {
                _lines.Dequeue();
            }

            _followers.ForEach(follower => follower.Writer.TryWrite(line));
        }
    }

    public IEnumerable<string> Last(int count)
    {
        lock (_lock)
        {
            return [.. _lines.TakeLast(count).Select(line => line.Text)];
        }
    }

    /// <summary>The kept lines, then new ones as they come if <paramref name="follow"/>.</summary>
    public async IAsyncEnumerable<Line> ReadAsync(
        bool follow, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        // A reader that is too slow loses the oldest lines, not the AppHost its memory.
        var channel = Channel.CreateBounded<Line>(new BoundedChannelOptions(LinesKept) { FullMode = BoundedChannelFullMode.DropOldest });
        Line[] kept;
        lock (_lock)
        {
            kept = [.. _lines];
            _followers.Add(channel);
        }

        try
        {
            foreach (var line in kept)
            {
                yield return line;
            }

            while (follow && await channel.Reader.WaitToReadAsync(cancellationToken))
            {
                while (channel.Reader.TryRead(out var line))
                {
                    yield return line;
                }
            }
        }
        finally
        {
            lock (_lock)
            {
                _followers.Remove(channel);
            }
        }
    }

    /// <summary>Numbers count from 1 since the AppHost started.</summary>
    internal sealed record Line(int Number, string Text, bool IsError);
}
