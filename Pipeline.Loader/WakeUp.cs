using System.Text.Json;
using Amazon.Lambda.Core;
using Amazon.Lambda.RuntimeSupport;
using Microsoft.Extensions.Options;
using Npgsql;
using OpenTelemetry.Metrics;
using OpenTelemetry.Trace;

namespace Pipeline.Loader;

/// <summary>
/// The loader as the Lambda function load_orders. An invocation is a wake-up and carries no work: it takes turns until
/// there is nothing left, or its time runs short. Its end tells SQS that the wake-ups are dealt with; an error brings
/// them back. What is left over waits for the next one, at the latest the one of the five-minute schedule.
/// </summary>
public sealed class WakeUp(
    Loader loader, IMigrator migrator, NpgsqlDataSource database, TracerProvider traces, MeterProvider metrics,
    IOptions<LoaderOptions> options, TimeProvider time, ILogger<WakeUp> logger)
{
    /// <summary>With less left no turn is begun: one takes some seconds as a rule, and is worth nothing when it is cut off.</summary>
    private static readonly TimeSpan TurnTimeMin = TimeSpan.FromSeconds(30);

    /// <summary>Kept back, so that a failure is reported and not found out by Lambda's timeout.</summary>
    private static readonly TimeSpan ResponseTime = TimeSpan.FromSeconds(5);

    /// <summary>For the spans, and again for the metrics, to leave: within the time that is kept back.</summary>
    private static readonly TimeSpan FlushTimeMax = TimeSpan.FromSeconds(1);

    /// <summary>
    /// As many wake-ups as FIFO queues hand out at once (Pipeline.Cdk/WarehouseLoader.cs): others stand behind them. There is
    /// one a second, so an invocation that takes less than ten keeps the queue short however long there is something to load.
    /// </summary>
    private const int WakeUpsMax = 10;
    private static readonly TimeSpan TurnsBeforeOthers = TimeSpan.FromSeconds(8);

    /// <summary>The smallest load is a 64th of the usual one: some 1,500 changes.</summary>
    private const int PartsMax = 64;

    private readonly LoadLimits _limits = options.Value.Limits;

    /// <summary>
    /// How many times smaller than usual a load is. A load that takes longer than an invocation may would fail for ever at the
    /// same size, so each failure doubles it, whatever the failure was, and each turn that succeeds halves it.
    /// </summary>
    private int _parts = 1;

    private bool _isPrepared;

    /// <summary>Serves invocations until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        using var bootstrap = LambdaBootstrapBuilder.Create(async (Stream input, ILambdaContext context) =>
        {
            await HandleAsync(await CountAsync(input, cancellationToken), context.RemainingTime, cancellationToken);
            return Stream.Null;
        }).Build();
        await bootstrap.RunAsync(cancellationToken);
    }

    /// <summary>The messages of an SQS event; whoever invokes it by hand sends none.</summary>
    internal static async Task<int> CountAsync(Stream input, CancellationToken cancellationToken)
    {
        using var content = await JsonDocument.ParseAsync(input, cancellationToken: cancellationToken);
        return content.RootElement is { ValueKind: JsonValueKind.Object } root && root.TryGetProperty("Records", out var records) && records.ValueKind == JsonValueKind.Array
            ? records.GetArrayLength()
            : 0;
    }

    /// <param name="wakeUps">That this invocation answers.</param>
    /// <param name="remaining">Until Lambda ends the invocation.</param>
    /// <param name="cancellationToken">Ends it between two steps.</param>
    /// <exception cref="WarehouseException">The warehouse is away.</exception>
    /// <exception cref="ObjectStoreException">The bucket is away.</exception>
    /// <exception cref="TimeoutException">A turn did not end in the time there was; it left nothing half done.</exception>
    public async Task HandleAsync(int wakeUps, TimeSpan remaining, CancellationToken cancellationToken)
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
            var turnTime = TurnTimeMin;
            var turnsUntil = wakeUps < WakeUpsMax ? limit : TurnsBeforeOthers;
            bool isBusy;
            do
            {
                options.Value.Limits = _limits.Part(_parts);
                var turn = time.GetTimestamp();

                // Until it is over it has failed.
                var parts = _parts;
                _parts = Math.Min(parts * 2, PartsMax);
                isBusy = await loader.RunOnceAsync(stop.Token);
                _parts = Math.Max(parts / 2, 1);
                turns++;

                // The next one takes longer when it is larger, but not twice as long as a rule.
                turnTime = TimeSpan.FromTicks(Math.Max(turnTime.Ticks, 2 * time.GetElapsedTime(turn).Ticks));
            }
            while (isBusy && time.GetElapsedTime(started) < turnsUntil && limit - time.GetElapsedTime(started) >= turnTime);

            logger.LogInformation("{Turns} turns in {Seconds:F1} s; {Rest}", turns, time.GetElapsedTime(started).TotalSeconds, isBusy ? "there is more to do" : "nothing is left");
        }
        catch (OperationCanceledException) when (timeout.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            throw new TimeoutException($"The load did not end within {limit.TotalSeconds:F0} s and is tried again.");
        }
        finally
        {
            // Lambda freezes the process now; the connections would not outlive a long sleep, and what is told would be late.
            database.Clear();
            traces.ForceFlush((int)FlushTimeMax.TotalMilliseconds);
            metrics.ForceFlush((int)FlushTimeMax.TotalMilliseconds);
        }
    }
}
