using Pipeline.NativeServers;

namespace Pipeline.Bench;

/// <summary>One part of the report, which also runs by itself.</summary>
/// <param name="Verb">On the command line.</param>
/// <param name="Description">For --help.</param>
/// <param name="QuickSeconds">About how long it takes in a quick run: its share of the progress bar.</param>
/// <param name="FullSeconds">The same in a full run.</param>
/// <param name="RunAsync">Measures, and adds rows and curves.</param>
/// <param name="BuildAsync">What the build left out, since few need it; before anything is measured.</param>
internal sealed record Stage(
    string Verb,
    string Description,
    double QuickSeconds,
    double FullSeconds,
    Func<StageContext, CancellationToken, Task> RunAsync,
    Func<CancellationToken, Task>? BuildAsync = null);

/// <summary>What a stage is given, and where it leaves what it measured.</summary>
/// <param name="inputs">What goes in.</param>
/// <param name="isQuick">Whether less of everything is asked for.</param>
/// <param name="orders">How many are compared.</param>
/// <param name="folder">For what is gone after the run.</param>
internal sealed class StageContext(Inputs inputs, bool isQuick, int orders, string folder) : IAsyncDisposable
{
    private readonly List<Row> _rows = [];
    private readonly List<Curve> _curves = [];
    private ServerSet? _servers;
    private int _folders;

    public Inputs Inputs => inputs;

    /// <summary>Less of everything but of rounds, so that all stages together end within three minutes.</summary>
    public bool IsQuick => isQuick;

    /// <summary>On both sides of a comparison of table and warehouse.</summary>
    public int Orders => orders;

    public IReadOnlyList<Row> Rows => _rows;
    public IReadOnlyList<Curve> Curves => _curves;

    /// <summary>What the stage is at just now, for the progress bar.</summary>
    public string Doing { get; private set; } = "";

    /// <summary>Of the stage that runs, from 0 to 1.</summary>
    public double Share { get; private set; }

    /// <summary>DynamoDB Local, S3 and PostgreSQL, the same for every stage of a run, started when first asked for.</summary>
    public async Task<ServerSet> ServersAsync(CancellationToken cancellationToken) =>
        _servers ??= await ServerSet.StartAsync(NewFolder("servers"), isShortLived: false, cancellationToken);

    /// <summary>An empty folder that is gone after the run.</summary>
    public string NewFolder(string name) => Directory.CreateDirectory(Path.Combine(folder, $"{name}-{++_folders}")).FullName;

    public void Add(Row row) => _rows.Add(row);

    public void Add(Curve curve) => _curves.Add(curve);

    public void Progress(string doing, double share) => (Doing, Share) = (doing, Math.Clamp(share, 0, 1));

    public async ValueTask DisposeAsync()
    {
        if (_servers is not null)
        {
            await _servers.DisposeAsync();
        }
    }
}
