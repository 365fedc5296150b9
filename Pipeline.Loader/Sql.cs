using System.Collections.Concurrent;

namespace Pipeline.Loader;

/// <summary>
/// The statements of Sql/*, embedded in the assembly: a dialect's own in its folder, what the dialects share in
/// <c>shared</c>.
/// </summary>
internal static class Sql
{
    private static readonly ConcurrentDictionary<(string Dialect, string Name), IReadOnlyList<string>> Files = new();

    /// <summary>The statements of one file, in turn: Redshift takes one at a time (github.com/npgsql/npgsql/issues/1067).</summary>
    /// <exception cref="InvalidOperationException">There is no such file.</exception>
    public static IReadOnlyList<string> Read(string dialect, string name) => Files.GetOrAdd((dialect, name), Load);

    private static IReadOnlyList<string> Load((string Dialect, string Name) file)
    {
        var (dialect, name) = file;
        using var stream = typeof(Sql).Assembly.GetManifestResourceStream($"Sql/{dialect}/{name}.sql")
            ?? typeof(Sql).Assembly.GetManifestResourceStream($"Sql/shared/{name}.sql")
            ?? throw new InvalidOperationException($"Neither Sql/{dialect}/{name}.sql nor Sql/shared/{name}.sql is embedded in the assembly.");
        using var reader = new StreamReader(stream);
        return Statements(reader.ReadToEnd());
    }

    /// <summary>A statement ends with a semicolon at the end of a line. Lines that are a comment are left out.</summary>
    public static IReadOnlyList<string> Statements(string script)
    {
        var code = script.Split('\n').Select(line => line.TrimEnd()).Where(line => !line.TrimStart().StartsWith("--", StringComparison.Ordinal));
        return [.. string.Join('\n', code)
            .Split([";\n"], StringSplitOptions.None)
            .Select(statement => statement.Trim().TrimEnd(';'))
            .Where(statement => statement.Length > 0)];
    }
}
