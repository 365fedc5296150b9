using System.Buffers;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Pipeline.LambdaEmulator.Tests;

/// <summary>
/// A server that speaks DynamoDB Streams for one table, with a stream that a test writes: shards that split and close,
/// records that are trimmed, iterators that expire, calls that fail or are slow. In memory, on a free port of this
/// machine. Quick enough to be read by a benchmark.
/// </summary>
internal sealed class ScriptedStream : IAsyncDisposable
{
    private readonly Lock _lock = new();
    private readonly List<ScriptedShardData> _shards = [];
    private readonly Dictionary<string, Queue<(int Status, string Type)>> _failures = [];
    private readonly Dictionary<string, Queue<TimeSpan>> _delays = [];
    private readonly List<string> _calls = [];
    private readonly WebApplication _app;
    private int _generation;

    private ScriptedStream(WebApplication app) => _app = app;

    public string Table { get; } = "Orders";

    /// <summary>A table that is created anew has another.</summary>
    public string StreamArn { get; set; } = "arn:aws:dynamodb:us-east-1:000000000000:table/Orders/stream/2026-01-01T00:00:00.000";

    /// <summary>When the records were written, as they say; null: now.</summary>
    public DateTimeOffset? WrittenAt { get; set; }

    /// <summary>What the attribute trace_parent of a record's item says; null: it has none.</summary>
    public Func<int, string>? TraceParent { get; set; }

    /// <summary>Shards of one DescribeStream answer.</summary>
    public int ShardsPerPage { get; set; } = 100;

    public Uri Url => new(_app.Urls.Single());

    /// <summary>The operations that were called, in order.</summary>
    public IReadOnlyList<string> Calls
    {
        get
        {
            lock (_lock)
            {
                return [.. _calls];
            }
        }
    }

    public static async Task<ScriptedStream> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        var stream = new ScriptedStream(app);
        app.MapPost("/", (Delegate)stream.AnswerAsync);
        await app.StartAsync();
        return stream;
    }

    public void AddShard(string id, string? parent = null)
    {
        lock (_lock)
        {
            _shards.Add(new ScriptedShardData(id, parent));
        }
    }

    /// <summary>Records are written to a shard; their sequence numbers are given, and rise.</summary>
    public void Write(string shard, params int[] sequenceNumbers)
    {
        lock (_lock)
        {
            Shard(shard).Records.AddRange(sequenceNumbers);
        }
    }

    public void Close(string shard)
    {
        lock (_lock)
        {
            Shard(shard).IsClosed = true;
        }
    }

    /// <summary>The records of a shard up to this one are no longer there.</summary>
    public void Trim(string shard, int upTo)
    {
        lock (_lock)
        {
            Shard(shard).TrimmedUpTo = upTo;
        }
    }

    /// <summary>Whether DescribeStream lists a shard: a listing may be older than the shard.</summary>
    public void List(string shard, bool isListed)
    {
        lock (_lock)
        {
            Shard(shard).IsListed = isListed;
        }
    }

    /// <summary>A shard is no longer there at all.</summary>
    public void Remove(string shard)
    {
        lock (_lock)
        {
            _shards.Remove(Shard(shard));
        }
    }

    /// <summary>All iterators given out so far are too old.</summary>
    public void ExpireIterators()
    {
        lock (_lock)
        {
            _generation++;
        }
    }

    /// <summary>The next calls of an operation fail.</summary>
    public void FailNext(string operation, int count, int status, string type)
    {
        lock (_lock)
        {
            var queue = _failures.TryGetValue(operation, out var known) ? known : _failures[operation] = new();
            for (var i = 0; i < count; i++)
            {
                queue.Enqueue((status, type));
            }
        }
    }

    /// <summary>The next calls of an operation take this long.</summary>
    public void DelayNext(string operation, int count, TimeSpan delay)
    {
        lock (_lock)
        {
            var queue = _delays.TryGetValue(operation, out var known) ? known : _delays[operation] = new();
            for (var i = 0; i < count; i++)
            {
                queue.Enqueue(delay);
            }
        }
    }

    public async ValueTask DisposeAsync() => await _app.DisposeAsync();

    private async Task<IResult> AnswerAsync(HttpContext context)
    {
        var operation = context.Request.Headers["X-Amz-Target"].ToString().Split('.')[1];
        var request = (await JsonNode.ParseAsync(context.Request.Body))!;
        if (TakeDelay(operation) is { } delay)
        {
            await Task.Delay(delay, context.RequestAborted);
        }

        lock (_lock)
        {
            _calls.Add(operation);
            if (_failures.TryGetValue(operation, out var failures) && failures.TryDequeue(out var failure))
            {
                return Error(failure.Status, failure.Type);
            }

            return operation switch
            {
                "DescribeTable" => Json(new JsonObject { [nameof(Table)] = new JsonObject { ["TableName"] = Table, ["LatestStreamArn"] = StreamArn } }),
                "DescribeStream" => DescribeStream(request),
                "GetShardIterator" => GetShardIterator(request),
                "GetRecords" => GetRecords(request),
                _ => Error(400, "UnknownOperationException"),
            };
        }
    }

    private IResult DescribeStream(JsonNode request)
    {
        if (request[nameof(StreamArn)]!.ToString() != StreamArn)
        {
            return Error(400, "ResourceNotFoundException");
        }

        var listed = _shards.FindAll(shard => shard.IsListed);
        var from = request["ExclusiveStartShardId"] is { } last ? listed.FindIndex(shard => shard.Id == last.ToString()) + 1 : 0;
        var page = listed.Skip(from).Take(ShardsPerPage).ToList();
        var description = new JsonObject
        {
            [nameof(StreamArn)] = StreamArn,
            ["Shards"] = new JsonArray([.. page.Select(shard =>
            {
                var range = new JsonObject { ["StartingSequenceNumber"] = "000000000000000000000" };
                if (shard.IsClosed)
                {
                    range["EndingSequenceNumber"] = "999999999999999999999";
                }

                var json = new JsonObject { ["ShardId"] = shard.Id, ["SequenceNumberRange"] = range };
                if (shard.Parent is not null)
                {
                    json["ParentShardId"] = shard.Parent;
                }

                return (JsonNode)json;
            })]),
        };
        if (from + page.Count < listed.Count)
        {
            description["LastEvaluatedShardId"] = page[^1].Id;
        }

        return Json(new JsonObject { ["StreamDescription"] = description });
    }

    private IResult GetShardIterator(JsonNode request)
    {
        if (_shards.Find(shard => shard.Id == request["ShardId"]!.ToString()) is not { } shard)
        {
            return Error(400, "ResourceNotFoundException");
        }

        var after = request["ShardIteratorType"]!.ToString() switch
        {
            "TRIM_HORIZON" => shard.TrimmedUpTo,
            "AFTER_SEQUENCE_NUMBER" => int.Parse(request["SequenceNumber"]!.ToString(), CultureInfo.InvariantCulture),
            var type => throw new NotSupportedException(type),
        };
        return after < shard.TrimmedUpTo ? Error(400, "TrimmedDataAccessException")
            : Json(new JsonObject { ["ShardIterator"] = $"{shard.Id}|{after}|{_generation}" });
    }

    private IResult GetRecords(JsonNode request)
    {
        var iterator = request["ShardIterator"]!.ToString().Split('|');
        if (int.Parse(iterator[2], CultureInfo.InvariantCulture) < _generation)
        {
            return Error(400, "ExpiredIteratorException");
        }

        if (_shards.Find(shard => shard.Id == iterator[0]) is not { } shard)
        {
            return Error(400, "ResourceNotFoundException");
        }

        var after = int.Parse(iterator[1], CultureInfo.InvariantCulture);
        if (after < shard.TrimmedUpTo)
        {
            return Error(400, "TrimmedDataAccessException");
        }

        var from = shard.Records.BinarySearch(after);
        from = from < 0 ? ~from : from + 1;
        var to = Math.Min(shard.Records.Count, from + request["Limit"]!.GetValue<int>());
        var last = to > from ? shard.Records[to - 1] : after;
        var next = shard.IsClosed && to == shard.Records.Count ? null : $"{shard.Id}|{last}|{_generation}";
        return new Page(shard.Records[from..to], next, WrittenAt ?? DateTimeOffset.UtcNow, TraceParent);
    }

    private TimeSpan? TakeDelay(string operation)
    {
        lock (_lock)
        {
            return _delays.TryGetValue(operation, out var delays) && delays.TryDequeue(out var delay) ? delay : null;
        }
    }

    private ScriptedShardData Shard(string id) => _shards.Single(shard => shard.Id == id);

    private static IResult Json(JsonObject json) => Results.Text(json.ToJsonString(), "application/x-amz-json-1.0");

    private static IResult Error(int status, string type) => Results.Text(
        new JsonObject { ["__type"] = $"com.amazonaws.dynamodb.v20120810#{type}", ["message"] = $"{type} on purpose" }.ToJsonString(),
        "application/x-amz-json-1.0",
        statusCode: status);

    /// <summary>The answer of GetRecords.</summary>
    private sealed class Page(List<int> numbers, string? nextIterator, DateTimeOffset writtenAt, Func<int, string>? traceParent) : IResult
    {
        public async Task ExecuteAsync(HttpContext httpContext)
        {
            httpContext.Response.ContentType = "application/x-amz-json-1.0";
            var buffer = new ArrayBufferWriter<byte>(512 * (numbers.Count + 1));
            using (var json = new Utf8JsonWriter(buffer))
            {
                json.WriteStartObject();
                json.WriteStartArray("Records");
                foreach (var number in numbers)
                {
                    Write(json, number);
                }

                json.WriteEndArray();
                if (nextIterator is not null)
                {
                    json.WriteString("NextShardIterator", nextIterator);
                }

                json.WriteEndObject();
            }

            httpContext.Response.ContentLength = buffer.WrittenCount;
            await httpContext.Response.Body.WriteAsync(buffer.WrittenMemory, httpContext.RequestAborted);
        }

        private void Write(Utf8JsonWriter json, int number)
        {
            json.WriteStartObject();
            json.WriteString("eventID", $"event-{number}");
            json.WriteString("eventName", "INSERT");
            json.WriteString("eventVersion", "1.1");
            json.WriteString("eventSource", "aws:dynamodb");
            json.WriteString("awsRegion", "us-east-1");
            json.WriteStartObject("dynamodb");
            json.WriteNumber("ApproximateCreationDateTime", writtenAt.ToUnixTimeSeconds());
            json.WriteStartObject("Keys");
            WriteAttribute(json, "id", "S", number % 10);
            json.WriteEndObject();
            json.WriteStartObject("NewImage");
            WriteAttribute(json, "id", "S", number % 10);
            WriteAttribute(json, "n", "N", number);
            if (traceParent is not null)
            {
                WriteAttribute(json, "trace_parent", "S", traceParent(number));
            }

            json.WriteEndObject();
            json.WriteString("SequenceNumber", number.ToString("D21", CultureInfo.InvariantCulture));
            json.WriteNumber("SizeBytes", 20);
            json.WriteString("StreamViewType", "NEW_AND_OLD_IMAGES");
            json.WriteEndObject();
            json.WriteEndObject();
        }

        private static void WriteAttribute(Utf8JsonWriter json, string name, string type, int value) =>
            WriteAttribute(json, name, type, value.ToString(CultureInfo.InvariantCulture));

        private static void WriteAttribute(Utf8JsonWriter json, string name, string type, string value)
        {
            json.WriteStartObject(name);
            json.WriteString(type, value);
            json.WriteEndObject();
        }
    }

    private sealed class ScriptedShardData(string id, string? parent)
    {
        public string Id => id;

        public string? Parent => parent;

        public List<int> Records { get; } = [];

        public bool IsClosed { get; set; }

        public bool IsListed { get; set; } = true;

        public int TrimmedUpTo { get; set; }
    }
}
