using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Pipeline.LambdaEmulator.Tests;

namespace Pipeline.Bench;

/// <summary>The scripted stream in a process of its own, so that its work and memory are not those of what is measured.</summary>
internal sealed class StreamServer : IAsyncDisposable
{
    private const string Verb = "scripted-stream";

    private readonly Process _process;

    private StreamServer(Process process, Uri url)
    {
        _process = process;
        Url = url;
    }

    public Uri Url { get; }

    /// <summary>The shard that holds all records, numbered from 1.</summary>
    public static string Shard => "shardId-00000000000000000000-00000000";

    public static Command Command()
    {
        var records = new Option<int>("--records") { Required = true };
        var command = new Command(Verb, "Serves a stream with this many records until its input ends.") { Hidden = true, Options = { records } };
        command.SetAction(async (parsed, _) =>
        {
            await using var stream = await ScriptedStream.StartAsync();
            stream.AddShard(Shard);
            stream.Write(Shard, [.. Enumerable.Range(1, parsed.GetRequiredValue(records))]);
            Console.WriteLine(stream.Url);
            // Whoever started it keeps its input open, so that it does not outlive them.
            await Console.In.ReadToEndAsync(CancellationToken.None);
            return 0;
        });
        return command;
    }

    public static async Task<StreamServer> StartAsync(int records)
    {
        var process = Dotnet.Start(typeof(StreamServer).Assembly.Location, [Verb, "--records", records.ToString(CultureInfo.InvariantCulture)], new Dictionary<string, string>());
        var url = await process.StandardOutput.ReadLineAsync() ?? throw new InvalidOperationException("The scripted stream did not start.");
        return new StreamServer(process, new Uri(url));
    }

    public async ValueTask DisposeAsync()
    {
        _process.StandardInput.Close();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }
}
