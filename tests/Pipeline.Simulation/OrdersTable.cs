using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Pipeline.Core;
using Pipeline.LambdaEmulator.EventSource;
using Pipeline.LambdaEmulator.Streams;

namespace Pipeline.Simulation;

/// <summary>A committed write of the table, which is also a record of its stream: the truth that everything is held against.</summary>
internal sealed record Write
{
    public required string OrderId { get; init; }
    public required Core.Operation Operation { get; init; }

    /// <summary>As the stream writes it, not padded.</summary>
    public required string SequenceNumber { get; init; }

    /// <summary>The same, to be compared.</summary>
    public required SequenceNumber Place { get; init; }
    public required string EventId { get; init; }
    public required string TraceParent { get; init; }

    /// <summary>The change that has to arrive; null: it cannot be decoded, and has to be parked.</summary>
    public required Change? Expected { get; init; }

    /// <summary>The record as GetRecords gives it.</summary>
    public required string Wire { get; init; }
}

/// <summary>
/// The table in memory with conditional writes, and its stream: shards that split and roll over, parents before children,
/// closed shards that may be empty, records and shards that are trimmed once they are processed.
/// </summary>
internal sealed class OrdersTable
{
    private const string Arn = "arn:aws:dynamodb:us-east-1:000000000000:table/OrdersTable/stream/2026-11-24T00:00:00.000";

    /// <summary>GetShardIterator: "A shard iterator expires 15 minutes after it is returned to the requester."</summary>
    private static readonly TimeSpan IteratorLife = TimeSpan.FromMinutes(15);

    /// <summary>
    /// An empty answer is held back until there is something or this is over. A server that answers at once would be asked
    /// twenty times a second of virtual time, and all of the real time would go into that.
    /// </summary>
    private static readonly TimeSpan EmptyAnswerAfter = TimeSpan.FromSeconds(5);

    private readonly World _world;
    private readonly Settings _settings;
    private readonly Dictionary<string, Item> _items = new(StringComparer.Ordinal);
    private readonly List<ShardState> _shards = [];
    private readonly Chance _chance;
    private UInt128 _sequence;

    public OrdersTable(World world, Settings settings, ulong seed)
    {
        _world = world;
        _settings = settings;
        _chance = new Chance(Chance.Mixed(seed ^ 0x7AB1E));

        // Numbers that get another digit in the middle of the run: text order is not their order.
        _sequence = (UInt128)Math.Pow(10, 21) - (UInt128)_chance.Between(0, 20_000_000);
        _shards.Add(new ShardState(0, null, 0, ulong.MaxValue));

        // The last one of them has a number that no operation comes to.
        for (var number = settings.Orders; number > settings.Orders - settings.OrdersBefore; number--)
        {
            var orderId = $"order-{number}";
            _items[orderId] = Item.Of(
                orderId, _chance.Between(1, 4), number >= settings.UnversionedOrders, world.Now.AddDays(-2), world.Now.AddDays(-1),
                poison: null, isRefused: _chance.OneIn(8), isLarge: false, _chance);
        }
    }

    public static string StreamArn => Arn;

    /// <summary>All committed writes, in their order.</summary>
    public List<Write> Writes { get; } = [];

    public Item? Read(string orderId) => _items.GetValueOrDefault(orderId);

    public IEnumerable<Item> Items => _items.Values;

    /// <summary>One conditional write. False: the condition does not hold.</summary>
    /// <param name="orderId">The key.</param>
    /// <param name="expected">The item that is replaced, as the writer knows it by its trace; null: there is none.</param>
    /// <param name="next">What takes its place; null: nothing.</param>
    public bool TryWrite(string orderId, string? expected, Item? next)
    {
        var present = _items.GetValueOrDefault(orderId);
        if (present?.TraceParent != expected || (present is null && next is null))
        {
            return false;
        }

        _sequence += (UInt128)_chance.Between(1, 1_000_000);
        var sequenceNumber = _sequence.ToString(CultureInfo.InvariantCulture);
        var operation = next is null ? Core.Operation.Remove : present is null ? Core.Operation.Insert : Core.Operation.Modify;
        var changedAt = new DateTimeOffset(_world.Now.UtcTicks - (_world.Now.UtcTicks % TimeSpan.TicksPerSecond), TimeSpan.Zero);
        var eventId = $"{Chance.Mixed((ulong)_sequence):x16}{Chance.Mixed((ulong)_sequence ^ 1):x16}";
        var image = next ?? present!;
        var write = new Write
        {
            OrderId = orderId,
            Operation = operation,
            SequenceNumber = sequenceNumber,
            Place = SequenceNumber.Parse(sequenceNumber),
            EventId = eventId,
            TraceParent = image.TraceParent,
            Expected = Expectation(),
            Wire = WireOf(),
        };
        Writes.Add(write);
        if (next is null)
        {
            _items.Remove(orderId);
        }
        else
        {
            _items[orderId] = next;
        }

        var shard = _shards.Single(s => !s.IsClosed && s.Holds(KeyHash(orderId)));
        shard.Records.Add((_sequence, write.Wire));
        shard.WakeReaders();
        _world.Count($"write: {operation}");
        _world.Note("written", orderId, image.Count, operation.ToString());
        return true;

        Change? Expectation()
        {
            var decoded = image.Decoded;
            if (decoded is null && operation == Core.Operation.Remove)
            {
                // A removal arrives whatever the order looked like.
                decoded = new Change
                {
                    OrderId = orderId,
                    Version = image.RemovedVersion,
                    SequenceNumber = default,
                    EventId = "",
                    Operation = operation,
                    ChangedAt = default,
                    Document = "{}",
                };
            }

            return decoded is null ? null : decoded with
            {
                Operation = operation,
                SequenceNumber = SequenceNumber.Parse(sequenceNumber),
                EventId = eventId,
                ChangedAt = changedAt,
            };
        }

        string WireOf()
        {
            var name = operation switch { Core.Operation.Insert => "INSERT", Core.Operation.Modify => "MODIFY", _ => "REMOVE" };
            var wire = new StringBuilder(512)
                .Append(CultureInfo.InvariantCulture, $$$"""{"eventID":"{{{eventId}}}","eventName":"{{{name}}}","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1","dynamodb":{"ApproximateCreationDateTime":{{{changedAt.ToUnixTimeSeconds()}}},"Keys":{"order_id":{"S":"{{{orderId}}}"}},""");
            if (next is not null)
            {
                wire.Append("\"NewImage\":").Append(next.Tagged).Append(',');
            }

            if (present is not null)
            {
                wire.Append("\"OldImage\":").Append(present.Tagged).Append(',');
            }

            return wire.Append('"').Append(CultureInfo.InvariantCulture, $$$"""SequenceNumber":"{{{sequenceNumber}}}","SizeBytes":{{{image.Tagged.Length}}},"StreamViewType":"NEW_AND_OLD_IMAGES"}}""").ToString();
        }
    }

    /// <summary>Closes an open shard; one or two others go on in its place.</summary>
    public void Close(int which, bool split)
    {
        var open = _shards.Where(s => !s.IsClosed).ToList();
        var parent = open[which % open.Count];
        parent.IsClosed = true;
        if (split && parent.To > parent.From)
        {
            var middle = parent.From + ((parent.To - parent.From) / 2);
            _shards.Add(new ShardState(_shards.Count, parent, parent.From, middle));
            _shards.Add(new ShardState(_shards.Count, parent, middle + 1, parent.To));
        }
        else
        {
            _shards.Add(new ShardState(_shards.Count, parent, parent.From, parent.To));
        }

        parent.WakeReaders();
        _world.Count(split ? "shard: split" : "shard: rolled over");
        _world.Count(parent.Records.Count == 0 ? "shard: closed empty" : "shard: closed with records");
        _world.Note("shard closed", parent.Id);
    }

    /// <summary>
    /// Trims what is processed and known to be. The stream keeps records for a day, and what is not processed by then is
    /// lost by contract; here that day is always long enough.
    /// </summary>
    public void Trim(IReadOnlyDictionary<string, ShardPosition> saved)
    {
        foreach (var shard in _shards)
        {
            switch (saved.GetValueOrDefault(shard.Id))
            {
                case ShardPosition.Finished when shard.IsClosed && shard.Parent is null or { IsTrimmed: true }:
                    shard.IsTrimmed = true;
                    _world.Count("shard: trimmed away");
                    break;
                case ShardPosition.After after:
                    var position = UInt128.Parse(after.SequenceNumber, CultureInfo.InvariantCulture);
                    var trimmed = shard.Records.FindIndex(r => r.Sequence > position);
                    shard.Trimmed = Math.Max(shard.Trimmed, trimmed < 0 ? shard.Records.Count : trimmed);
                    _world.Count("shard: records trimmed");
                    break;
            }
        }
    }

    public string DescribeStream(JsonObject request, Fault? fault)
    {
        var listed = _shards.Where(s => !s.IsTrimmed && (fault != Fault.StaleListing || s.WasListed)).ToList();
        var after = request["ExclusiveStartShardId"]?.GetValue<string>();
        var page = listed.Where(s => after is null || string.CompareOrdinal(s.Id, after) > 0).Take(_settings.StreamPage).ToList();
        var json = new StringBuilder("""{"StreamDescription":{"Shards":[""");
        foreach (var shard in page)
        {
            shard.WasListed = true;
            json.Append(json[^1] == '[' ? "" : ",").Append(CultureInfo.InvariantCulture, $$"""{"ShardId":"{{shard.Id}}","SequenceNumberRange":{"StartingSequenceNumber":"1"{{(shard.IsClosed ? ",\"EndingSequenceNumber\":\"2\"" : "")}}}""");
            if (shard.Parent is { } parent)
            {
                json.Append(CultureInfo.InvariantCulture, $$""","ParentShardId":"{{parent.Id}}""").Append('"');
            }

            json.Append('}');
        }

        json.Append(']');
        if (page.Count > 0 && page[^1] != listed[^1])
        {
            json.Append(CultureInfo.InvariantCulture, $$""","LastEvaluatedShardId":"{{page[^1].Id}}""").Append('"');
        }

        return json.Append("}}").ToString();
    }

    public string GetShardIterator(JsonObject request)
    {
        var shard = Find(request["ShardId"]!.GetValue<string>());
        var place = request["ShardIteratorType"]!.GetValue<string>() switch
        {
            "TRIM_HORIZON" => shard.Trimmed,
            "LATEST" => shard.Records.Count,
            "AFTER_SEQUENCE_NUMBER" => PlaceOf(1),
            "AT_SEQUENCE_NUMBER" => PlaceOf(0),
            var type => throw Error("ValidationException", $"There is no iterator type {type}."),
        };
        return $$"""{"ShardIterator":"{{shard.Id}}|{{place}}|{{_world.Now.UtcTicks}}"}""";

        int PlaceOf(int offset)
        {
            var number = UInt128.Parse(request["SequenceNumber"]!.GetValue<string>(), CultureInfo.InvariantCulture);
            var index = shard.Records.FindIndex(r => r.Sequence == number);
            return index < 0 ? throw Error("ValidationException", "The sequence number is not one of the shard's.")
                : index < shard.Trimmed ? throw Error("TrimmedDataAccessException", "The record was trimmed.")
                : index + offset;
        }
    }

    /// <summary>Completes when there is something to answer.</summary>
    public async Task<string> GetRecordsAsync(JsonObject request, Fault? fault)
    {
        var parts = request["ShardIterator"]!.GetValue<string>().Split('|');
        var shard = Find(parts[0]);
        var from = int.Parse(parts[1], CultureInfo.InvariantCulture);
        if (fault == Fault.ExpiredIterator || _world.Now.UtcTicks - long.Parse(parts[2], CultureInfo.InvariantCulture) > IteratorLife.Ticks)
        {
            throw Error("ExpiredIteratorException", "The iterator has expired.");
        }

        if (from >= shard.Records.Count && !shard.IsClosed && fault is null)
        {
            var something = new TaskCompletionSource();
            shard.Readers.Add(something);
            _world.After(EmptyAnswerAfter, () => something.TrySetResult());
            await something.Task;
        }

        if (from < shard.Trimmed)
        {
            throw Error("TrimmedDataAccessException", "The records were trimmed.");
        }

        var limit = fault == Fault.ShortPage ? _chance.Below(2) : _settings.StreamPage;
        var to = Math.Min(shard.Records.Count, from + limit);
        var json = new StringBuilder("""{"Records":[""");
        for (var i = from; i < to; i++)
        {
            json.Append(i == from ? "" : ",").Append(shard.Records[i].Wire);
        }

        json.Append(']');
        if (!shard.IsClosed || to < shard.Records.Count)
        {
            json.Append(CultureInfo.InvariantCulture, $$""","NextShardIterator":"{{shard.Id}}|{{to}}|{{_world.Now.UtcTicks}}""").Append('"');
        }

        return json.Append('}').ToString();
    }

    private ShardState Find(string id) => _shards.Find(s => s.Id == id && !s.IsTrimmed)
        ?? throw Error("ResourceNotFoundException", "There is no such shard.");

    private static AmazonDynamoDBException Error(string code, string message) => new(message) { ErrorCode = code };

    private static ulong KeyHash(string orderId)
    {
        var hash = 14695981039346656037UL;
        foreach (var c in orderId)
        {
            hash = (hash ^ c) * 1099511628211;
        }

        return Chance.Mixed(hash);
    }

    private sealed class ShardState(int number, ShardState? parent, ulong from, ulong to)
    {
        public string Id { get; } = string.Create(CultureInfo.InvariantCulture, $"shardId-{number:D20}");

        public ShardState? Parent => parent;

        public ulong From => from;

        public ulong To => to;

        public bool IsClosed { get; set; }

        public bool IsTrimmed { get; set; }

        public bool WasListed { get; set; }

        /// <summary>How many of the records are trimmed.</summary>
        public int Trimmed { get; set; }

        public List<(UInt128 Sequence, string Wire)> Records { get; } = [];

        public List<TaskCompletionSource> Readers { get; } = [];

        public bool Holds(ulong hash) => hash >= from && hash <= to;

        public void WakeReaders()
        {
            foreach (var reader in Readers)
            {
                reader.TrySetResult();
            }

            Readers.Clear();
        }
    }
}

/// <summary>The calls of the stream, as a process of the emulator makes them through its own client.</summary>
internal sealed class StreamPort(Caller caller, OrdersTable table) : DynamoDbStreamsClient(Nobody, Nowhere)
{
    private static readonly BasicAWSCredentials Nobody = new("simulation", "simulation");
    private static readonly AmazonDynamoDBConfig Nowhere = new() { ServiceURL = "http://simulation.invalid", AuthenticationRegion = "us-east-1" };

    public override async Task<ReadOnlyMemory<byte>> CallAsync(string operation, JsonObject request, CancellationToken cancellationToken)
    {
        var (port, call) = operation switch
        {
            "DescribeStream" => (Port.DescribeStream, (Func<Fault?, Task<string>>)(fault => Task.FromResult(table.DescribeStream(request, fault)))),
            "GetShardIterator" => (Port.GetShardIterator, _ => Task.FromResult(table.GetShardIterator(request))),
            "GetRecords" => (Port.GetRecords, fault => table.GetRecordsAsync(request, fault)),
            _ => throw new ArgumentOutOfRangeException(nameof(operation), operation, null),
        };
        var what = (request["ShardIterator"] ?? request["ShardId"])?.GetValue<string>();
        return Encoding.UTF8.GetBytes(await caller.SendAsync(port, what, call, message => new AmazonDynamoDBException(message), cancellationToken));
    }
}

/// <summary>The positions of the mapping, as they would lie on the disk.</summary>
internal sealed class SavedCheckpoints
{
    public Dictionary<string, ShardPosition>? Positions { get; set; }
}

/// <summary>The disk, as one process of the emulator writes to it. A save is at once or not at all; a killed process does not save.</summary>
internal sealed class CheckpointPort(World world, Process process, Faults faults, SavedCheckpoints saved) : ICheckpointStore
{
    public string Path => "checkpoints";

    public Dictionary<string, ShardPosition>? Load() => saved.Positions is { } positions ? new(positions) : null;

    public void Save(IReadOnlyDictionary<string, ShardPosition> positions)
    {
        var (call, fault) = faults.Draw(Port.SaveCheckpoint);
        world.Count(nameof(Port.SaveCheckpoint));
        world.Note(nameof(Port.SaveCheckpoint), process.Name, call, string.Join(' ', positions.Select(p => $"{p.Key} {p.Value}")));
        if (fault is not null)
        {
            world.Count($"{Port.SaveCheckpoint}: {fault}");
            world.Note("fault", fault.ToString());
        }

        switch (fault)
        {
            case Fault.Refused:
                throw new IOException("No space left on device");
            case Fault.KilledBefore:
                process.Kill();
                return;
            case Fault.KilledAfter:
                process.Kill();
                break;
        }

        saved.Positions = new Dictionary<string, ShardPosition>(positions);
    }
}
