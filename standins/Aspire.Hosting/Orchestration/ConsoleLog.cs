namespace Aspire.Hosting.Orchestration;

/// <summary>What all resources print, line by line, each with its resource's name before it.</summary>
internal sealed class ConsoleLog(TextWriter output)
{
    public const string Own = "apphost";

    // Readable on dark and light backgrounds: the standard colours without black, white, red (for errors) and their greys.
    private static readonly int[] Colours = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

    private readonly Lock _lock = new();
    private readonly Dictionary<string, int> _colourOf = [];
    private readonly bool _colour = ReferenceEquals(output, Console.Out) && !Console.IsOutputRedirected
        && Environment.GetEnvironmentVariable("NO_COLOR") is null or "";

    private int _width = Own.Length;

    /// <summary>Reserves the prefix's width and colour, so that the columns do not move later.</summary>
    public void Register(string name)
    {
        _colourOf[name] = Colours[_colourOf.Count % Colours.Length];
        _width = Math.Max(_width, name.Length);
    }

    public void Write(string name, string line)
    {
        lock (_lock)
        {
            var prefix = name.PadRight(_width);
            output.WriteLine(_colour ? $"\e[{_colourOf.GetValueOrDefault(name, 1)}m{prefix} |\e[0m {line}" : $"{prefix} | {line}");
        }
    }

    public void Info(string message) => Array.ForEach(message.Split('\n'), line => Write(Own, line));

    public void Error(string message) => Array.ForEach(message.Split('\n'), line => Write(Own, _colour ? $"\e[31m{line}\e[0m" : line));
}
