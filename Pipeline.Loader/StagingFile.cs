using System.Globalization;
using Parquet;
using Parquet.Schema;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>
/// The rows of one load as Parquet, in the order of Redshift's table staged_file (Sql/redshift/1-begin.sql). Not the change
/// files themselves, because a load may be a part of a file or of many, because the numbers of the rows come back from the
/// warehouse, and because COPY reads Parquet through Redshift Spectrum, which is known to take timestamps for others
/// (github.com/dask/fastparquet/issues/432, github.com/apache/arrow/issues/38000). So times and amounts are text here.
/// </summary>
internal static class StagingFile
{
    /// <summary>Rows of a row group; with documents of at most 64 KB each a group fits the memory.</summary>
    private const int GroupRowsMax = 5_000;

    private static readonly DataField RowNo = new("row_no", typeof(long), isNullable: false);
    private static readonly DataField Waits = new("waits", typeof(bool), isNullable: false);
    private static readonly DataField OrderId = new("order_id", typeof(string), isNullable: false);
    private static readonly DataField Version = new("version", typeof(long), isNullable: false);
    private static readonly DataField Sequence = new("sequence_number", typeof(string), isNullable: false);
    private static readonly DataField EventId = new("event_id", typeof(string), isNullable: false);
    private static readonly DataField OperationName = new("operation", typeof(string), isNullable: false);
    private static readonly DataField ChangedAt = new("changed_at", typeof(string), isNullable: false);
    private static readonly DataField TraceParent = new("trace_parent", typeof(string), isNullable: true);
    private static readonly DataField MerchantId = new("merchant_id", typeof(string), isNullable: true);
    private static readonly DataField CustomerId = new("customer_id", typeof(string), isNullable: true);
    private static readonly DataField Status = new("status", typeof(string), isNullable: true);
    private static readonly DataField Currency = new("currency", typeof(string), isNullable: true);
    private static readonly DataField TotalAmount = new("total_amount", typeof(string), isNullable: true);
    private static readonly DataField CreatedAt = new("created_at", typeof(string), isNullable: true);
    private static readonly DataField UpdatedAt = new("updated_at", typeof(string), isNullable: true);
    private static readonly DataField Document = new("document", typeof(string), isNullable: false);

    private static readonly ParquetSchema Schema = new(
        RowNo, Waits, OrderId, Version, Sequence, EventId, OperationName, ChangedAt, TraceParent,
        MerchantId, CustomerId, Status, Currency, TotalAmount, CreatedAt, UpdatedAt, Document);

    private static readonly ParquetOptions Options = new() { CompressionMethod = CompressionMethod.Snappy };

    /// <summary>Rows are numbered from 0: first the changes to be loaded, behind them those that wait.</summary>
    public static async Task<ReadOnlyMemory<byte>> WriteAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken)
    {
        var file = new MemoryStream();
        await using (var writer = await ParquetWriter.CreateAsync(Schema, file, Options, cancellationToken: cancellationToken))
        {
            var row = 0;
            foreach (var rows in changes.Concat(waiting).Chunk(GroupRowsMax))
            {
                var first = row;
                using var group = writer.CreateRowGroup();
                await group.WriteAsync(RowNo, Values(rows, i => (long)(first + i)), cancellationToken: cancellationToken);
                await group.WriteAsync(Waits, Values(rows, i => first + i >= changes.Count), cancellationToken: cancellationToken);
                await group.WriteAsync(OrderId, Text(rows, c => c.OrderId));
                await group.WriteAsync(Version, Values(rows, i => rows[i].Version), cancellationToken: cancellationToken);
                await group.WriteAsync(Sequence, Text(rows, c => c.SequenceNumber.ToString()));
                await group.WriteAsync(EventId, Text(rows, c => c.EventId));
                await group.WriteAsync(OperationName, Text(rows, c => ChangeFile.NameOf(c.Operation)));
                await group.WriteAsync(ChangedAt, Text(rows, c => Time(c.ChangedAt)));
                await group.WriteAsync(TraceParent, Text(rows, c => c.TraceParent));
                await group.WriteAsync(MerchantId, Text(rows, c => c.MerchantId));
                await group.WriteAsync(CustomerId, Text(rows, c => c.CustomerId));
                await group.WriteAsync(Status, Text(rows, c => c.Status is { } status ? OrderStatusText.Of(status) : null));
                await group.WriteAsync(Currency, Text(rows, c => c.Currency));
                await group.WriteAsync(TotalAmount, Text(rows, c => c.TotalAmount?.ToString("0.00", CultureInfo.InvariantCulture)));
                await group.WriteAsync(CreatedAt, Text(rows, c => Time(c.CreatedAt)));
                await group.WriteAsync(UpdatedAt, Text(rows, c => Time(c.UpdatedAt)));
                await group.WriteAsync(Document, Text(rows, c => c.Document));
                group.CompleteValidate();
                row += rows.Length;
            }
        }

        return file.GetBuffer().AsMemory(0, (int)file.Length);
    }

    private static string?[] Text(Change[] rows, Func<Change, string?> select) => [.. rows.Select(select)];

    private static ReadOnlyMemory<T> Values<T>(Change[] rows, Func<int, T> select) => Enumerable.Range(0, rows.Length).Select(select).ToArray();

    private static string? Time(DateTimeOffset? time) =>
        time?.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss.ffffff'+00'", CultureInfo.InvariantCulture);
}
