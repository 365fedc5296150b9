using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;

namespace Pipeline.Loader.Tests.Redshift;

/// <summary>A migrated warehouse behind the stand-in: what the product sees, and the PostgreSQL behind it for a look from outside.</summary>
internal sealed class RedshiftDatabase : IAsyncDisposable
{
    public const string Bucket = "bucket";

    private readonly string _folder = Directory.CreateTempSubdirectory("redshift-").FullName;

    private RedshiftDatabase(NpgsqlDataSource postgres, RedshiftStandIn standIn, MemoryObjects objects)
    {
        Postgres = postgres;
        StandIn = standIn;
        Objects = objects;
        var certificate = Path.Combine(_folder, "certificate.pem");
        File.WriteAllText(certificate, standIn.CertificatePem);
        ConnectionString = standIn.ConnectionString(certificate);
        Source = Open();
    }

    public NpgsqlDataSource Postgres { get; }
    public RedshiftStandIn StandIn { get; }
    public MemoryObjects Objects { get; }
    public string ConnectionString { get; }
    public NpgsqlDataSource Source { get; }
    public RedshiftWarehouse Warehouse => new(Source, Objects, Bucket, RedshiftStandIn.CopyRole);

    public static async Task<RedshiftDatabase> CreateAsync(PostgresFixture postgres, bool migrate = true)
    {
        var objects = new MemoryObjects();
        var database = await postgres.CreateDatabaseAsync(empty: true);
        var standIn = await RedshiftStandIn.StartAsync(
            database,
            $"loader_{new NpgsqlConnectionStringBuilder(database.ConnectionString).Database}",
            Bucket,
            async (key, cancellationToken) => (await objects.GetAsync(key, cancellationToken))?.Bytes);
        var redshift = new RedshiftDatabase(database, standIn, objects);
        if (migrate)
        {
            await redshift.MigrateAsync();
        }

        return redshift;
    }

    public Task MigrateAsync() => new RedshiftMigrator(Source, NullLogger<RedshiftMigrator>.Instance).MigrateAsync(TestContext.Current.CancellationToken);

    public NpgsqlDataSource Open(Func<CancellationToken, ValueTask<string>>? password = null) =>
        RedshiftWarehouse.DataSource(ConnectionString, password ?? (_ => ValueTask.FromResult(StandIn.Password)));

    public async ValueTask DisposeAsync()
    {
        await Source.DisposeAsync();
        await StandIn.DisposeAsync();
        await Postgres.DisposeAsync();
        Directory.Delete(_folder, recursive: true);

        // As output, too: it explains the failure that brought the test here.
        foreach (var trouble in StandIn.Troubles)
        {
            TestContext.Current.TestOutputHelper?.WriteLine(trouble);
        }

        Assert.Empty(StandIn.Troubles);
    }
}
