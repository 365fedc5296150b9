namespace Pipeline.NativeServers;

/// <summary>
/// AWS's own DynamoDB Local with Streams. It has no option to listen on loopback alone; see
/// docs/decisions/0002-native-servers.md for this and for what it does differently from AWS.
/// </summary>
public static class DynamoDbLocal
{
    private static readonly HttpClient Http = new() { Timeout = TimeSpan.FromSeconds(5) };

    /// <summary>Region and account id of its ARNs and stream ARNs, whatever the client says.</summary>
    public const string ArnRegion = "ddblocal";

    /// <param name="port">The port that it listens on.</param>
    /// <param name="dataDirectory">Where the tables and streams are kept, or null to keep them in memory.</param>
    /// <param name="isShortLived">It runs for a minute or two, as a test's does: it starts sooner, and is slower at its fastest.</param>
    /// <exception cref="PrerequisiteException">Java is missing or too old.</exception>
    public static ServerDefinition Define(int port, string? dataDirectory, bool isShortLived = false)
    {
        var folder = Path.Combine(NpmPackages.Folder("amplify-dynamodb-simulator"), "emulator");
        string[] storage = ["-inMemory"];
        if (dataDirectory is not null)
        {
            storage = ["-dbPath", Directory.CreateDirectory(dataDirectory).FullName];
        }

        // The second compiler and a collector with threads of its own need more time than such a server has.
        string[] machine = isShortLived ? ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"] : [];
        return new ServerDefinition(
            "DynamoDB Local",
            port,
            new ServerCommand(
                Prerequisites.Java(),
                [
                    .. machine, "-Djava.library.path=./DynamoDBLocal_lib",
                    "-jar", "DynamoDBLocal.jar", "-disableTelemetry", .. storage, "-port", $"{port}",
                ],
                folder),
            async cancellationToken =>
            {
                // An unsigned request gets an error from the server itself: it is up.
                using var response = await Http.GetAsync($"http://127.0.0.1:{port}/", cancellationToken);
            },
            StopSignal.Terminate);
    }
}
