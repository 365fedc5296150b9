using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;
using Npgsql;
using Pipeline.Core;

namespace Pipeline.Loader.Tests;

/// <summary>The loader over a bucket in memory and whatever warehouse, with a clock that moves by hand.</summary>
internal sealed class Harness : IDisposable
{
    public static readonly DateTimeOffset Start = new(2026, 11, 24, 8, 30, 0, TimeSpan.Zero);

    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly LoaderTelemetry _telemetry;

    public Harness(IWarehouse warehouse, MemoryObjects? objects = null, Action<LoaderOptions>? configure = null, Faults? faults = null)
    {
        Objects = objects ?? new MemoryObjects();
        IObjectStore store = Objects;
        if (faults is not null)
        {
            (store, warehouse) = (new FaultyObjects(store, faults), new FaultyWarehouse(warehouse, faults));
        }

        var options = new LoaderOptions { BucketName = "bucket" };
        configure?.Invoke(options);
        Options = Microsoft.Extensions.Options.Options.Create(options);
        Discovery = new Discovery(store, warehouse, Options, Time, NullLogger<Discovery>.Instance);
        _telemetry = new LoaderTelemetry(_services.GetRequiredService<IMeterFactory>(), Status);
        Loader = new Loader(Discovery, store, warehouse, Status, _telemetry, Options, Time, NullLogger<Loader>.Instance);
    }

    public FakeTimeProvider Time { get; } = new(Start);
    public MemoryObjects Objects { get; }
    public LoaderStatus Status { get; } = new();
    public IOptions<LoaderOptions> Options { get; }
    public Discovery Discovery { get; }
    public Loader Loader { get; }
    public IMeterFactory Meters => _services.GetRequiredService<IMeterFactory>();

    /// <summary>Turns until there is nothing to do.</summary>
    public async Task DrainAsync()
    {
        while (await Loader.RunOnceAsync(TestContext.Current.CancellationToken))
        {
        }
    }

    /// <summary>The same, while the clock goes on: a load that met a conflict waits some time before it is tried again.</summary>
    public async Task DrainWithClockAsync()
    {
        var drained = DrainAsync();
        while (!drained.IsCompleted)
        {
            Time.Advance(TimeSpan.FromMilliseconds(100));
            await Task.WhenAny(drained, Task.Delay(1, TestContext.Current.CancellationToken));
        }

        await drained;
    }

    public void Dispose()
    {
        _telemetry.Dispose();
        _services.Dispose();
    }
}

/// <summary>A bucket in memory with faults.</summary>
internal sealed class MemoryObjects : IObjectStore
{
    private readonly Lock _lock = new();
    private readonly SortedDictionary<string, (string ETag, byte[] Bytes)> _objects = new(StringComparer.Ordinal);

    public bool IsAway { get; set; }

    /// <summary>The listing of this prefix fails, and no other.</summary>
    public string? LostPrefix { get; set; }

    /// <summary>Objects that are listed and cannot be had.</summary>
    public HashSet<string> Forbidden { get; } = [];
    public List<(string Prefix, string? StartAfter)> Listings { get; } = [];

    public void Put(string key, byte[] bytes)
    {
        lock (_lock)
        {
            _objects[key] = (Convert.ToHexString(System.IO.Hashing.XxHash128.Hash(bytes)), bytes);
        }
    }

    /// <summary>A change file under its key, or under another one.</summary>
    public async Task<string> PutAsync(IReadOnlyList<Change> changes, string? key = null)
    {
        using var file = new MemoryStream();
        await ChangeFile.WriteAsync(changes, file, TestContext.Current.CancellationToken);
        key ??= ObjectKeys.ChangeFile(changes);
        Put(key, file.ToArray());
        return key;
    }

    public void Delete(string key)
    {
        lock (_lock)
        {
            _objects.Remove(key);
        }
    }

    public Task PutAsync(string key, ReadOnlyMemory<byte> content, string contentType, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            Refuse();
            Put(key, content.ToArray());
            return Task.CompletedTask;
        }
    }

    public Task DeleteAsync(string key, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            Refuse();
            _objects.Remove(key);
            return Task.CompletedTask;
        }
    }

    public List<string> Keys(string prefix)
    {
        lock (_lock)
        {
            return [.. _objects.Keys.Where(key => key.StartsWith(prefix, StringComparison.Ordinal))];
        }
    }

    public byte[] Read(string key)
    {
        lock (_lock)
        {
            return _objects[key].Bytes;
        }
    }

    public Task<ObjectPage> ListAsync(string prefix, string? startAfter, CancellationToken cancellationToken)
    {
        const int PageSize = 1_000;
        lock (_lock)
        {
            Listings.Add((prefix, startAfter));
            Refuse();
            if (prefix == LostPrefix)
            {
                throw new ObjectStoreException("500 Internal Error");
            }

            var found = _objects
                .Where(o => o.Key.StartsWith(prefix, StringComparison.Ordinal) && string.CompareOrdinal(o.Key, startAfter) > 0)
                .Take(PageSize + 1)
                .Select(o => new ObjectInfo(o.Key, o.Value.ETag, o.Value.Bytes.Length))
                .ToList();
            return Task.FromResult(new ObjectPage([.. found.Take(PageSize)], found.Count > PageSize));
        }
    }

    public Task<ObjectContent?> GetAsync(string key, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            Refuse();
            if (Forbidden.Contains(key))
            {
                throw new ObjectUnreadableException("403 AccessDenied");
            }

            return Task.FromResult(_objects.TryGetValue(key, out var found) ? new ObjectContent(found.ETag, found.Bytes) : null);
        }
    }

    private void Refuse()
    {
        if (IsAway)
        {
            throw new ObjectStoreException("503 Slow Down");
        }
    }
}

/// <summary>Changes for tests.</summary>
internal static class Changes
{
    public static Change Change(
        string orderId, int sequence, long version, Operation operation = Operation.Modify, OrderStatus? status = OrderStatus.Approved) => new()
        {
            OrderId = orderId,
            Version = version,
            SequenceNumber = Sequence(sequence),
            EventId = $"{orderId}-{sequence}",
            Operation = operation,
            ChangedAt = Harness.Start.AddMinutes(sequence),
            MerchantId = "m-1",
            Status = status,
            Currency = "BRL",
            TotalAmount = 10.50m,
            UpdatedAt = Harness.Start.AddMinutes(operation == Operation.Remove ? sequence - 1 : sequence),
            Document = $$"""{"order_id":"{{orderId}}","version":{{version}}}""",
        };

    public static SequenceNumber Sequence(int n) => SequenceNumber.Parse($"1000000000000000{n:D8}");
}

internal static class DatabaseExtensions
{
    /// <summary>Rows as text, each column by PostgreSQL's own conversion, null as nothing.</summary>
    public static async Task<List<string>> RowsAsync(this NpgsqlDataSource database, string query)
    {
        var found = new List<string>();
        await using var command = database.CreateCommand($"SELECT concat_ws('|', VARIADIC ARRAY(SELECT value FROM json_each_text(row_to_json(q)))) FROM ({query}) q");
        await using var rows = await command.ExecuteReaderAsync(TestContext.Current.CancellationToken);
        while (await rows.ReadAsync(TestContext.Current.CancellationToken))
        {
            found.Add(rows.GetString(0));
        }

        return found;
    }

    public static async Task ExecuteAsync(this NpgsqlDataSource database, string sql)
    {
        await using var command = database.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(TestContext.Current.CancellationToken);
    }

    /// <summary>As in Redshift: keys may be declared there, and are not enforced.</summary>
    public static Task DropKeysAsync(this NpgsqlDataSource database) => database.ExecuteAsync("""
        ALTER TABLE orders DROP CONSTRAINT orders_key;
        ALTER TABLE order_changes DROP CONSTRAINT order_changes_key;
        ALTER TABLE load_ledger DROP CONSTRAINT load_ledger_key;
        ALTER TABLE load_failures DROP CONSTRAINT load_failures_key;
        ALTER TABLE waiting_changes DROP CONSTRAINT waiting_changes_key;
        """);
}
