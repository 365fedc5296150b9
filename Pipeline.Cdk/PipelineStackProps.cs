using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.RegularExpressions;
using Constructs;

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
    /// <exception cref="ArgumentException">A setting that is not what it must be; the message says how to mend it.</exception>
    public static PipelineStackProps FromContext(Node node)
    {
        var defaults = new PipelineStackProps();
        var settings = new Settings(name => Convert.ToString(node.TryGetContext(name), CultureInfo.InvariantCulture));
        var isDeployment = settings.Flag("deploying", defaults.IsDeployment);
        if (isDeployment && settings.Text("jwtIssuer") is null)
        {
            throw Settings.Refused("jwtIssuer", "", "given for a deployment: the Orders API takes the tokens of an issuer, and nothing else");
        }

        return new PipelineStackProps
        {
            IsDeployment = isDeployment,
            PublishedFunctions = settings.Text("published"),
            Environment = settings.OneOf("environment", defaults.Environment),
            ProcessConcurrency = settings.Number("processConcurrency", defaults.ProcessConcurrency, 1, 1000),
            ApiRequestsPerSecond = settings.Number("apiRequestsPerSecond", defaults.ApiRequestsPerSecond, 1, 10_000),
            Issuer = IssuerFrom(settings),
            WarehouseNodeType = settings.Matching("warehouseNodeType", defaults.WarehouseNodeType, NodeType(), "a node type of Redshift such as ra3.large or ra3.xlplus"),
            WarehouseNodes = settings.Number("warehouseNodes", defaults.WarehouseNodes, 1, 128),
            AlarmEmails = [.. settings.List("alarmEmails", Email(), "e-mail addresses with commas between them")],
        };
    }

    private static JwtIssuer? IssuerFrom(Settings settings)
    {
        var url = settings.Matching("jwtIssuer", null, HttpsUrl(), "an https URL, the 'iss' of the tokens");
        var audience = settings.Text("jwtAudience");
        return (url, audience) switch
        {
            (null, null) => null,
            ({ }, { }) => new JwtIssuer(url, audience),
            (null, { }) => throw Settings.Refused("jwtIssuer", "", "given together with jwtAudience"),
            ({ }, null) => throw Settings.Refused("jwtAudience", "", "given together with jwtIssuer"),
        };
    }

    // The nodes that manage their storage; dc2 and ds2 do not, and are at their end.
    [GeneratedRegex(@"^(ra3|rg)\.(large|xlplus|xlarge|4xlarge|16xlarge)$")]
    private static partial Regex NodeType();

    [GeneratedRegex(@"^[^@\s,]+@[^@\s,]+\.[^@\s,]+$")]
    private static partial Regex Email();

    [GeneratedRegex(@"^https://[^\s/]+\S*$")]
    private static partial Regex HttpsUrl();
}

/// <summary>Reads settings that come as text, from <paramref name="read"/>, and refuses what is not in range.</summary>
internal sealed class Settings(Func<string, string?> read)
{
    public string? Text(string name) => read(name) is { Length: > 0 } text ? text : null;

    public T OneOf<T>(string name, T otherwise)
        where T : struct, Enum
    {
        // Not Enum.TryParse alone: that takes numbers, too.
        var names = Enum.GetNames<T>().Select(n => n.ToLowerInvariant()).ToList();
        return Text(name) switch
        {
            null => otherwise,
            { } text when names.Contains(text) => Enum.Parse<T>(text, ignoreCase: true),
            { } text => throw Refused(name, text, $"one of {string.Join(", ", names)}"),
        };
    }

    public int Number(string name, int otherwise, int min, int max) => Text(name) switch
    {
        null => otherwise,
        { } text when int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= min && number <= max => number,
        { } text => throw Refused(name, text, $"a whole number from {min} to {max}"),
    };

    public bool Flag(string name, bool otherwise) => Text(name)?.ToLowerInvariant() switch
    {
        null => otherwise,
        "true" => true,
        "false" => false,
        { } text => throw Refused(name, text, "true or false"),
    };

    [return: NotNullIfNotNull(nameof(otherwise))]
    public string? Matching(string name, string? otherwise, Regex pattern, string expected) => Text(name) switch
    {
        null => otherwise,
        { } text when pattern.IsMatch(text) => text,
        { } text => throw Refused(name, text, expected),
    };

    public IEnumerable<string> List(string name, Regex pattern, string expected) =>
        from item in (Text(name) ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
        select pattern.IsMatch(item) ? item : throw Refused(name, item, expected);

    public static ArgumentException Refused(string name, string got, string expected) => new(
        $"Context value '{name}' is '{got}', but must be {expected}. Set it in Pipeline.Cdk/cdk.json or with --context {name}=…");
}
