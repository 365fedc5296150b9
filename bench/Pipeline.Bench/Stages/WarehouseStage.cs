using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using NpgsqlTypes;
using Pipeline.Core;
using Pipeline.Loader;
using Pipeline.Ops.Compact;
using Pipeline.Ops.Replay;

namespace Pipeline.Bench;

/// <summary>
/// From the change files in the bucket to the warehouse, with the loader's own code: against a binary COPY of the same rows
/// into one table without an index, against the baseline's loaders, and a rebuild against reading Parquet and COPY.
/// </summary>
internal static class WarehouseStage
{
    private const int RowsOfFile = 1_000;
    private const string Migrated = "bench_migrated";
    private const string Load = "change files → warehouse";
    private const string Columns =
        "order_id, version, sequence_number, event_id, operation, changed_at, trace_parent, merchant_id, customer_id, status, currency, "
        + "total_amount, created_at, updated_at, document";

    public static Stage Stage { get; } = new(
        "warehouse",
        "Change files → warehouse (dedup, history, current, ledger), against raw COPY and the baseline's loaders; rebuild against raw Parquet + COPY.",
        QuickSeconds: 40,
        FullSeconds: 220,
        RunAsync);

    private static async Task RunAsync(StageContext context, CancellationToken cancellationToken)
    {
        var servers = await context.ServersAsync(cancellationToken);
        using var s3 = new AmazonS3Client(
            new BasicAWSCredentials("bench", "bench"),
            new AmazonS3Config { ServiceURL = servers.S3.Url, AuthenticationRegion = "us-east-1", ForcePathStyle = true });

        await MigrateAsync(servers.ConnectionString, cancellationToken);
        await LoadAsync(context, servers.ConnectionString, s3, cancellationToken);
        await RebuildAsync(context, servers.ConnectionString, s3, cancellationToken);
        await CompactAsync(context, servers.ConnectionString, s3, cancellationToken);
    }

    private static async Task LoadAsync(StageContext context, Func<string, string> connectionString, AmazonS3Client s3, CancellationToken cancellationToken)
    {
        const string Changes = "bench-load";
        const string Lines = "bench-baseline";
        await s3.PutBucketAsync(Changes, cancellationToken);
        await s3.PutBucketAsync(Lines, cancellationToken);
        await using var database = await CreateDatabaseAsync(connectionString, "bench_load", cancellationToken);
        var baseline = new BaselineLoader(database, s3, Lines);
        await baseline.CreateTableAsync(cancellationToken);

        var files = context.IsQuick ? 3 : 20;
        var rows = files * RowsOfFile;
        using var payloads = context.Inputs.Payloads(RowsOfFile).GetEnumerator();
        List<IReadOnlyList<Change>> round = [];
        var lines = 0;

        // Both sides of a round have the same rows, which neither had before. Whichever comes first fetches them.
        var fetchedFor = 0;
        async Task FetchAsync()
        {
            if (fetchedFor++ % 2 == 0)
            {
                round = Next();
                await StoreAsync(s3, Changes, round, cancellationToken);
            }
        }

        List<IReadOnlyList<Change>> Next() => [.. Enumerable.Range(0, files).Select(_ => Inputs.Decode(NextPayload()))];

        byte[] NextPayload()
        {
            payloads.MoveNext();
            return payloads.Current;
        }

        async Task<double> OursAsync(Func<Task> fetch)
        {
            await fetch();
            return rows / await Rounds.MillisecondsAsync(() => RunLoaderAsync(database, s3, Changes, expectedRows: rows, cancellationToken)) * 1000;
        }

        var copy = await Rounds.RunAsync(
            Rounds.Min,
            () => OursAsync(FetchAsync),
            async () =>
            {
                await FetchAsync();
                await ExecuteAsync(database, "DROP TABLE IF EXISTS bare; CREATE TABLE bare AS SELECT * FROM order_changes WHERE false", cancellationToken);
                return rows / await Rounds.MillisecondsAsync(() => CopyAsync(database, round.SelectMany(file => file), cancellationToken)) * 1000;
            },
            share => context.Progress("against a raw COPY", 0.3 * share),
            cancellationToken);
        round = Next();
        await StoreAsync(s3, Changes, round, cancellationToken);
        context.Add(Row.Of(Load, "raw binary COPY of the same rows into one table without an index", "rows/s", copy, Goal.AtLeast(0.5), FormattableString.Invariant(
            $"A round is {rows:N0} rows in {files} files. Ours begins with a listing of the bucket and ends with the commit; the COPY has its rows in memory. ")
            + await ProfileAsync(() => RunLoaderAsync(database, s3, Changes, expectedRows: rows, cancellationToken))));

        async Task<Pairs> AgainstAsync(int filesOfBaseline, Func<string, CancellationToken, Task<int>> load, Action<double> done) => await Rounds.RunAsync(
            Rounds.Min,
            () => OursAsync(async () => await StoreAsync(s3, Changes, round = Next(), cancellationToken)),
            async () =>
            {
                var keys = new List<string>();
                for (var i = 0; i < filesOfBaseline; i++)
                {
                    keys.Add($"{++lines:D6}.jsonl");
                    using var body = new MemoryStream(BaselineFunction.ToJsonLines(NextPayload()));
                    await s3.PutObjectAsync(new PutObjectRequest { BucketName = Lines, Key = keys[^1], InputStream = body }, cancellationToken);
                }

                return filesOfBaseline * RowsOfFile / await Rounds.MillisecondsAsync(async () =>
                {
                    foreach (var key in keys)
                    {
                        await load(key, cancellationToken);
                    }
                }) * 1000;
            },
            done,
            cancellationToken);

        var byRow = await AgainstAsync(1, baseline.LoadRowByRowAsync, share => context.Progress("against the baseline, row by row", 0.3 + (0.2 * share)));
        var orders = round[0].Select(change => change.OrderId).Distinct().Count();
        context.Add(Row.Of(Load, "B's loader, one upsert a row", "rows/s", byRow, Goal.AtLeast(20), FormattableString.Invariant(
            $"Ours writes two rows with a document for each order's last change and one for each other: the history and what is shown. B's prepared upsert has no network to cross here: PostgreSQL is on the same machine, so a statement a row costs its execution and no round trip worth the name, and the two share the processors with what they wait for.")));
        var byBatch = await AgainstAsync(files, baseline.LoadAsBatchAsync, share => context.Progress("against the baseline, batch by batch", 0.5 + (0.2 * share)));
        context.Add(Row.Of(Load, "B's loader, one upsert a batch", "rows/s", byBatch, Goal.AtLeast(3), FormattableString.Invariant(
            $"Of a file's {RowsOfFile:N0} rows B writes the newest of each order, {orders:N0}; ours writes all of them into the history, and those into `orders`: {(double)(RowsOfFile + orders) / orders:F1} times as many rows, with indexes and a ledger.")));
    }

    private static async Task RebuildAsync(StageContext context, Func<string, string> connectionString, AmazonS3Client s3, CancellationToken cancellationToken)
    {
        const string Bucket = "bench-rebuild";
        await s3.PutBucketAsync(Bucket, cancellationToken);
        var files = context.IsQuick ? 4 : 30;
        var rows = files * RowsOfFile;
        await StoreAsync(s3, Bucket, [.. context.Inputs.Batches(RowsOfFile).Take(files)], cancellationToken);
        await using var bare = await CreateDatabaseAsync(connectionString, "bench_bare", cancellationToken);
        var n = 0;
        var pairs = await Rounds.RunAsync(
            Rounds.Min,
            async () =>
            {
                await using var database = await CreateDatabaseAsync(connectionString, $"bench_rebuild_{++n}", cancellationToken);
                return rows / await Rounds.MillisecondsAsync(() => RunLoaderAsync(database, s3, Bucket, rows, cancellationToken)) * 1000;
            },
            async () =>
            {
                await ExecuteAsync(bare, "DROP TABLE IF EXISTS bare; CREATE TABLE bare AS SELECT * FROM order_changes WHERE false", cancellationToken);
                return rows / await Rounds.MillisecondsAsync(() => ReadAndCopyAsync(bare, s3, Bucket, cancellationToken)) * 1000;
            },
            share => context.Progress("rebuild", 0.7 + (0.15 * share)),
            cancellationToken);
        await using var profiled = await CreateDatabaseAsync(connectionString, "bench_rebuild_profile", cancellationToken);
        context.Add(Row.Of("rebuild from S3", "raw Parquet read + COPY", "rows/s", pairs, Goal.AtLeast(0.7), FormattableString.Invariant(
            $"{rows:N0} rows in {files} files, into a warehouse without rows; the other side reads the same files one after the other into one table without an index. ")
            + await ProfileAsync(() => RunLoaderAsync(profiled, s3, Bucket, rows, cancellationToken))));
    }

    /// <summary>Where the time of one more run goes.</summary>
    private static async Task<string> ProfileAsync(Func<Task> run)
    {
        using var spans = new SpanTimes("Npgsql", "Pipeline.Loader");
        var total = await Rounds.MillisecondsAsync(run);
        return FormattableString.Invariant($"One more run took {total:F0} ms. By its spans: {spans.Longest(8)}; `load` is from BEGIN to COMMIT with the statements in it, and what is outside of it is listing, reading and decoding.");
    }

    /// <summary>The same changes in small files, and in what <c>compact</c> makes of those.</summary>
    private static async Task CompactAsync(StageContext context, Func<string, string> connectionString, AmazonS3Client s3, CancellationToken cancellationToken)
    {
        const string Small = "bench-small";
        const string Compacted = "bench-compacted";
        const int RowsOfSmallFile = 20;
        var files = context.IsQuick ? 40 : 500;
        var rows = files * RowsOfSmallFile;
        List<IReadOnlyList<Change>> batches = [.. context.Inputs.Batches(RowsOfSmallFile).Take(files)];
        foreach (var bucket in new[] { Small, Compacted })
        {
            await s3.PutBucketAsync(bucket, cancellationToken);
            await StoreAsync(s3, bucket, batches, cancellationToken);
        }

        CompactReport report;
        await using (var loaded = await CreateDatabaseAsync(connectionString, "bench_compacted", cancellationToken))
        {
            await RunLoaderAsync(loaded, s3, Compacted, rows, cancellationToken);
            report = await new CompactRun(
                new S3ObjectStore(s3, Compacted), new PostgresWarehouse(loaded), (keys, ct) => CompactCommand.ForgetAsync(loaded, keys, ct),
                TimeProvider.System.GetUtcNow(), new CompactLimits(), dryRun: false).RunAsync(cancellationToken);
        }

        var n = 0;
        async Task<double> RebuiltFromAsync(string bucket)
        {
            await using var database = await CreateDatabaseAsync(connectionString, $"bench_compact_{++n}", cancellationToken);
            return await Rounds.MillisecondsAsync(() => RunLoaderAsync(database, s3, bucket, rows, cancellationToken));
        }

        var pairs = await Rounds.RunAsync(
            Rounds.Min,
            () => RebuiltFromAsync(Compacted),
            () => RebuiltFromAsync(Small),
            share => context.Progress("rebuild of compacted files", 0.85 + (0.15 * share)),
            cancellationToken);
        context.Add(Row.Of("rebuild from compacted files", "rebuild from the small files that they were made of", "ms", pairs, Goal.AtMost(1), FormattableString.Invariant(
            $"{rows:N0} changes: {report.Merged:N0} files became {report.Into:N0}, {report.BytesBefore / 1e3:N0} KB {report.BytesAfter / 1e3:N0} KB.")));
    }

    /// <summary>The loader's own code until the bucket is loaded, with its limits.</summary>
    private static async Task RunLoaderAsync(NpgsqlDataSource database, AmazonS3Client s3, string bucket, long expectedRows, CancellationToken cancellationToken)
    {
        using var run = new LoadRun(
            database, new S3ObjectStore(s3, bucket), new HourRange(null, null), ignoreLedger: false, new LoadLimits(), NullLoggerFactory.Instance, TimeProvider.System);
        var report = await run.RunAsync(cancellationToken);
        if (report.NewChanges != expectedRows || report.FailingFiles > 0)
        {
            throw new InvalidOperationException($"The loader brought {report.NewChanges} of {expectedRows} changes; {report.FailingFiles} files fail.");
        }
    }

    private static async Task ReadAndCopyAsync(NpgsqlDataSource database, AmazonS3Client s3, string bucket, CancellationToken cancellationToken)
    {
        var store = new S3ObjectStore(s3, bucket);
        var page = await store.ListAsync(Names.ChangesPrefix, null, cancellationToken);
        foreach (var file in page.Objects)
        {
            using var content = new MemoryStream((await store.GetAsync(file.Key, cancellationToken))!.Bytes, writable: false);
            await CopyAsync(database, await ChangeFile.ReadAsync(content, cancellationToken), cancellationToken);
        }
    }

    private static async Task StoreAsync(AmazonS3Client s3, string bucket, IReadOnlyList<IReadOnlyList<Change>> files, CancellationToken cancellationToken)
    {
        var store = new S3ObjectStore(s3, bucket);
        foreach (var changes in files)
        {
            using var file = new MemoryStream();
            await ChangeFile.WriteAsync(changes, file, cancellationToken);
            await store.PutAsync(ObjectKeys.ChangeFile(changes), file.GetBuffer().AsMemory(0, (int)file.Length), ChangeFile.ContentType, cancellationToken);
        }
    }

    /// <summary>As Npgsql's documentation shows it.</summary>
    private static async Task CopyAsync(NpgsqlDataSource database, IEnumerable<Change> changes, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        await using var copy = await connection.BeginBinaryImportAsync($"COPY bare ({Columns}) FROM STDIN (FORMAT BINARY)", cancellationToken);
        foreach (var change in changes)
        {
            copy.StartRow();
            copy.Write(change.OrderId, NpgsqlDbType.Text);
            copy.Write(change.Version, NpgsqlDbType.Bigint);
            copy.Write(change.SequenceNumber.ToString(), NpgsqlDbType.Text);
            copy.Write(change.EventId, NpgsqlDbType.Text);
            copy.Write(ChangeFile.NameOf(change.Operation), NpgsqlDbType.Text);
            copy.Write(change.ChangedAt.UtcDateTime, NpgsqlDbType.TimestampTz);
            copy.Write(change.TraceParent, NpgsqlDbType.Text);
            copy.Write(change.MerchantId, NpgsqlDbType.Text);
            copy.Write(change.CustomerId, NpgsqlDbType.Text);
            copy.Write(change.Status is { } status ? OrderStatusText.Of(status) : null, NpgsqlDbType.Text);
            copy.Write(change.Currency, NpgsqlDbType.Text);
            copy.Write(change.TotalAmount, NpgsqlDbType.Numeric);
            copy.Write(change.CreatedAt?.UtcDateTime, NpgsqlDbType.TimestampTz);
            copy.Write(change.UpdatedAt?.UtcDateTime, NpgsqlDbType.TimestampTz);
            copy.Write(change.Document, NpgsqlDbType.Json);
        }

        await copy.CompleteAsync(cancellationToken);
    }

    private static async Task<NpgsqlDataSource> CreateDatabaseAsync(Func<string, string> connectionString, string name, CancellationToken cancellationToken)
    {
        await using var server = NpgsqlDataSource.Create(connectionString("postgres"));
        await ExecuteAsync(server, $"CREATE DATABASE {name} TEMPLATE {Migrated}", cancellationToken);
        return NpgsqlDataSource.Create(PostgresWarehouse.ConnectionString(connectionString(name)));
    }

    /// <summary>What every database of this stage is copied from.</summary>
    private static async Task MigrateAsync(Func<string, string> connectionString, CancellationToken cancellationToken)
    {
        await using var server = NpgsqlDataSource.Create(connectionString("postgres"));
        await ExecuteAsync(server, $"CREATE DATABASE {Migrated} TEMPLATE template0", cancellationToken);
        // A template must not be in use: no connection stays in a pool.
        await using var database = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(connectionString(Migrated)) { Pooling = false }.ConnectionString);
        await new Migrator(database, NullLogger<Migrator>.Instance).MigrateAsync(cancellationToken);
    }

    private static async Task ExecuteAsync(NpgsqlDataSource database, string sql, CancellationToken cancellationToken)
    {
        await using var command = database.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
