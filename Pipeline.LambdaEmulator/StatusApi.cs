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
        app.MapGet("/event-source-mappings", (IReadOnlyList<EventSourceMapping> mappings, FunctionRegistry functions, TimeProvider time) =>
            Results.Json(mappings.Select(mapping => Mapping(mapping, functions, time.GetUtcNow())), Json));
    }

    private static object Mapping(EventSourceMapping mapping, FunctionRegistry functions, DateTimeOffset now) => new
    {
        Uuid = mapping.Plan.Id,
        Function = mapping.Plan.Function.Name,
        mapping.StreamArn,
        mapping.State,
        mapping.Problem,
        IdleEnvironments = functions.Find(mapping.Plan.Function.Name)!.IdleEnvironments,
        Shards = mapping.Shards().Select(shard => new
        {
            shard.ShardId,
            shard.Checkpoint,
            shard.RecordsBuffered,
            IteratorAgeMs = (long)shard.IteratorAge(now).TotalMilliseconds,
            shard.BatchesInFlight,
            shard.LastError,
        }),
    };
}
