using System.Diagnostics;
using System.Reflection;
using System.Text.Json;
using System.Text.RegularExpressions;
using Pipeline.Core;

namespace Pipeline.Loader.Tests.Redshift;

/// <summary>
/// Every statement that is sent to Redshift is parsed by a parser that somebody else wrote, and its syntax tree held
/// against what Redshift's developer guide has. A parser of many dialects lets through what only PostgreSQL knows, so
/// functions, types and operators are lists of what may be used; each rule is shown to catch what it is there for.
/// </summary>
public partial class RedshiftSqlTests(PostgresFixture postgres)
{
    private static readonly string[] Kinds = ["Copy", "CreateTable", "CreateView", "Delete", "Drop", "Insert", "Lock", "Query", "Set", "Update"];

    /// <summary>None of them runs on the leader node only ("Leader node-only functions"), as NOW and SUBSTR do.</summary>
    private static readonly string[] Functions =
        ["can_json_parse", "coalesce", "count", "json_parse", "json_typeof", "lead", "max", "md5", "min", "row_number", "sum", "to_char"];

    /// <summary>Not TEXT, which is VARCHAR(256), nor arrays, JSON or serial numbers, which are not there.</summary>
    private static readonly string[] Types = ["BigInt", "Boolean", "Integer", "Numeric", "SUPER", "Timestamp", "Varchar"];

    private static readonly string[] Operators = ["And", "Eq", "Gt", "GtEq", "NotEq", "Or", "Plus"];

    /// <summary>Parts of a syntax tree that PostgreSQL has and Redshift has not, or not so.</summary>
    private static readonly string[] Foreign =
    [
        "AllOp", "AnyOp", "Array", "AtTimeZoneInterval", "Collate", "Collation", "Derived.lateral", "Function.filter", "Insert.on", "Insert.returning",
        "Merge", "Select.named_window", "Table.args", "TableFunction", "Truncate", "UNNEST", "Values.explicit_row",
    ];

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Every_statement_is_sent_by_the_loader_and_is_one_that_Redshift_has()
    {
        var sent = await SentAsync();
        var written = Written().ToList();
        Assert.True(written.Count > 35);
        Assert.Empty(written.Except(sent));
        Assert.Empty((await ParseAsync([.. sent])).SelectMany(parsed => Complaints(parsed)));
    }

    [Theory]
    [InlineData("SELEC 1", "syntax")]
    [InlineData("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", "Insert.on")]
    [InlineData("COPY t FROM STDIN (FORMAT BINARY)", "STDIN")]
    [InlineData("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = s.b WHEN NOT MATCHED THEN INSERT (a) VALUES (s.a)", "Merge")]
    [InlineData("TRUNCATE t", "Truncate")]
    [InlineData("SELECT a FROM unnest($1, $2) AS f (a, b)", "unnest")]
    [InlineData("SELECT a FROM t WHERE a = ANY ($1)", "AnyOp")]
    [InlineData("SELECT ARRAY[1, 2]", "Array")]
    [InlineData("SELECT g FROM t CROSS JOIN LATERAL (SELECT t.a AS g) s", "lateral")]
    [InlineData("SELECT g.a FROM t, json_array_elements(t.b) AS g", "json_array_elements")]
    [InlineData("SELECT document -> 'items' FROM t", "Arrow")]
    [InlineData("SELECT sum(a) OVER w FROM t WINDOW w AS (PARTITION BY b)", "named_window")]
    [InlineData("SELECT count(*) FILTER (WHERE a > 1) FROM t", "filter")]
    [InlineData("INSERT INTO t VALUES (1) RETURNING a", "returning")]
    [InlineData("INSERT INTO t SELECT now() FROM s", "now")]
    [InlineData("SELECT current_timestamp FROM t", "current_timestamp")]
    [InlineData("SELECT substr(a, 1, 4) FROM t", "substr")]
    [InlineData("SELECT a FROM t ORDER BY a COLLATE \"C\"", "Collate")]
    [InlineData("CREATE TABLE t (a text)", "Text")]
    [InlineData("CREATE TABLE t (a jsonb)", "JSONB")]
    [InlineData("CREATE TABLE t (a bigserial)", "bigserial")]
    [InlineData("SELECT CAST(a AS json) FROM t", "JSON")]
    [InlineData("VACUUM t", "Vacuum")]
    public async Task What_only_PostgreSQL_has_is_noticed(string statement, string what)
    {
        var complaints = Complaints((await ParseAsync([statement])).Single()).ToList();
        Assert.Contains(complaints, complaint => complaint.Contains(what, StringComparison.OrdinalIgnoreCase));
    }

    /// <summary>The statements of the files, in the form in which they are compared.</summary>
    private static IEnumerable<string> Written()
    {
        var assembly = typeof(Sql).Assembly;
        foreach (var name in assembly.GetManifestResourceNames().Where(n => n.StartsWith("Sql/redshift/", StringComparison.Ordinal) || n.StartsWith("Sql/shared/", StringComparison.Ordinal)))
        {
            using var reader = new StreamReader(assembly.GetManifestResourceStream(name)!);
            foreach (var statement in Sql.Statements(reader.ReadToEnd()))
            {
                yield return Comparable(statement);
            }
        }

        foreach (var statement in RedshiftMigrator.Scripts.SelectMany(script => script.Statements))
        {
            yield return Comparable(statement);
        }
    }

    /// <summary>Everything that the loader sends when it migrates, loads, parks, holds back, releases and fails.</summary>
    private async Task<IReadOnlySet<string>> SentAsync()
    {
        await using var redshift = await RedshiftDatabase.CreateAsync(postgres);
        using var harness = new Harness(redshift.Warehouse, redshift.Objects);
        await redshift.Objects.PutAsync(
        [
            Changes.Change("o-1", 1, 1), Changes.Change("o-1", 1, 1),
            Changes.Change("o-2", 2, 1) with { MerchantId = new string('m', 3_000) }, Changes.Change("o-2", 3, 2), Changes.Change("o-2", 4, 3),
        ]);
        await harness.DrainAsync();
        var parked = Assert.Single((await redshift.Objects.ListAsync(Names.QuarantinePrefix, null, Cancelled)).Objects);
        await redshift.Objects.PutAsync(ObjectKeys.Discarded(parked.Key), "{}"u8.ToArray(), "application/json", Cancelled);
        redshift.Objects.Delete(parked.Key);
        redshift.Objects.Put($"{Names.ChangesPrefix}x.parquet", [1, 2, 3]);
        harness.Time.Advance(TimeSpan.FromHours(1));
        await harness.DrainAsync();
        redshift.Objects.Delete($"{Names.ChangesPrefix}x.parquet");
        harness.Time.Advance(TimeSpan.FromHours(1));
        await harness.Loader.RestoreAsync(Cancelled);
        await harness.DrainAsync();
        Assert.Equal(["o-1|1", "o-2|3"], await redshift.Postgres.RowsAsync("SELECT order_id, version FROM orders ORDER BY order_id"));
        return redshift.StandIn.Statements.Where(s => !TransactionControl().IsMatch(s)).Select(Comparable).ToHashSet();
    }

    /// <summary>Parameters have names in the files and numbers on the wire, and some places are filled in.</summary>
    private static string Comparable(string statement)
    {
        statement = Parameter().Replace(statement, "$1");
        statement = Regex.Replace(statement, "'(s3://[^']+|[{]manifest[}])'", "'s3://bucket/x'");
        statement = Regex.Replace(statement, "'(arn:[^']+|[{]role[}])'", "'arn:aws:iam::123456789012:role/x'");
        statement = Regex.Replace(statement, @"LIMIT (\d+|[{]max[}])$", "LIMIT 10");
        return InsertedRows().Replace(statement, "VALUES ($1)");
    }

    private static IEnumerable<string> Complaints((string Statement, JsonElement? Tree, string? Error) parsed)
    {
        if (parsed.Tree is not { } statements)
        {
            return [$"syntax: {parsed.Error} in {parsed.Statement}"];
        }

        var found = new List<string>();
        foreach (var statement in statements.EnumerateArray())
        {
            var kind = statement.ValueKind == JsonValueKind.String ? statement.GetString()! : statement.EnumerateObject().First().Name;
            Unless(Kinds.Contains(kind), $"a statement {kind}");
            Walk(statement, kind, "");
        }

        return found.Select(what => $"{what} in {parsed.Statement}");

        void Unless(bool isFine, string complaint)
        {
            if (!isFine)
            {
                found.Add(complaint);
            }
        }

        void Walk(JsonElement node, string name, string parent)
        {
            switch (node.ValueKind)
            {
                case JsonValueKind.Array:
                    foreach (var item in node.EnumerateArray())
                    {
                        Walk(item, name, parent);
                    }

                    return;
                case JsonValueKind.Object:
                    break;
                default:
                    return;
            }

            foreach (var member in node.EnumerateObject())
            {
                var path = $"{name}.{member.Name}";
                var isThere = member.Value.ValueKind is not (JsonValueKind.Null or JsonValueKind.False)
                    && !(member.Value.ValueKind == JsonValueKind.Array && member.Value.GetArrayLength() == 0);
                if (isThere && (Foreign.Contains(member.Name) || Foreign.Contains(path)))
                {
                    found.Add(path);
                }

                if (isThere && member is { Name: "data_type" })
                {
                    var type = member.Value.ValueKind == JsonValueKind.String ? member.Value.GetString()!
                        : member.Value.EnumerateObject().First() is { Name: "Custom" } custom ? custom.Value[0][0].GetProperty("Identifier").GetProperty("value").GetString()!.ToUpperInvariant()
                        : member.Value.EnumerateObject().First().Name;
                    Unless(Types.Contains(type), $"the type {type}");
                }
                else if (member is { Name: "Function", Value.ValueKind: JsonValueKind.Object } && member.Value.TryGetProperty("name", out var function))
                {
                    var called = function[0].GetProperty("Identifier").GetProperty("value").GetString()!.ToLowerInvariant();
                    Unless(Functions.Contains(called), $"the function {called}");
                }
                else if (member is { Name: "Substring" } && member.Value.TryGetProperty("shorthand", out var isShort) && isShort.GetBoolean())
                {
                    found.Add("the function substr");
                }
                else if (member is { Name: "BinaryOp" })
                {
                    var symbol = member.Value.GetProperty("op");
                    var written = symbol.ValueKind == JsonValueKind.String ? symbol.GetString()! : symbol.EnumerateObject().First().Name;
                    Unless(Operators.Contains(written), $"the operator {written}");
                }
                else if (path == "Copy.source" || (name == "Copy" && member.Name == "target" && member.Value.ValueKind == JsonValueKind.String))
                {
                    Unless(member.Value.ToString() != "Stdin", "COPY FROM STDIN");
                }

                Walk(member.Value, member.Name, name);
            }
        }
    }

    private static async Task<IReadOnlyList<(string Statement, JsonElement? Tree, string? Error)>> ParseAsync(IReadOnlyList<string> statements)
    {
        var folder = typeof(RedshiftSqlTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "NpmInstalled").Value!;
        Assert.SkipUnless(Directory.Exists(folder), $"The parser is not installed in {folder}; dotnet build does it where there is Node.js.");
        var start = new ProcessStartInfo("node", ["parse.mjs"])
        {
            WorkingDirectory = folder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync(Cancelled);
        var errors = process.StandardError.ReadToEndAsync(Cancelled);
        await process.StandardInput.WriteAsync(JsonSerializer.Serialize(statements));
        process.StandardInput.Close();
        await process.WaitForExitAsync(Cancelled);
        Assert.True(process.ExitCode == 0, $"parse.mjs ended with {process.ExitCode}: {await errors}");
        return [.. JsonDocument.Parse(await output, new JsonDocumentOptions { MaxDepth = 1_000 }).RootElement.EnumerateArray().Select((parsed, i) => (
            statements[i],
            parsed.TryGetProperty("tree", out var tree) ? tree : (JsonElement?)null,
            parsed.TryGetProperty("error", out var error) ? error.GetString() : null))];
    }

    [GeneratedRegex(@"@\w+|\$\d+")]
    private static partial Regex Parameter();

    [GeneratedRegex(@"VALUES \(\$1.*\)$")]
    private static partial Regex InsertedRows();

    /// <summary>What the driver sends of its own.</summary>
    [GeneratedRegex("^(BEGIN|COMMIT|ROLLBACK)")]
    private static partial Regex TransactionControl();
}
