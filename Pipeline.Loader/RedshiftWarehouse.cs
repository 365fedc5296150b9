using System.Data.Common;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Npgsql;
using Pipeline.Core;

namespace Pipeline.Loader;

/// <summary>
/// The warehouse in Redshift. Rows come from S3: the load is written there as one Parquet file with a manifest, and COPY
/// reads what the manifest names. Lists of keys come as rows of temporary tables, since there are no array parameters.
/// Each command is one statement, without functions that only the leader node has.
/// </summary>
/// <param name="database">See <see cref="DataSource"/>.</param>
/// <param name="objects">Where the load and its manifest are written.</param>
/// <param name="bucket">The name of that bucket, for COPY.</param>
/// <param name="copyRole">The ARN of the role that the cluster reads the bucket with.</param>
public sealed partial class RedshiftWarehouse(NpgsqlDataSource database, IObjectStore objects, string bucket, string copyRole)
    : SqlWarehouse(database, Dialect)
{
    internal const string Dialect = "redshift";

    private readonly IObjectStore _objects = objects;
    private readonly string _bucket = bucket;
    private readonly string _copyRole = copyRole;

    /// <summary>
    /// Bytes of a text column and of the document. VARCHAR ends at 65,535, and SUPER cannot give a text back as it was.
    /// (With the cluster's parameter enable_large_strings_opt_in, new in November 2026, a SUPER takes a string of up to
    /// 16,000,000; VARCHAR columns stay as they are.) DynamoDB's items have up to 400 KB.
    /// </summary>
    private const int TextBytesMax = 2_048;
    private const int DocumentBytesMax = 65_535;

    /// <summary>Rows of one INSERT: its text and its parameters stay small.</summary>
    private const int InsertRowsMax = 500;

    /// <summary>
    /// Npgsql treats Redshift like any old PostgreSQL and ignores this word by now; whoever writes the connection string says
    /// with it which dialect of SQL the server speaks.
    /// </summary>
    private const string CompatibilityMode = "Server Compatibility Mode";

    public static bool IsMeant(string connectionString) =>
        new DbConnectionStringBuilder { ConnectionString = connectionString }.TryGetValue(CompatibilityMode, out var mode)
        && string.Equals(mode as string, Dialect, StringComparison.OrdinalIgnoreCase);

    /// <param name="given">
    /// Connection string with <c>Server Compatibility Mode=Redshift</c>, without a password when <paramref name="password"/> is given.
    /// </param>
    /// <param name="password">Asked for whenever a connection is opened, so a rotated one is taken up.</param>
    public static NpgsqlDataSource DataSource(string given, Func<CancellationToken, ValueTask<string>>? password)
    {
        var connection = new NpgsqlConnectionStringBuilder(given)
        {
            CommandTimeout = 300,
            ApplicationName = "pipeline-loader",
            // A question that Redshift does not know.
            GssEncryptionMode = GssEncryptionMode.Disable,
            // The codes of Redshift's errors are in it, and Npgsql keeps it back otherwise (SqlWarehouse.IsAboutAValue).
            IncludeErrorDetail = true,
        };
        connection.Remove(CompatibilityMode);
        var builder = new NpgsqlDataSourceBuilder(connection.ConnectionString);

        // What is sent and read here are text and numbers, which need no look into the catalog.
        builder.ConfigureTypeLoading(types => types.EnableTypeLoading(false));
        if (password is not null)
        {
            builder.UsePasswordProvider(
                _ => throw new NotSupportedException("Connections to the warehouse are opened asynchronously."),
                (_, cancellationToken) => password(cancellationToken));
        }

        return builder.Build();
    }

    public override Task<IReadOnlyList<Change>> ReleasableAsync(IReadOnlyCollection<ParkedChange> parked, int max, CancellationToken cancellationToken) =>
        CallAsync(async () =>
        {
            // The temporary table goes with the transaction, which is never committed.
            await using var connection = await Database.OpenConnectionAsync(cancellationToken);
            await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
            var load = new RedshiftLoad(this, connection, transaction);
            await load.RunAsync("parked", cancellationToken);
            await load.InsertParkedAsync(parked, cancellationToken);
            var statement = Sql.Read(Dialect, "releasable").Single().Replace("{max}", max.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal);
            await using var query = new NpgsqlCommand(statement, connection, transaction);
            return await ReadChangesAsync(query, cancellationToken);
        });

    protected override Load CreateLoad(NpgsqlConnection connection, NpgsqlTransaction transaction) => new RedshiftLoad(this, connection, transaction);

    /// <summary>
    /// What COPY would refuse, or store as something else. Of a removal only its keys have to fit: it has to come through
    /// whatever the order looked like.
    /// </summary>
    public override string? MisfitOf(Change change)
    {
        // Redshift compares text without its trailing blanks ("Character types" in the developer guide): this order could
        // not be told from the one without them.
        var misfit = change.OrderId.EndsWith(' ') ? "order_id ends with a blank" : Misfit("order_id", change.OrderId) ?? Misfit("event_id", change.EventId);
        return misfit is not null || change.Operation == Operation.Remove
            ? misfit
            : Misfit("trace_parent", change.TraceParent)
                ?? Misfit("merchant_id", change.MerchantId)
                ?? Misfit("customer_id", change.CustomerId)
                ?? Misfit("currency", change.Currency)
                ?? Misfit("document", change.Document, DocumentBytesMax);
    }

    /// <summary>The change as it can be stored here: what does not fit of a removal is left out, as <see cref="Change.Document"/> says.</summary>
    /// <exception cref="WarehouseException">The change does not fit, and nobody asked before: it is refused like one that the warehouse itself refuses.</exception>
    private Change Fitted(Change change)
    {
        if (MisfitOf(change) is { } misfit)
        {
            throw new WarehouseException(WarehouseFault.Refused, misfit);
        }

        return change.Operation != Operation.Remove ? change : change with
        {
            TraceParent = Misfit("", change.TraceParent) is null ? change.TraceParent : null,
            MerchantId = Misfit("", change.MerchantId) is null ? change.MerchantId : null,
            CustomerId = Misfit("", change.CustomerId) is null ? change.CustomerId : null,
            Currency = Misfit("", change.Currency) is null ? change.Currency : null,
            Document = Misfit("", change.Document, DocumentBytesMax) is null ? change.Document : "{}",
        };
    }

    private static string? Misfit(string column, string? value, int bytesMax = TextBytesMax)
    {
        // A character has at most three bytes, a pair of them four.
        if (value is null || (value.Length * 3 <= bytesMax && !value.Contains('\0', StringComparison.Ordinal)))
        {
            return null;
        }

        var bytes = Encoding.UTF8.GetByteCount(value);
        return bytes > bytesMax ? $"{column} has {bytes} bytes, and Redshift takes {bytesMax}"
            : value.Contains('\0', StringComparison.Ordinal) ? $"{column} has a character U+0000, which Redshift does not take"
            : null;
    }

    /// <summary>COPY takes no parameters: what goes into its text must not end the literal.</summary>
    private static string Literal(string text) => SafeLiteral().IsMatch(text)
        ? text
        : throw new InvalidOperationException($"'{text}' cannot be part of a COPY: only letters, digits and / : . _ - + = , @ can.");

    [GeneratedRegex("^[A-Za-z0-9/:._+=,@-]+$")]
    private static partial Regex SafeLiteral();

    private sealed class RedshiftLoad(RedshiftWarehouse warehouse, NpgsqlConnection connection, NpgsqlTransaction transaction)
        : Load(connection, transaction, Dialect)
    {
        public override Task<IReadOnlyList<ParkedChange>> SettledAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken) =>
            CallAsync<IReadOnlyList<ParkedChange>>(async () =>
            {
                var given = parked.ToList();
                await InsertParkedAsync(given, cancellationToken);
                var settled = new List<ParkedChange>();
                await using var query = Command(Sql.Read(Dialect, "settled").Single());
                await using var rows = await query.ExecuteReaderAsync(cancellationToken);
                while (await rows.ReadAsync(cancellationToken))
                {
                    settled.Add(given[(int)rows.GetInt64(0)]);
                }

                return settled;
            });

        public Task InsertParkedAsync(IReadOnlyCollection<ParkedChange> parked, CancellationToken cancellationToken) => InsertAsync(
            "staged_parked", [.. parked.Select((p, place) => new object[] { (long)place, p.OrderId, p.SequenceNumber.ToString(), p.Version ?? UnknownVersion })], cancellationToken);

        public override Task CommitAsync(CancellationToken cancellationToken) => CallAsync(async () =>
        {
            await RunAsync("8-drop", cancellationToken);
            await base.CommitAsync(cancellationToken);
            return 0;
        });

        protected override async Task CopyAsync(IReadOnlyList<Change> changes, IReadOnlyList<Change> waiting, CancellationToken cancellationToken)
        {
            if (changes.Count + waiting.Count == 0)
            {
                return;
            }

            var file = await StagingFile.WriteAsync([.. changes.Select(warehouse.Fitted)], [.. waiting.Select(warehouse.Fitted)], cancellationToken);
            var name = $"{Names.ManifestsPrefix}{Guid.CreateVersion7():N}";
            await warehouse._objects.PutAsync($"{name}.parquet", file, ChangeFile.ContentType, cancellationToken);

            // COPY from Parquet needs the length ("Using a manifest to specify data files" in the developer guide).
            var manifest = JsonSerializer.SerializeToUtf8Bytes(new Dictionary<string, object>
            {
                ["entries"] = new object[]
                {
                    new Dictionary<string, object>
                    {
                        ["url"] = $"s3://{warehouse._bucket}/{name}.parquet",
                        ["mandatory"] = true,
                        ["meta"] = new Dictionary<string, object> { ["content_length"] = file.Length },
                    },
                },
            });
            await warehouse._objects.PutAsync($"{name}.manifest", manifest, "application/json", cancellationToken);

            foreach (var statement in Sql.Read(Dialect, "2-stage"))
            {
                await using var command = Command(statement
                    .Replace("{manifest}", Literal($"s3://{warehouse._bucket}/{name}.manifest"), StringComparison.Ordinal)
                    .Replace("{role}", Literal(warehouse._copyRole), StringComparison.Ordinal));
                await command.ExecuteNonQueryAsync(cancellationToken);
            }
        }

        protected override async Task WriteLedgerAsync(IReadOnlyList<ChangeObject> files, CancellationToken cancellationToken)
        {
            if (files.Count > 0)
            {
                await InsertAsync(
                    "staged_ledger", [.. files.Select(f => new object[] { f.File.Key, f.File.ETag, (long)f.Changes.Count, f.File.Bytes })], cancellationToken);
                await RunAsync("7-ledger", cancellationToken);
            }
        }

        private async Task InsertAsync(string table, IReadOnlyList<object[]> rows, CancellationToken cancellationToken)
        {
            foreach (var chunk in rows.Chunk(InsertRowsMax))
            {
                var values = new StringBuilder($"INSERT INTO {table} VALUES ");
                await using var command = Command("");
                foreach (var row in chunk)
                {
                    values.Append(command.Parameters.Count == 0 ? "(" : ", (");
                    for (var i = 0; i < row.Length; i++)
                    {
                        command.Parameters.Add(new NpgsqlParameter { Value = row[i] });
                        values.Append(i == 0 ? "" : ", ").Append(CultureInfo.InvariantCulture, $"${command.Parameters.Count}");
                    }

                    values.Append(')');
                }

                command.CommandText = values.ToString();
                await command.ExecuteNonQueryAsync(cancellationToken);
            }
        }
    }
}
