using System.Globalization;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
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
        var lines = 0;
        List<byte[]> round = [];
        List<IReadOnlyList<Change>> decoded = [];

        // Both sides of a round have the same rows, which neither had before. Whichever comes first fetches them.
        var fetchedFor = 0;
        async Task FetchAsync()
        {
            if (fetchedFor++ % 2 == 0)
            {
                round = [.. Enumerable.Range(0, files).Select(_ => NextPayload())];
                decoded = [.. round.Select(payload => Inputs.Decode(payload))];
                await StoreAsync(s3, Changes, decoded, cancellationToken);
            }
        }

        byte[] NextPayload()
        {
            payloads.MoveNext();
            return payloads.Current;
        }

        async Task<double> OursAsync()
        {
            await FetchAsync();
            return rows / await Rounds.MillisecondsAsync(() => RunLoaderAsync(database, s3, Changes, expectedRows: rows, cancellationToken)) * 1000;
        }

        var copy = await Rounds.RunAsync(
            Rounds.Min,
            OursAsync,
            async () =>
            {
                await FetchAsync();
                await ExecuteAsync(database, "DROP TABLE IF EXISTS bare; CREATE TABLE bare AS SELECT * FROM order_changes WHERE false", cancellationToken);
                return rows / await Rounds.MillisecondsAsync(() => CopyAsync(database, decoded.SelectMany(file => file), cancellationToken)) * 1000;
            },
            share => context.Progress("against a raw COPY", 0.3 * share),
            cancellationToken);
        await FetchAsync();
        var ours = await ProfileAsync(() => RunLoaderAsync(database, s3, Changes, expectedRows: rows, cancellationToken));
        fetchedFor = 0;
        context.Add(Row.Of(Load, "raw binary COPY of the same rows into one table without an index", "rows/s", copy, Goal.AtLeast(0.5), FormattableString.Invariant(
            $"A round is {rows:N0} rows in {files} files. Ours begins with a listing of the bucket and ends with the commit; the COPY has its rows in memory, and is made of them by the loader's own encoder. Of ours: {ours} {Rest}")));

        async Task<List<string>> PutLinesAsync()
        {
            var keys = new List<string>();
            foreach (var payload in round)
            {
                keys.Add(string.Create(CultureInfo.InvariantCulture, $"{++lines:D6}.jsonl"));
                using var body = new MemoryStream(BaselineFunction.ToJsonLines(payload));
                await s3.PutObjectAsync(new PutObjectRequest { BucketName = Lines, Key = keys[^1], InputStream = body }, cancellationToken);
            }

            return keys;
        }

        async Task LoadLinesAsync(IEnumerable<string> keys, Func<string, CancellationToken, Task<int>> load)
        {
            foreach (var key in keys)
            {
                await load(key, cancellationToken);
            }
        }

        async Task<(Pairs Pairs, string Profile)> AgainstAsync(Func<string, CancellationToken, Task<int>> load, Action<double> done)
        {
            var pairs = await Rounds.RunAsync(
                Rounds.Min,
                OursAsync,
                async () =>
                {
                    await FetchAsync();
                    var keys = await PutLinesAsync();
                    return rows / await Rounds.MillisecondsAsync(() => LoadLinesAsync(keys, load)) * 1000;
                },
                done,
                cancellationToken);
            await FetchAsync();
            var profiled = await PutLinesAsync();
            var profile = await ProfileAsync(() => LoadLinesAsync(profiled, load));
            await RunLoaderAsync(database, s3, Changes, expectedRows: rows, cancellationToken);
            fetchedFor = 0;
            return (pairs, profile);
        }

        var byRow = await AgainstAsync(baseline.LoadRowByRowAsync, share => context.Progress("against the baseline, row by row", 0.3 + (0.25 * share)));
        var orders = decoded[0].Select(change => change.OrderId).Distinct().Count();
        context.Add(Row.Of(Load, "B's loader, one upsert a row", "rows/s", byRow.Pairs, Goal.AtLeast(20), FormattableString.Invariant(
            $"The same rows; B takes a file at a time, in a transaction of its own, and ours what has gathered. Ours writes two rows with a document for each order's last change and one for each other: the history and what is shown. Of B: {byRow.Profile} The rest is reading, parsing, its parameters and a COMMIT a file. A row, with its statement's way to PostgreSQL and back on the same machine, takes {1_000_000 / byRow.Pairs.Against.Median:F0} µs.")));
        var byBatch = await AgainstAsync(baseline.LoadAsBatchAsync, share => context.Progress("against the baseline, batch by batch", 0.55 + (0.15 * share)));
        context.Add(Row.Of(Load, "B's loader, one upsert a batch", "rows/s", byBatch.Pairs, Goal.AtLeast(3), FormattableString.Invariant(
            $"The same rows. Of a file's {RowsOfFile:N0} rows B writes the newest of each order, {orders:N0}; ours writes all of them into the history, and those into `orders`: {(double)(RowsOfFile + orders) / orders:F1} times as many rows, with indexes and a ledger. Of B: {byBatch.Profile} The rest is reading, parsing, making the statement and a COMMIT a file.")));
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
            $"{rows:N0} rows in {files} files, into a warehouse without rows; the other side reads the same files, as many at a time, and writes them with one COPY into one table without an index. The schema is there before. Of ours: ")
            + $"{await ProfileAsync(() => RunLoaderAsync(profiled, s3, Bucket, rows, cancellationToken))} {Rest}"));
    }

    /// <summary>Of a run of ours, behind its spans.</summary>
    private const string Rest = "`load` is from BEGIN to COMMIT with the statements in it; what is outside of it is listing, reading and decoding.";

    /// <summary>Where the time of one more run goes.</summary>
    private static async Task<string> ProfileAsync(Func<Task> run)
    {
        using var spans = new SpanTimes("Npgsql", "Pipeline.Loader");
        var total = await Rounds.MillisecondsAsync(run);
        return FormattableString.Invariant($"one more run took {total:F0} ms; by its spans {spans.Longest(8)}.");
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

    /// <summary>As many files at a time as the loader reads, and then one COPY.</summary>
    private static async Task ReadAndCopyAsync(NpgsqlDataSource database, AmazonS3Client s3, string bucket, CancellationToken cancellationToken)
    {
        var store = new S3ObjectStore(s3, bucket);
        var page = await store.ListAsync(Names.ChangesPrefix, null, cancellationToken);
        var read = new IReadOnlyList<Change>[page.Objects.Count];
        await Parallel.ForAsync(
            0,
            read.Length,
            new ParallelOptions { MaxDegreeOfParallelism = new LoaderOptions { BucketName = bucket }.DownloadParallelism, CancellationToken = cancellationToken },
            async (file, ct) =>
            {
                using var content = new MemoryStream((await store.GetAsync(page.Objects[file].Key, ct))!.Bytes, writable: false);
                read[file] = await ChangeFile.ReadAsync(content, ct);
            });
        await CopyAsync(database, read.SelectMany(changes => changes), cancellationToken);
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

    /// <summary>By the loader's own encoder: what Npgsql's importer takes for each value is no limit of the server's.</summary>
    private static async Task CopyAsync(NpgsqlDataSource database, IEnumerable<Change> changes, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        await using var stream = await connection.BeginRawBinaryCopyAsync($"COPY bare ({Columns}) FROM STDIN (FORMAT BINARY)", cancellationToken);
        using var rows = new CopyRows();
        foreach (var change in changes)
        {
            rows.BeginRow(15);
            rows.Write(change.OrderId);
            rows.Write(change.Version);
            rows.Write(change.SequenceNumber.ToString());
            rows.Write(change.EventId);
            rows.Write(ChangeFile.NameOf(change.Operation));
            rows.Write(change.ChangedAt);
            rows.Write(change.TraceParent);
            rows.Write(change.MerchantId);
            rows.Write(change.CustomerId);
            rows.Write(change.Status is { } status ? OrderStatusText.Of(status) : null);
            rows.Write(change.Currency);
            rows.Write(change.TotalAmount);
            rows.Write(change.CreatedAt);
            rows.Write(change.UpdatedAt);
            rows.Write(change.Document);
            if (rows.IsFull)
            {
                await rows.FlushAsync(stream, cancellationToken);
            }
        }

        rows.End();
        await rows.FlushAsync(stream, cancellationToken);
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
