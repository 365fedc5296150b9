using System.Text.Json;
using System.Text.Json.Serialization;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Functions;

namespace Pipeline.LambdaEmulator;

/// <summary>Where everything stands: <c>/health</c> and <c>/event-source-mappings</c>.</summary>
public static class StatusApi
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web)
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new JsonStringEnumConverter() },
        WriteIndented = true,
    };

    public static void MapStatusApi(this WebApplication app)
    {
        app.MapGet("/health", (Emulator emulator) => emulator.NotReady() is { } reason
            ? Results.Text(reason, statusCode: StatusCodes.Status503ServiceUnavailable)
            : Results.Text("Healthy"));
        app.MapGet("/event-source-mappings", (IReadOnlyList<IEventSourceMapping> mappings, FunctionRegistry functions, TimeProvider time) =>
            Results.Json(mappings.Select(mapping => Mapping(mapping, functions, time.GetUtcNow())), Json));
    }

    private static object Mapping(IEventSourceMapping mapping, FunctionRegistry functions, DateTimeOffset now)
    {
        var stream = mapping as EventSourceMapping;
        var queue = mapping as QueueMapping;
        return new
        {
            Uuid = mapping.Id,
            Function = mapping.FunctionName,
            stream?.StreamArn,
            QueueArn = queue?.Plan.QueueArn,
            mapping.State,
            mapping.Problem,
            functions.Find(mapping.FunctionName)!.IdleEnvironments,
            Shards = (stream?.Shards() ?? []).Select(shard => new
            {
                shard.ShardId,
                shard.State,
                shard.Checkpoint,
                shard.RecordsBuffered,
                IteratorAgeMs = (long)shard.IteratorAge(now).TotalMilliseconds,
                shard.BatchesInFlight,
                shard.Attempts,
                shard.LastError,
            }),
            Queue = queue?.Status,
        };
    }
}
