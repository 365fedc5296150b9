using System.Diagnostics;
using System.Security.Cryptography;
using Npgsql;

namespace Pipeline.NativeServers;

/// <summary>
/// PostgreSQL on loopback, with a password of its own and one database. A data directory holds
/// <c>cluster/</c> (PostgreSQL's) and <c>password</c>.
/// </summary>
public static class PostgresServer
{
    private const string User = "postgres";

    /// <summary>Creates the cluster and the database unless they are there. Interrupted, it starts anew the next time.</summary>
    /// <exception cref="PrerequisiteException">No PostgreSQL runs here, or it is not the version that made the data.</exception>
    public static async Task InitializeAsync(string dataDirectory, string database, CancellationToken cancellationToken = default)
    {
        var tools = Prerequisites.Postgres();
        var cluster = Cluster(dataDirectory);
        var versionFile = Path.Combine(cluster, "PG_VERSION");
        if (File.Exists(versionFile))
        {
            var version = (await File.ReadAllTextAsync(versionFile, cancellationToken)).Trim();
            if (version != $"{tools.MajorVersion}")
            {
                throw new PrerequisiteException(
                    $"The data in {cluster} was made by PostgreSQL {version}, and {tools.Postgres} is version {tools.MajorVersion}. "
                    + "Start anew with --fresh, or install the former version.");
            }

            return;
        }

        Directory.CreateDirectory(dataDirectory);
        var passwordFile = PasswordFile(dataDirectory);
        await WritePrivateAsync(passwordFile, RandomNumberGenerator.GetHexString(32, lowercase: true), cancellationToken);

        var unfinished = cluster + ".unfinished";
        if (Directory.Exists(unfinished))
        {
            Directory.Delete(unfinished, recursive: true);
        }

        await RunAsync(
            tools.InitDb,
            [
                "-D", unfinished, "-U", User, "--auth=scram-sha-256", $"--pwfile={passwordFile}",
                // Interrupted by a power cut, it is made again: there is nothing to sync yet.
                "--encoding=UTF8", "--locale=C", "--no-sync",
            ],
            input: "",
            cancellationToken);
        // Single-user mode needs no server, no port and no password.
        await RunAsync(tools.Postgres, ["--single", "-D", unfinished, "postgres"], $"CREATE DATABASE {database}\n", cancellationToken);
        Directory.Move(unfinished, cluster);
    }

    /// <summary>The server over a data directory that <see cref="InitializeAsync"/> prepared.</summary>
    /// <param name="port">The port that it listens on.</param>
    /// <param name="dataDirectory">As it was prepared.</param>
    /// <param name="isDurable">False where nobody misses the data after a power cut: nothing waits for the disk then.</param>
    public static ServerDefinition Define(int port, string dataDirectory, bool isDurable = true)
    {
        string[] durability = isDurable ? [] : ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off"];
        var (fileName, arguments) = AsOrdinaryUser(
            Prerequisites.Postgres().Postgres,
            ["-D", Cluster(dataDirectory), "-p", $"{port}", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", .. durability]);
        var probe = new NpgsqlConnectionStringBuilder(ConnectionString(port, dataDirectory, "postgres")) { Pooling = false, Timeout = 5 };
        return new ServerDefinition(
            "PostgreSQL",
            port,
            new ServerCommand(fileName, arguments, Path.GetFullPath(dataDirectory)),
            async cancellationToken =>
            {
                await using var connection = new NpgsqlConnection(probe.ConnectionString);
                await connection.OpenAsync(cancellationToken);
            },
            // SIGTERM would wait for every client to leave.
            StopSignal.Interrupt);
    }

    public static string ConnectionString(int port, string dataDirectory, string database) => new NpgsqlConnectionStringBuilder
    {
        Host = "127.0.0.1",
        Port = port,
        Database = database,
        Username = User,
        Password = File.ReadAllText(PasswordFile(dataDirectory)).Trim(),
    }.ConnectionString;

    private static string Cluster(string dataDirectory) => Path.Combine(Path.GetFullPath(dataDirectory), "cluster");

    private static string PasswordFile(string dataDirectory) => Path.Combine(Path.GetFullPath(dataDirectory), "password");

    /// <summary>
    /// PostgreSQL refuses to run as root. In a user namespace that maps root to nobody it sees an ordinary user,
    /// no other account is needed, and the files stay root's.
    /// </summary>
    private static (string FileName, IReadOnlyList<string> Arguments) AsOrdinaryUser(string program, IReadOnlyList<string> arguments) =>
        !OperatingSystem.IsWindows() && Environment.IsPrivilegedProcess
            ? (Prerequisites.OnPath("unshare") ?? throw new PrerequisiteException(
                "PostgreSQL refuses to run as root, and there is no unshare (util-linux) to hide that from it. Run as an ordinary user."),
                ["--user", "--map-user=65534", "--map-group=65534", "--", program, .. arguments])
            : (program, arguments);

    private static async Task RunAsync(string program, IReadOnlyList<string> programArguments, string input, CancellationToken cancellationToken)
    {
        var (fileName, arguments) = AsOrdinaryUser(program, programArguments);
        using var process = Process.Start(new ProcessStartInfo(fileName, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        var output = process.StandardOutput.ReadToEndAsync(cancellationToken);
        var error = process.StandardError.ReadToEndAsync(cancellationToken);
        await process.StandardInput.WriteAsync(input.AsMemory(), cancellationToken);
        process.StandardInput.Close();
        await process.WaitForExitAsync(cancellationToken);
        // In single-user mode a failed statement is only told on stderr.
        if (process.ExitCode != 0 || (await error).Contains("ERROR:", StringComparison.Ordinal))
        {
            throw new InvalidOperationException(
                $"{Path.GetFileName(program)} failed (exit code {process.ExitCode}): {await output}{await error}"
                + (fileName == program ? "" : " (It ran under `unshare --user`, because this process is root; as an ordinary user it needs none.)"));
        }
    }

    private static async Task WritePrivateAsync(string file, string text, CancellationToken cancellationToken)
    {
        var options = new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        await using var writer = new StreamWriter(file, options);
        await writer.WriteAsync(text.AsMemory(), cancellationToken);
    }
}
