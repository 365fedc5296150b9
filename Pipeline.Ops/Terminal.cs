using System.Globalization;
using Spectre.Console;

namespace Pipeline.Ops;

internal static class Terminal
{
    /// <summary>Of one attempt of a request to AWS: a page of a scan on a busy machine takes seconds.</summary>
    public static readonly TimeSpan RequestTimeout = TimeSpan.FromSeconds(30);

    /// <summary>With the SDK's growing pauses some half a minute of throttling is sat out.</summary>
    public const int RequestRetries = 8;

    // Often enough to see that it goes on, seldom enough for a log file.
    private static readonly TimeSpan LineEvery = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan BarEvery = TimeSpan.FromMilliseconds(100);

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

    /// <summary>Shows how far the work is: a bar on a terminal, a line now and then elsewhere.</summary>
    /// <param name="console">Where.</param>
    /// <param name="work">What is waited for.</param>
    /// <param name="done">How much is done.</param>
    /// <param name="of">Of how much, as far as is known yet; 0 when nothing is.</param>
    /// <param name="describe">The line beside the bar.</param>
    public static async Task<T> WatchAsync<T>(IAnsiConsole console, Task<T> work, Func<long> done, Func<long> of, Func<string> describe)
    {
        if (!console.Profile.Capabilities.Interactive)
        {
            while (await Task.WhenAny(work, Task.Delay(LineEvery, CancellationToken.None)) != work)
            {
                console.WriteLine(describe());
            }

            return await work;
        }

        await console.Progress()
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
            .StartAsync(async progress =>
            {
                var bar = progress.AddTask("");
                do
                {
                    await Task.WhenAny(work, Task.Delay(BarEvery, CancellationToken.None));
                    bar.IsIndeterminate = of() == 0;
                    bar.MaxValue = Math.Max(Math.Max(of(), done()), 1);
                    bar.Value = done();
                    bar.Description = Markup.Escape(describe());
                }
                while (!work.IsCompleted);
            });
        return await work;
    }

    /// <summary>
    /// Runs a command's action. What is away or refuses is one line on standard error; a defect is shown with its stack.
    /// </summary>
    /// <param name="failed">The exit code for both.</param>
    /// <param name="action">Gives the exit code.</param>
    public static async Task<int> GuardAsync(int failed, Func<Task<int>> action)
    {
        try
        {
            return await action();
        }
        catch (OperationCanceledException e)
        {
            // The SDK's own timeouts are cancellations as well.
            await Console.Error.WriteLineAsync($"Stopped: {e.Message}");
            return failed;
        }
        catch (Exception e)
        {
            await Console.Error.WriteLineAsync(OperatorException.IsExpected(e) ? e.Message : e.ToString());
            return failed;
        }
    }

    public static OperatorException NoWarehouse() => new(string.Create(
        CultureInfo.InvariantCulture,
        $"It is not known where the warehouse is: give its connection string with --warehouse or {Options.WarehouseSetting}, or start an AppHost here."));
}
