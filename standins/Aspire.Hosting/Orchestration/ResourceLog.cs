using System.Runtime.CompilerServices;

namespace Aspire.Hosting.Orchestration;

/// <summary>The newest lines of one resource, for its failure report and for the dashboard.</summary>
internal sealed class ResourceLog
{
    private const int LinesKept = 1000;

    private readonly Lock _lock = new();
    private readonly Queue<Line> _lines = [];
    private TaskCompletionSource _added = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _count;

    public void Add(string text, bool isError)
    {
        TaskCompletionSource added;
        lock (_lock)
        {
            _lines.Enqueue(new Line(++_count, text, isError));
            if (_lines.Count > LinesKept)
            {
                _lines.Dequeue();
            }

            (added, _added) = (_added, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        }

        added.SetResult();
    }

    public IEnumerable<string> Last(int count) => After(0).Lines.TakeLast(count).Select(line => line.Text);

    /// <summary>The kept lines, then new ones as they come; a reader that is too slow misses the oldest.</summary>
    public async IAsyncEnumerable<IReadOnlyList<Line>> ReadAsync(bool follow, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var last = 0;
        while (true)
        {
            var (lines, added) = After(last);
            if (lines.Count > 0)
            {
                last = lines[^1].Number;
                yield return lines;
            }
            else if (follow)
            {
                await added.WaitAsync(cancellationToken);
            }
            else
            {
                yield break;
            }
        }
    }

    private (IReadOnlyList<Line> Lines, Task Added) After(int number)
    {
        lock (_lock)
        {
            return ([.. _lines.SkipWhile(line => line.Number <= number)], _added.Task);
        }
    }

    /// <summary>Numbers count from 1 since the AppHost started.</summary>
    internal sealed record Line(int Number, string Text, bool IsError);
}
