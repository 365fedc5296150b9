using System.Collections.Concurrent;
using System.Diagnostics;
using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Pipeline.Core;

namespace Pipeline.IntegrationTests;

/// <summary>
/// What a deployment uploads: the functions published as cdk.json does, and packed as the synthesized stack says, with the
/// template that says which archive is whose. Made once for the tests of a class.
/// </summary>
public sealed partial class PublishedFunctions : IAsyncLifetime
{
    private static readonly string[] Projects = ["Pipeline.OrdersApi", "Pipeline.Processor", "Pipeline.Loader"];

    internal const string OnlyForGlibc = "The native program is for Linux with glibc, and made there.";

    private readonly string _folder = Directory.CreateTempSubdirectory("published-functions-").FullName;
    private JsonObject _resources = [];
    private JsonObject _assets = [];

    internal static bool CanBeNativeHere =>
        OperatingSystem.IsLinux() && !RuntimeInformation.RuntimeIdentifier.Contains("musl", StringComparison.Ordinal);

    public string TemplatePath => Path.Combine(_folder, "cdk.out", $"{Names.Stack}.template.json");

    public async ValueTask InitializeAsync()
    {
        if (OperatingSystem.IsWindows())
        {
            // The stack refuses to be synthesized with archives from there, and what would use them is skipped.
            return;
        }

        var cancellationToken = TestContext.Current.CancellationToken;
        // As cdk.json publishes, from what is built already: the same files, in the configuration of this test.
        var configuration = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar)).Name;
        var published = Path.Combine(_folder, "publish");
        foreach (var project in Projects)
        {
            await SucceedAsync(
                ["publish", InRepository(project), "--no-build", "--configuration", configuration, "-p:UseAppHost=false", "--output", Path.Combine(published, project)],
                [],
                cancellationToken);
        }

        await SucceedAsync(
            ["exec", ServiceProcess.OutputOf("Pipeline.Cdk")],
            new()
            {
                ["CDK_OUTDIR"] = Path.Combine(_folder, "cdk.out"),
                ["CDK_CONTEXT_JSON"] = JsonSerializer.Serialize(new Dictionary<string, string>
                {
                    ["published"] = published,
                    ["jwtIssuer"] = "https://login.example.com",
                    ["jwtAudience"] = OpenIdProvider.Audience,
                }),
                ["TMPDIR"] = Directory.CreateDirectory(Path.Combine(_folder, "tmp")).FullName,
                ["JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION"] = "20",
            },
            cancellationToken);
        _resources = JsonNode.Parse(await File.ReadAllTextAsync(TemplatePath, cancellationToken))!["Resources"]!.AsObject();
        _assets = JsonNode.Parse(await File.ReadAllTextAsync(
            Path.Combine(_folder, "cdk.out", $"{Names.Stack}.assets.json"), cancellationToken))!["files"]!.AsObject();
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    public JsonObject Properties(string function) => _resources
        .Select(resource => resource.Value!.AsObject())
        .Where(resource => (string?)resource["Type"] == "AWS::Lambda::Function")
        .Select(resource => resource["Properties"]!.AsObject())
        .Single(properties => (string?)properties["FunctionName"] == function);

    /// <summary>Packs the function's asset and unpacks it where Lambda would: a new folder below the given one, that holds nothing else.</summary>
    public string Unpack(string function, string folder)
    {
        // The CDK's list of what to upload, and under which key.
        var key = (string)Properties(function)["Code"]!["S3Key"]!;
        var source = _assets[Path.GetFileNameWithoutExtension(key)]!["source"]!;
        Assert.Equal("zip", (string?)source["packaging"]);
        var archive = Path.Combine(folder, $"{function}.zip");
        ZipFile.CreateFromDirectory(Path.Combine(_folder, "cdk.out", (string)source["path"]!), archive);
        var task = Path.Combine(folder, "task", function);
        ZipFile.ExtractToDirectory(archive, task);
        return task;
    }

    /// <summary>
    /// process_orders as a native program, in a folder below the given one as the runtime provided.al2023 wants it: the program
    /// `bootstrap` and nothing else. On a machine that cannot make it the test is skipped, with what the publish said is missing.
    /// </summary>
    public static async Task<string> PublishNativeAsync(string folder, CancellationToken cancellationToken)
    {
        Assert.SkipUnless(CanBeNativeHere, OnlyForGlibc);
        var published = Path.Combine(folder, "native");
        // Behind the other tests, which run at the same time; and nothing that stays behind may be as slow for others.
        var (exitCode, output) = await RunAsync(
            "nice",
            [
                "-n", "5", Dotnet, "publish", InRepository("Pipeline.Processor"), "--configuration", "Release", "--runtime", RuntimeInformation.RuntimeIdentifier,
                "-p:NativeFunction=true", "-p:UseSharedCompilation=false", "-nodeReuse:false", "--output", published,
            ],
            [],
            cancellationToken);
        var missing = MissingHere().Match(output);
        Assert.SkipWhen(exitCode != 0 && missing.Success, $"The native program cannot be made here: {missing.Value.Trim()}");
        Assert.True(exitCode == 0, $"The native program was not published:\n{output}");
        var task = Directory.CreateDirectory(Path.Combine(folder, "task", "native")).FullName;
        File.Copy(Path.Combine(published, "Pipeline.Processor"), Path.Combine(task, "bootstrap"));
        return task;
    }

    /// <summary>
    /// The words of the SDK and of eng/check-glibc.sh for a tool or a glibc that this machine has not; the linker's for a
    /// library; NuGet's for the compiler's package that it cannot fetch.
    /// </summary>
    [GeneratedRegex(@"^.*(not found in PATH|publish it on an older system|\bld(\.\w+)?: (error: )?(cannot find|cannot open|unable to find)|error NU1101|error NU1301).*$", RegexOptions.Multiline)]
    private static partial Regex MissingHere();

    private static readonly TimeSpan RunsAtMost = TimeSpan.FromMinutes(10);

    internal static string InRepository(string path)
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory.FullName, "Pipeline.sln")))
        {
            directory = directory.Parent ?? throw new InvalidOperationException("These tests run from below the folder that holds Pipeline.sln.");
        }

        return Path.Combine(directory.FullName, path);
    }

    private static async Task SucceedAsync(string[] arguments, Dictionary<string, string> environment, CancellationToken cancellationToken)
    {
        var (exitCode, output) = await RunAsync(Dotnet, arguments, environment, cancellationToken);
        Assert.True(exitCode == 0, $"dotnet {string.Join(' ', arguments)} ended with {exitCode}:\n{output}");
    }

    internal static async Task<(int ExitCode, string Output)> RunAsync(
        string program, string[] arguments, Dictionary<string, string> environment, CancellationToken cancellationToken)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        // A feed that does not answer must not hold the test for ever.
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(RunsAtMost);
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync(limit.Token);
        var error = process.StandardError.ReadToEndAsync(limit.Token);
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        finally
        {
            // Cancelled meanwhile, with children at work; nothing to do otherwise.
            process.Kill(entireProcessTree: true);
        }

        return (process.ExitCode, $"{await output}\n{await error}");
    }

    /// <summary>The muxer of the runtime that runs this test.</summary>
    public static string Dotnet { get; } = Path.GetFullPath(Path.Combine(
        RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet"));
}

/// <summary>A function's process as Lambda's managed .NET runtime starts it, with nothing of this machine's environment.</summary>
internal sealed class FunctionProcess : IAsyncDisposable
{
    private readonly ConcurrentQueue<string> _log = new();
    private readonly Process _process;

    /// <param name="task">The folder of the function's code, Lambda's /var/task.</param>
    /// <param name="handler">Of the function's configuration.</param>
    /// <param name="environment">That of the function, and what stands for AWS.</param>
    public FunctionProcess(string task, string handler, IReadOnlyDictionary<string, string> environment)
    {
        // The runtime's start script (aws-lambda-dotnet, bootstrap.sh): a handler without a colon is an assembly, or else
        // an executable file. AWS_LAMBDA_EXEC_WRAPPER comes before either; the Web Adapter's runs the file HANDLER.
        var assembly = Path.Combine(task, $"{handler}.dll");
        var start = File.Exists(assembly)
            ? new ProcessStartInfo(PublishedFunctions.Dotnet, ["exec", assembly])
            : new ProcessStartInfo(Path.Combine(task, handler));
        start.WorkingDirectory = task;
        start.RedirectStandardOutput = true;
        start.RedirectStandardError = true;
        start.Environment.Clear();
        start.Environment["PATH"] = $"{Path.GetDirectoryName(PublishedFunctions.Dotnet)}:/usr/local/bin:/usr/bin:/bin";
        start.Environment["DOTNET_ROOT"] = Path.GetDirectoryName(PublishedFunctions.Dotnet);
        start.Environment["LAMBDA_TASK_ROOT"] = task;
        start.Environment["_HANDLER"] = handler;
        start.Environment["TZ"] = ":UTC";
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => _log.Enqueue(line.Data ?? "");
        _process.ErrorDataReceived += (_, line) => _log.Enqueue(line.Data ?? "");
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public string Log => string.Join('\n', _log);

    public bool HasExited => _process.HasExited;

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
        }

        await _process.WaitForExitAsync();
        _process.Dispose();
    }
}
