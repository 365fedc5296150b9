using System.Globalization;

/// <summary>
/// Runs inside the API's process, before its own code (DOTNET_STARTUP_HOOKS; the runtime asks for this very name, in no
/// namespace): answers each line of the input with how much the process has allocated so far. So the API is measured as it is
/// built, and needs no endpoint for it.
/// </summary>
internal static class StartupHook
{
    public const string Answer = "allocated bytes: ";

    public static void Initialize() => new Thread(() =>
    {
        while (Console.In.ReadLine() is not null)
        {
            // One write: lines of the log come on the same stream.
            Console.Out.Write(string.Create(CultureInfo.InvariantCulture, $"{Answer}{GC.GetTotalAllocatedBytes(precise: true)}\n"));
        }
    })
    { IsBackground = true, Name = "allocations" }.Start();
}
