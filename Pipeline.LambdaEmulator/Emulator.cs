using Amazon.Runtime;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Stack;

namespace Pipeline.LambdaEmulator;

/// <summary>Provisions if that was asked for, then runs the event source mappings until the process ends.</summary>
public sealed partial class Emulator(
    EmulatorOptions options,
    StackPlan plan,
    Provisioner provisioner,
    IReadOnlyList<IEventSourceMapping> mappings,
    Telemetry telemetry,
    TimeProvider time,
    IHostApplicationLifetime lifetime,
    ILogger<Emulator> logger) : BackgroundService
{
    /// <summary>Servers that are started together with the emulator are waited for this long.</summary>
    private static readonly TimeSpan ServersWithin = TimeSpan.FromSeconds(60);

    private volatile bool _isProvisioned;

    /// <summary>Null when everything that was asked for is done and runs; else what is missing.</summary>
    public string? NotReady() =>
        !_isProvisioned ? "The stack is not provisioned yet."
        : mappings.FirstOrDefault(mapping => mapping.State is MappingState.Creating or MappingState.Problem || mapping.Problem is not null) is { } mapping
            ? $"The mapping of {mapping.Source} to {mapping.FunctionName} is {mapping.State}: {mapping.Problem}"
            : null;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        try
        {
            // One emulator per state folder: two would overwrite each other's checkpoints. Freed when the process ends.
            using var folder = LockFolder();
            if (options.Provision)
            {
                await ProvisionAsync(stoppingToken);
            }

            _isProvisioned = true;
            telemetry.ObserveIteratorAge(IteratorAges);
            using var ends = CancellationTokenSource.CreateLinkedTokenSource(stoppingToken);
            await Task.WhenAll(mappings.Select(mapping => RunAsync(mapping, ends)));
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // The process was asked to end.
        }
        catch (Exception e)
        {
            if (e is TemplateException or InvalidDataException or TimeoutException or AmazonServiceException)
            {
                LogRefused(e.Message);
            }
            else
            {
                LogFailed(e);
            }

            Environment.ExitCode = 1;
            lifetime.StopApplication();
        }
    }

    /// <summary>A mapping that cannot go on ends the others: half an emulator would look like a whole one.</summary>
    private static async Task RunAsync(IEventSourceMapping mapping, CancellationTokenSource ends)
    {
        try
        {
            await mapping.RunAsync(ends.Token);
        }
        catch
        {
            await ends.CancelAsync();
            throw;
        }
    }

    private IEnumerable<(string Function, string ShardId, TimeSpan Age)> IteratorAges() =>
        from mapping in mappings.OfType<EventSourceMapping>()
        from shard in mapping.Shards()
        select (mapping.FunctionName, shard.ShardId, shard.IteratorAge(time.GetUtcNow()));

    private FileStream LockFolder()
    {
        Directory.CreateDirectory(options.StateFolder);
        var path = Path.Combine(options.StateFolder, "lock");
        try
        {
            return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException e)
        {
            throw new InvalidDataException(
                $"--state {options.StateFolder} is used by another emulator ({e.Message}). Stop that one, or give this one its own folder.");
        }
    }

    private async Task ProvisionAsync(CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        for (var failures = 1; ; failures++)
        {
            try
            {
                using var within = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
                within.CancelAfter(ServersWithin);
                await provisioner.ProvisionAsync(plan, within.Token);
                return;
            }
            catch (Exception e) when (ServerFailure.MayPass(e, cancellationToken) && !ServerFailure.IsRefusal(e))
            {
                if (time.GetElapsedTime(started) >= ServersWithin)
                {
                    throw new TimeoutException(
                        $"The stack could not be provisioned within {ServersWithin.TotalSeconds} seconds. It was at {provisioner.Step}: {e.Message} Is that server running?", e);
                }

                LogNotProvisioned(provisioner.Step, e.Message);
                await Task.Delay(Backoff.OfServer(failures), time, cancellationToken);
            }
        }
    }

    [LoggerMessage(LogLevel.Critical, "{Message}")]
    private partial void LogRefused(string message);

    [LoggerMessage(LogLevel.Critical, "The emulator ends")]
    private partial void LogFailed(Exception exception);

    [LoggerMessage(LogLevel.Warning, "The stack could not be provisioned ({Step}), trying again: {Message}")]
    private partial void LogNotProvisioned(string step, string message);
}
