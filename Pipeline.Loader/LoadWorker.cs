using Microsoft.Extensions.Options;

namespace Pipeline.Loader;

/// <summary>Runs the loader's turns for as long as the process lives, with a pause when there is nothing to do or something is away.</summary>
public sealed class LoadWorker(
    Loader loader, IMigrator migrator, LoaderStatus status, IOptions<LoaderOptions> options, TimeProvider time, ILogger<LoadWorker> logger)
    : BackgroundService
{
    private readonly LoaderOptions _options = options.Value;

    /// <summary>It ended and nobody asked it to: the process must not end as if all were well.</summary>
    public bool HasGivenUp { get; private set; }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        try
        {
            await PrepareAsync(stoppingToken);
            await RunAsync(stoppingToken);
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            logger.LogInformation("Stopped");
        }
        catch
        {
            // The host logs the reason and stops.
            HasGivenUp = true;
            throw;
        }
    }

    /// <summary>Brings the schema up to date. The warehouse may be starting as well, so it is waited for, but not for ever.</summary>
    private async Task PrepareAsync(CancellationToken cancellationToken)
    {
        var deadline = time.GetUtcNow() + _options.StartupPatience;
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                await migrator.MigrateAsync(cancellationToken);
                await loader.RestoreAsync(cancellationToken);
                status.Started();
                return;
            }
            catch (WarehouseException e) when (time.GetUtcNow() < deadline)
            {
                var pause = LoadPlan.Backoff(attempt, _options.RetryFirst, _options.OutageRetryMax);
                status.Troubled($"Waiting for the warehouse: {e.Message}");
                logger.LogWarning("The warehouse is not ready ({Reason}); the next try is in {Seconds:F0} s", e.Message, pause.TotalSeconds);
                await Task.Delay(pause, time, cancellationToken);
            }
        }
    }

    /// <summary>Turn after turn until cancelled; what is away is waited for.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        var outages = 0;
        while (true)
        {
            try
            {
                var busy = await loader.RunOnceAsync(cancellationToken);
                outages = 0;
                status.Well();
                if (!busy)
                {
                    await Task.Delay(_options.PollInterval, time, cancellationToken);
                }
            }
            catch (Exception e) when (e is ObjectStoreException or WarehouseException)
            {
                var pause = LoadPlan.Backoff(++outages, _options.RetryFirst, _options.OutageRetryMax);
                status.Troubled(e.Message);
                logger.LogError(e, "The turn failed and is tried again in {Seconds:F0} s", pause.TotalSeconds);
                await Task.Delay(pause, time, cancellationToken);
            }
        }
    }
}
