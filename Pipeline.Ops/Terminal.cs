using Spectre.Console;

namespace Pipeline.Ops;

internal static class Terminal
{
    /// <param name="forPeopleOnly">Standard output belongs to a program: what people read goes to standard error.</param>
    public static IAnsiConsole Create(bool forPeopleOnly)
    {
        var writer = forPeopleOnly ? Console.Error : Console.Out;
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer) });
        if (forPeopleOnly ? Console.IsErrorRedirected : Console.IsOutputRedirected)
        {
            // A file or a pipe has no width; the library's guess of 80 would break the tables' lines.
            console.Profile.Width = 160;
        }

        return console;
    }
}
