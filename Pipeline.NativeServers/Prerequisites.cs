using System.Diagnostics;
using System.Text.RegularExpressions;

namespace Pipeline.NativeServers;

/// <summary>A tool that is missing or too old; the message has the command that installs it.</summary>
public sealed class PrerequisiteException(string message) : Exception(message);

/// <summary>The tools of the machine that the native servers need. What was found is remembered for the process.</summary>
internal static partial class Prerequisites
{
    // The jar's classes are compiled for Java 11, its SQLite library is tried with 17 and 21.
    private const int JavaMajorMin = 17;

    // MERGE came with 15.
    private const int PostgresMajorMin = 15;

    private static readonly Lazy<string> JavaFound = new(FindJava);
    private static readonly Lazy<PostgresTools> PostgresFound = new(FindPostgres);

    public static string Java() => JavaFound.Value;

    public static PostgresTools Postgres() => PostgresFound.Value;

    private static string FindJava()
    {
        var home = Environment.GetEnvironmentVariable("JAVA_HOME");
        var java = home is null ? null : OnlyIfExecutable(Path.Combine(home, "bin", Executable("java")));
        java ??= OnPath("java");
        var version = java is null ? null : MajorVersion(java, "-version", JavaVersion());
        if (java is not null && version >= JavaMajorMin)
        {
            return java;
        }

        var found = java is null ? "there is no java on PATH" : version is null ? $"{java} does not run" : $"{java} is version {version}";
        throw new PrerequisiteException($"DynamoDB Local needs Java {JavaMajorMin} or newer, and {found}. Install it: " + InstallCommand(
            debian: "openjdk-17-jre-headless", fedora: "java-17-openjdk-headless", alpine: "openjdk17-jre-headless",
            homebrew: "openjdk@17", winget: "EclipseAdoptium.Temurin.17.JRE"));
    }

    /// <summary>The machine's own PostgreSQL if it is new enough, else the one from npm.</summary>
    private static PostgresTools FindPostgres()
    {
        string[] onPath = OnPath("postgres") is { } found ? [Path.GetDirectoryName(found)!] : [];
        var candidates = onPath
            .Concat(VersionedFolders("/usr/lib/postgresql"))
            .Concat(VersionedFolders("/usr/pgsql"))
            .Append("/opt/homebrew/opt/postgresql/bin");
        foreach (var folder in candidates)
        {
            var postgres = OnlyIfExecutable(Path.Combine(folder, Executable("postgres")));
            var initdb = OnlyIfExecutable(Path.Combine(folder, Executable("initdb")));
            if (postgres is not null && initdb is not null
                && MajorVersion(postgres, "--version", PostgresVersion()) is { } version && version >= PostgresMajorMin)
            {
                return new PostgresTools(initdb, postgres, version);
            }
        }

        var npm = NpmPackages.PostgresBin();
        var npmPostgres = Path.Combine(npm, Executable("postgres"));
        return MajorVersion(npmPostgres, "--version", PostgresVersion()) is { } npmVersion
            ? new PostgresTools(Path.Combine(npm, Executable("initdb")), npmPostgres, npmVersion)
            : throw new PrerequisiteException(
                $"There is no PostgreSQL {PostgresMajorMin} or newer on PATH, and the one from npm does not run here ({npmPostgres}). "
                + "Install one: " + InstallCommand(
                    debian: "postgresql", fedora: "postgresql-server", alpine: "postgresql",
                    homebrew: "postgresql@17", winget: "PostgreSQL.PostgreSQL.17"));
    }

    /// <summary>Debian keeps its versions in <c>/usr/lib/postgresql/17/bin</c>, Red Hat in <c>/usr/pgsql-17/bin</c>; newest first.</summary>
    private static IEnumerable<string> VersionedFolders(string prefix)
    {
        var parent = Path.GetDirectoryName(prefix)!;
        var folders = Directory.Exists(prefix) ? Directory.GetDirectories(prefix)
            : Directory.Exists(parent) ? Directory.GetDirectories(parent, Path.GetFileName(prefix) + "-*")
            : [];
        return folders
            .OrderByDescending(folder => int.TryParse(Path.GetFileName(folder).Split('-')[^1], out var version) ? version : 0)
            .Select(folder => Path.Combine(folder, "bin"));
    }

    internal static string? OnPath(string tool) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
        .Select(folder => OnlyIfExecutable(Path.Combine(folder, Executable(tool))))
        .FirstOrDefault(file => file is not null);

    private static string Executable(string tool) => OperatingSystem.IsWindows() ? tool + ".exe" : tool;

    // A symbolic link that points nowhere exists, too.
    private static string? OnlyIfExecutable(string file) =>
        File.Exists(file) && File.ResolveLinkTarget(file, returnFinalTarget: true) is not { Exists: false }
        && (OperatingSystem.IsWindows() || (File.GetUnixFileMode(file) & UnixFileMode.UserExecute) != 0) ? file : null;

    /// <returns>The major version that the tool names, or null when it does not run.</returns>
    private static int? MajorVersion(string tool, string argument, Regex pattern)
    {
        using var process = Process.Start(new ProcessStartInfo(tool, argument)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        // Both are a line or three: no pipe fills up while the other is read.
        var output = process.StandardOutput.ReadToEnd() + process.StandardError.ReadToEnd();
        process.WaitForExit();
        var match = pattern.Match(output);
        return process.ExitCode == 0 && match.Success ? int.Parse(match.Groups[1].ValueSpan, provider: null) : null;
    }

    private static string InstallCommand(string debian, string fedora, string alpine, string homebrew, string winget) =>
        OperatingSystem.IsWindows() ? $"winget install {winget}"
        : OperatingSystem.IsMacOS() ? $"brew install {homebrew}"
        : OnPath("apt-get") is not null ? $"sudo apt-get install {debian}"
        : OnPath("dnf") is not null ? $"sudo dnf install {fedora}"
        : OnPath("apk") is not null ? $"sudo apk add {alpine}"
        : $"your package manager's equivalent of Debian's {debian}";

    // openjdk version "17.0.15" 2025-04-15; Java 8 calls itself 1.8.
    [GeneratedRegex("version \"(?:1\\.)?(\\d+)")]
    private static partial Regex JavaVersion();

    // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    [GeneratedRegex(@"\(PostgreSQL\) (\d+)")]
    private static partial Regex PostgresVersion();
}

/// <summary>The two programs of a PostgreSQL and its major version.</summary>
internal sealed record PostgresTools(string InitDb, string Postgres, int MajorVersion);
