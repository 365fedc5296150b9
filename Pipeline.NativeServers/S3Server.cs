namespace Pipeline.NativeServers;

/// <summary>fauxqs: S3 and SQS in one process and on one port.</summary>
public static class S3Server
{
    private static readonly HttpClient Http = new() { Timeout = TimeSpan.FromSeconds(5) };

    /// <param name="port">The port that it listens on.</param>
    /// <param name="dataDirectory">Where objects and messages are kept, or null to keep them in memory.</param>
    public static ServerDefinition Define(int port, string? dataDirectory)
    {
        string[] storage = dataDirectory is null ? [] : [Directory.CreateDirectory(dataDirectory).FullName];
        return new ServerDefinition(
            "S3 and SQS server",
            port,
            new ServerCommand(
                NpmPackages.Node(),
                // Its SQLite is built into Node, and still called experimental there.
                ["--disable-warning=ExperimentalWarning", "s3-server.mjs", $"{port}", .. storage],
                NpmPackages.Root),
            async cancellationToken =>
            {
                using var response = await Http.GetAsync($"http://127.0.0.1:{port}/health", cancellationToken);
                response.EnsureSuccessStatusCode();
            },
            StopSignal.Terminate);
    }
}
