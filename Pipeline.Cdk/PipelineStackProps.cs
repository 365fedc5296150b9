using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Pipeline.Cdk;

/// <summary>What a deployment is for; decides what outlives a mistake.</summary>
public enum Purpose
{
    /// <summary>Everything can be deleted with the stack, and as little as possible costs money.</summary>
    Dev,

    /// <summary>Data outlives the stack, and deleting it takes more than one step.</summary>
    Prod,
}

/// <summary>
/// What may differ between two deployments of the stack. The defaults are those of production, so that whoever
/// says nothing loses nothing.
/// </summary>
public sealed partial record PipelineStackProps
{
    public Purpose Environment { get; init; } = Purpose.Prod;

    /// <summary>
    /// The folder that holds one `dotnet publish` output per function, named like its project. Null: the template
    /// names code that does not exist, which is all that the local platforms and the tests need.
    /// </summary>
    public string? PublishedFunctions { get; init; }

    /// <summary>
    /// `npm run deploy` says so, because the CDK's command line does not tell the app what it is run for. What cannot
    /// work when it is deployed is refused then, and only then: bootstrap, synth, diff and destroy need none of it.
    /// </summary>
    public bool IsDeployment { get; init; }

    /// <summary>
    /// The most invocations of process_orders at a time; the stream has about one shard per 1,000 writes a second.
    /// Taken from the account's quota (1,000 as a rule, 10 in a new account).
    /// </summary>
    public int ProcessConcurrency { get; init; } = 20;

    /// <summary>What the Orders API takes before it answers 429; for two seconds' worth of requests it takes more.</summary>
    public int ApiRequestsPerSecond { get; init; } = 200;

    /// <summary>
    /// Whose tokens the Orders API takes. Null: nobody's, as in the template for local platforms, where the API does not
    /// stand behind a gateway; it cannot be deployed like that.
    /// </summary>
    public JwtIssuer? Issuer { get; init; }

    public string WarehouseNodeType { get; init; } = "ra3.large";

    public int WarehouseNodes { get; init; } = 1;

    /// <summary>Who is told about alarms; each address has to confirm once.</summary>
    public IReadOnlyList<string> AlarmEmails { get; init; } = [];

    public bool IsProd => Environment == Purpose.Prod;

    /// <summary>The settings in cdk.json and `cdk --context name=value`.</summary>
    /// <exception cref="RefusedException">A setting that is not what it must be; the message says how to mend it.</exception>
    public static PipelineStackProps FromContext(JsonObject context)
    {
        var defaults = new PipelineStackProps();
        var settings = new Settings(context);
        var isDeployment = settings.Flag("deploying", defaults.IsDeployment);
        var nodeType = settings.OneOf("warehouseNodeType", defaults.WarehouseNodeType, NodesOf.Keys);
        var props = new PipelineStackProps
        {
            IsDeployment = isDeployment,
            PublishedFunctions = settings.Text("published"),
            Environment = settings.OneOf("environment", defaults.Environment),
            ProcessConcurrency = settings.Number("processConcurrency", defaults.ProcessConcurrency, 1, 1000),
            ApiRequestsPerSecond = settings.Number("apiRequestsPerSecond", defaults.ApiRequestsPerSecond, 1, 10_000),
            Issuer = IssuerFrom(settings),
            WarehouseNodeType = nodeType,
            WarehouseNodes = settings.Number("warehouseNodes", defaults.WarehouseNodes, NodesOf[nodeType].Min, NodesOf[nodeType].Max, $" with nodes of {nodeType}"),
            AlarmEmails = settings.List("alarmEmails", Email(), "e-mail addresses with commas between them, each of them once"),
        };
        settings.RefuseOthers();
        return isDeployment && props.Issuer is null
            ? throw Settings.Refused("jwtIssuer", "", "given for a deployment: the Orders API takes the tokens of an issuer, and nothing else")
            : props;
    }

    /// <summary>
    /// The node types that manage their storage (dc2 and ds2 do not, and are at their end), and how many a cluster may have of
    /// them: the "Node type details" of the Redshift Management Guide. The most is what a cluster can be resized to.
    /// </summary>
    private static readonly Dictionary<string, (int Min, int Max)> NodesOf = new()
    {
        ["ra3.large"] = (1, 16),
        ["ra3.xlplus"] = (1, 32),
        ["ra3.4xlarge"] = (2, 64),
        ["ra3.16xlarge"] = (2, 128),
        ["rg.large"] = (1, 16),
        ["rg.xlarge"] = (2, 32),
        ["rg.4xlarge"] = (2, 64),
        ["rg.12xlarge"] = (2, 128),
    };

    private static JwtIssuer? IssuerFrom(Settings settings)
    {
        var url = settings.Matching("jwtIssuer", HttpsUrl(), "an https URL, the 'iss' of the tokens");
        var audience = settings.Text("jwtAudience");
        return (url, audience) switch
        {
            (null, null) => null,
            ({ }, { }) => new JwtIssuer(url, audience),
            (null, { }) => throw Settings.Refused("jwtIssuer", "", "given together with jwtAudience"),
            ({ }, null) => throw Settings.Refused("jwtAudience", "", "given together with jwtIssuer"),
        };
    }

    [GeneratedRegex(@"^[^@\s,]+@[^@\s,]+\.[^@\s,]+$")]
    private static partial Regex Email();

    [GeneratedRegex(@"^https://[^\s/]+\S*$")]
    private static partial Regex HttpsUrl();
}

/// <summary>Settings, or what was published, as nobody should deploy them. The message is all that there is to say.</summary>
public sealed class RefusedException(string message) : Exception(message);

/// <summary>Reads settings, and refuses what is not in range.</summary>
internal sealed class Settings(JsonObject context)
{
    /// <summary>What the CDK's command line puts into the context by a name without a prefix: `cdk acknowledge`, `cdk cli-telemetry`.</summary>
    private static readonly string[] OfTheCommandLine = ["acknowledged-issue-numbers", "cli-telemetry"];

    private readonly SortedSet<string> _known = new(StringComparer.Ordinal);

    public string? Text(string name)
    {
        _known.Add(name);
        return context[name]?.ToString() is { Length: > 0 } text ? text : null;
    }

    public string OneOf(string name, string otherwise, IReadOnlyCollection<string> names)
    {
        var text = Text(name) ?? otherwise;
        return names.Contains(text) ? text : throw Refused(name, text, $"one of {string.Join(", ", names)}");
    }

    // Not Enum.TryParse alone: that takes numbers, too.
    public T OneOf<T>(string name, T otherwise)
        where T : struct, Enum =>
        Enum.Parse<T>(OneOf(name, otherwise.ToString().ToLowerInvariant(), [.. Enum.GetNames<T>().Select(n => n.ToLowerInvariant())]), ignoreCase: true);

    public int Number(string name, int otherwise, int min, int max, string where = "")
    {
        var text = Text(name) ?? otherwise.ToString(CultureInfo.InvariantCulture);
        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= min && number <= max
            ? number
            : throw Refused(name, text, $"a whole number from {min} to {max}{where}");
    }

    public bool Flag(string name, bool otherwise) => Text(name)?.ToLowerInvariant() switch
    {
        null => otherwise,
        "true" => true,
        "false" => false,
        { } text => throw Refused(name, text, "true or false"),
    };

    public string? Matching(string name, Regex pattern, string expected) => Text(name) switch
    {
        null => null,
        { } text when pattern.IsMatch(text) => text,
        { } text => throw Refused(name, text, expected),
    };

    /// <summary>What stands between commas, each item once, whatever the case of its letters.</summary>
    public IReadOnlyList<string> List(string name, Regex pattern, string expected)
    {
        var items = (Text(name) ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        var seen = new HashSet<string>(StringComparer.OrdinalIgnoreCase);
        return Array.Find(items, item => !pattern.IsMatch(item) || !seen.Add(item)) is { } wrong ? throw Refused(name, wrong, expected) : items;
    }

    /// <summary>
    /// A misspelt name would otherwise leave its setting at the default, silently. Names with a colon or an @ are the CDK's:
    /// feature flags (`@aws-cdk/…`), switches (`aws:cdk:…`) and what it looked up (`availability-zones:account=…`).
    /// </summary>
    public void RefuseOthers()
    {
        var other = context.Select(value => value.Key)
            .FirstOrDefault(name => !_known.Contains(name) && !name.Contains(':') && !name.StartsWith('@') && !OfTheCommandLine.Contains(name));
        if (other is not null)
        {
            throw new RefusedException(
                $"Context value '{other}' is no setting of this pipeline; the nearest is '{_known.MinBy(name => Distance(other, name))}'. " +
                $"There are {string.Join(", ", _known)}.");
        }
    }

    public static RefusedException Refused(string name, string got, string expected) => new(
        $"Context value '{name}' is '{got}', but must be {expected}. Set it in Pipeline.Cdk/cdk.json or with --context {name}=…");

    /// <summary>How many letters have to be put in, left out or changed (Levenshtein).</summary>
    private static int Distance(string one, string other)
    {
        var row = Enumerable.Range(0, other.Length + 1).ToArray();
        foreach (var (i, letter) in one.Index())
        {
            var diagonal = row[0];
            row[0] = i + 1;
            for (var j = 1; j <= other.Length; j++)
            {
                var changed = char.ToUpperInvariant(letter) == char.ToUpperInvariant(other[j - 1]) ? diagonal : diagonal + 1;
                (diagonal, row[j]) = (row[j], Math.Min(changed, Math.Min(row[j - 1], row[j]) + 1));
            }
        }

        return row[^1];
    }
}
