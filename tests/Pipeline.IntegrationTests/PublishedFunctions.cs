using System.Collections.Concurrent;
using System.Diagnostics;
using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Core;

namespace Pipeline.IntegrationTests;

/// <summary>
/// What a deployment uploads: the functions published as cdk.json does, and packed as the synthesized stack says, with the
/// template that says which archive is whose.
/// </summary>
internal sealed class PublishedFunctions(string root, string folder)
{
    private static readonly string[] Projects = ["Pipeline.OrdersApi", "Pipeline.Processor", "Pipeline.Loader"];

    private JsonObject _resources = [];
    private JsonObject _assets = [];

    public string TemplatePath => Path.Combine(folder, "cdk.out", $"{Names.Stack}.template.json");

    public async Task MakeAsync(CancellationToken cancellationToken)
    {
        // As cdk.json publishes, from what is built already: the same files, in the configuration of this test.
        var configuration = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar)).Name;
        var published = Path.Combine(folder, "publish");
        foreach (var project in Projects)
        {
            await RunAsync(
                ["publish", Path.Combine(root, project), "--no-build", "--configuration", configuration, "-p:UseAppHost=false", "--output", Path.Combine(published, project)],
                [],
                cancellationToken);
        }

        await RunAsync(
            ["exec", ServiceProcess.OutputOf("Pipeline.Cdk")],
            new()
            {
                ["CDK_OUTDIR"] = Path.Combine(folder, "cdk.out"),
                ["CDK_CONTEXT_JSON"] = JsonSerializer.Serialize(new Dictionary<string, string>
                {
                    ["published"] = published,
                    ["jwtIssuer"] = "https://login.example.com",
                    ["jwtAudience"] = OpenIdProvider.Audience,
                }),
                ["TMPDIR"] = Directory.CreateDirectory(Path.Combine(folder, "tmp")).FullName,
                ["JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION"] = "20",
            },
            cancellationToken);
        _resources = JsonNode.Parse(await File.ReadAllTextAsync(TemplatePath, cancellationToken))!["Resources"]!.AsObject();
        _assets = JsonNode.Parse(await File.ReadAllTextAsync(
            Path.Combine(folder, "cdk.out", $"{Names.Stack}.assets.json"), cancellationToken))!["files"]!.AsObject();
    }

    public JsonObject Properties(string function) => _resources
        .Select(resource => resource.Value!.AsObject())
        .Where(resource => (string?)resource["Type"] == "AWS::Lambda::Function")
        .Select(resource => resource["Properties"]!.AsObject())
        .Single(properties => (string?)properties["FunctionName"] == function);

    /// <summary>Packs the function's asset and unpacks it where Lambda would: a folder that holds nothing else.</summary>
    public string Unpack(string function)
    {
        // The CDK's list of what to upload, and under which key.
        var key = (string)Properties(function)["Code"]!["S3Key"]!;
        var source = _assets[Path.GetFileNameWithoutExtension(key)]!["source"]!;
        Assert.Equal("zip", (string?)source["packaging"]);
        var archive = Path.Combine(folder, $"{function}.zip");
        ZipFile.CreateFromDirectory(Path.Combine(folder, "cdk.out", (string)source["path"]!), archive);
        var task = Path.Combine(folder, "task", function);
        ZipFile.ExtractToDirectory(archive, task);
        return task;
    }

    private static async Task RunAsync(string[] arguments, Dictionary<string, string> environment, CancellationToken cancellationToken)
    {
        var start = new ProcessStartInfo(Dotnet, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync(cancellationToken);
        var error = process.StandardError.ReadToEndAsync(cancellationToken);
        await process.WaitForExitAsync(cancellationToken);
        Assert.True(process.ExitCode == 0, $"dotnet {string.Join(' ', arguments)} ended with {process.ExitCode}:\n{await output}\n{await error}");
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
