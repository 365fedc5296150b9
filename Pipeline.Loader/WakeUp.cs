using Amazon.Lambda.Core;
using Amazon.Lambda.RuntimeSupport;
using Npgsql;

namespace Pipeline.Loader;

/// <summary>
/// The loader as the Lambda function load_orders. An invocation is a wake-up and carries no work: it takes turns until
/// there is nothing left, or its time runs short. Its end tells SQS that the wake-ups are dealt with; an error brings
/// them back. What is left over waits for the next one, at the latest the one of the five-minute schedule.
/// </summary>
public sealed class WakeUp(Loader loader, IMigrator migrator, NpgsqlDataSource database, TimeProvider time, ILogger<WakeUp> logger)
{
    /// <summary>With less left no turn is begun: one takes some seconds as a rule, and is worth nothing when it is cut off.</summary>
    private static readonly TimeSpan TurnTimeMin = TimeSpan.FromSeconds(30);

    /// <summary>Kept back, so that a failure is reported and not found out by Lambda's timeout.</summary>
    private static readonly TimeSpan ResponseTime = TimeSpan.FromSeconds(5);

    private bool _isPrepared;

    /// <summary>Serves invocations until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        using var bootstrap = LambdaBootstrapBuilder.Create((ILambdaContext context) => HandleAsync(context.RemainingTime, cancellationToken)).Build();
        await bootstrap.RunAsync(cancellationToken);
    }

    /// <param name="remaining">Until Lambda ends the invocation.</param>
    /// <param name="cancellationToken">Ends it between two steps.</param>
    /// <exception cref="WarehouseException">The warehouse is away.</exception>
    /// <exception cref="ObjectStoreException">The bucket is away.</exception>
    /// <exception cref="TimeoutException">A turn did not end in the time there was; it left nothing half done.</exception>
    public async Task HandleAsync(TimeSpan remaining, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        var limit = remaining - ResponseTime;
        using var timeout = new CancellationTokenSource(limit > TimeSpan.Zero ? limit : TimeSpan.Zero, time);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, timeout.Token);
        try
        {
            if (!_isPrepared)
            {
                await migrator.MigrateAsync(stop.Token);
                await loader.RestoreAsync(stop.Token);
                _isPrepared = true;
            }

            var turns = 0;
            bool isBusy;
            do
            {
                isBusy = await loader.RunOnceAsync(stop.Token);
                turns++;
            }
            while (isBusy && limit - time.GetElapsedTime(started) >= TurnTimeMin);

            logger.LogInformation("{Turns} turns in {Seconds:F1} s; {Rest}", turns, time.GetElapsedTime(started).TotalSeconds, isBusy ? "there is more to do" : "nothing is left");
        }
        catch (OperationCanceledException) when (timeout.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            throw new TimeoutException($"The load did not end within {limit.TotalSeconds:F0} s and is tried again.");
        }
        finally
        {
            // Lambda freezes the process now; the connections would not outlive a long sleep.
            database.Clear();
        }
    }
}
