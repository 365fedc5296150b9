using CsCheck;
using DuckDB.NET.Data;
using Parquet;
using Parquet.Schema;
using Pipeline.Core;

namespace Pipeline.UnitTests;

public class ChangeFileTests
{
    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Whatever_is_written_is_read_back_and_the_bytes_are_always_the_same() =>
        await Changes.AnyBatch.SampleAsync(async changes =>
        {
            var first = await WriteAsync(changes);
            var second = await WriteAsync([.. changes.Select(c => c with { })]);

            Assert.Equal(first, second);
            Assert.Equal(changes, await ReadAsync(first));
        }, iter: 200);

    [Fact]
    public async Task A_batch_larger_than_a_row_group_is_read_back_in_order()
    {
        Change[] changes = [.. Enumerable.Range(1, 60_000).Select(n => Changes.Change(n))];

        Assert.Equal(changes, await ReadAsync(await WriteAsync(changes)));
    }

    [Fact]
    public void The_key_follows_from_the_records_and_lies_in_the_partition_of_the_first_change()
    {
        Change[] batch = [Changes.Change(1), Changes.Change(2)];

        var key = ObjectKeys.ChangeFile(batch);

        Assert.Equal(key, ObjectKeys.ChangeFile([batch[0] with { Document = "{}" }, batch[1] with { ChangedAt = default }]));
        Assert.StartsWith("orders/changes/dt=2026-11-24/hour=08/", key, StringComparison.Ordinal);
        Assert.NotEqual(key, ObjectKeys.ChangeFile([batch[0], batch[1] with { EventId = "another" }]));
        Assert.NotEqual(key, ObjectKeys.ChangeFile([batch[0]]));
    }

    [Fact]
    public async Task A_flipped_bit_anywhere_is_noticed()
    {
        var file = await WriteAsync([.. Enumerable.Range(1, 20).Select(n => Changes.Change(n))]);
        for (var bit = 0; bit < file.Length * 8; bit++)
        {
            file[bit / 8] ^= (byte)(1 << (bit % 8));
            await Assert.ThrowsAsync<InvalidDataException>(() => ReadAsync(file));
            file[bit / 8] ^= (byte)(1 << (bit % 8));
        }
    }

    [Fact]
    public async Task A_truncated_file_is_refused_at_every_length()
    {
        var file = await WriteAsync([Changes.Change(1)]);
        for (var length = 0; length < file.Length; length++)
        {
            await Assert.ThrowsAsync<InvalidDataException>(() => ReadAsync(file[..length]));
        }
    }

    [Fact]
    public async Task A_Parquet_file_of_someone_else_is_refused_by_name()
    {
        using var stream = new MemoryStream();
        var field = new DataField<int>("n");
        await using (var writer = await ParquetWriter.CreateAsync(new ParquetSchema(field), stream, cancellationToken: Cancelled))
        {
            using var group = writer.CreateRowGroup();
            int[] values = [1];
            await group.WriteAsync<int>(field, values, cancellationToken: Cancelled);
        }

        var refused = await Assert.ThrowsAsync<InvalidDataException>(() => ReadAsync(stream.ToArray()));
        Assert.Contains("no seal", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_file_beyond_the_limit_is_refused_before_it_is_read()
    {
        using var huge = new HugeStream();
        var refused = await Assert.ThrowsAsync<InvalidDataException>(() => ChangeFile.ReadAsync(huge, Cancelled));
        Assert.Contains("67108864", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task DuckDB_reads_the_files_as_they_lie_in_the_bucket()
    {
        Change[] first = [Changes.Change(1), Changes.Change(2) with { Status = null, TotalAmount = null, UpdatedAt = null, TraceParent = "00-a" }];
        Change[] second = [Changes.Change(3) with { ChangedAt = new DateTimeOffset(2026, 11, 25, 0, 0, 0, TimeSpan.Zero), Operation = Operation.Remove, MerchantId = "merçado 🛒" }];
        var bucket = Directory.CreateTempSubdirectory("change-files-");
        try
        {
            foreach (var batch in new[] { first, second })
            {
                var path = Path.Combine(bucket.FullName, ObjectKeys.ChangeFile(batch));
                Directory.CreateDirectory(Path.GetDirectoryName(path)!);
                await File.WriteAllBytesAsync(path, await WriteAsync(batch), Cancelled);
            }

            await using var duckdb = new DuckDBConnection("Data Source=:memory:");
            await duckdb.OpenAsync(Cancelled);
            await using var query = duckdb.CreateCommand();
            query.CommandText = $"""
                SELECT concat_ws('|', order_id, version, sequence_number, event_id, operation,
                                 strftime(changed_at AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%f'), trace_parent, merchant_id, status, currency,
                                 total_amount, strftime(updated_at AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%f'), document, dt, hour)
                FROM read_parquet('{bucket.FullName}/orders/changes/**/*.parquet', hive_partitioning = true, hive_types_autocast = false)
                ORDER BY sequence_number
                """;
            Assert.Equal(
            [
                """o-1|1|0000000000000000100000000000000000000001|event-1|modify|2026-11-24T08:00:01.000000|approved|BRL|10.50|2026-11-24T08:00:01.123000|{"order_id":"o-1","version":1}|2026-11-24|08""",
                """o-1|2|0000000000000000100000000000000000000002|event-2|modify|2026-11-24T08:00:02.000000|00-a|BRL|{"order_id":"o-1","version":2}|2026-11-24|08""",
                """o-1|3|0000000000000000100000000000000000000003|event-3|remove|2026-11-25T00:00:00.000000|merçado 🛒|approved|BRL|10.50|2026-11-24T08:00:03.123000|{"order_id":"o-1","version":3}|2026-11-25|00""",
            ], await RowsAsync(query));

            query.CommandText = $"""
                SELECT column_name || ' ' || column_type
                FROM (DESCRIBE SELECT * FROM read_parquet('{bucket.FullName}/orders/changes/**/*.parquet', hive_partitioning = false))
                """;
            Assert.Equal(
            [
                "order_id VARCHAR", "version BIGINT", "sequence_number VARCHAR", "event_id VARCHAR", "operation VARCHAR",
                "changed_at TIMESTAMP WITH TIME ZONE", "trace_parent VARCHAR", "merchant_id VARCHAR", "customer_id VARCHAR", "status VARCHAR",
                "currency VARCHAR", "total_amount DECIMAL(18,2)", "created_at TIMESTAMP WITH TIME ZONE", "updated_at TIMESTAMP WITH TIME ZONE",
                "document VARCHAR",
            ], await RowsAsync(query));
        }
        finally
        {
            bucket.Delete(recursive: true);
        }
    }

    [Fact]
    public void A_status_has_the_same_name_in_files_and_in_JSON()
    {
        foreach (var status in Enum.GetValues<OrderStatus>())
        {
            var json = System.Text.Json.JsonSerializer.Serialize(status).Trim('"');
            Assert.Equal(json, OrderStatusText.Of(status));
            Assert.True(OrderStatusText.TryParse(json, out var parsed) && parsed == status);
        }

        Assert.False(OrderStatusText.TryParse("Created", out _));
        Assert.False(OrderStatusText.TryParse(null, out _));
    }

    private static async Task<List<string>> RowsAsync(DuckDBCommand query)
    {
        var rows = new List<string>();
        await using var reader = await query.ExecuteReaderAsync(Cancelled);
        while (await reader.ReadAsync(Cancelled))
        {
            rows.Add(reader.GetString(0));
        }

        return rows;
    }

    private static async Task<byte[]> WriteAsync(IReadOnlyList<Change> changes)
    {
        using var stream = new MemoryStream();
        await ChangeFile.WriteAsync(changes, stream, Cancelled);
        return stream.ToArray();
    }

    private static async Task<IReadOnlyList<Change>> ReadAsync(byte[] file)
    {
        using var stream = new MemoryStream(file);
        return await ChangeFile.ReadAsync(stream, Cancelled);
    }

    private sealed class HugeStream : MemoryStream
    {
        public override long Length => ChangeFile.BytesMax + 1;
    }
}
