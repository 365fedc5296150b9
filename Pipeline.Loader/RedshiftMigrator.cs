using Npgsql;

namespace Pipeline.Loader;

/// <summary>
/// Redshift's schema: Migrations/redshift/*.sql, each once, all that are missing in one transaction. DbUp has no part in it,
/// because the journal that it keeps in PostgreSQL needs sequences and advisory locks.
/// </summary>
public sealed class RedshiftMigrator(NpgsqlDataSource database, ILogger<RedshiftMigrator> logger) : IMigrator
{
    private const string Folder = "Redshift/";

    /// <summary>The scripts by name, in the order of their numbers.</summary>
    internal static IReadOnlyList<(string Name, IReadOnlyList<string> Statements)> Scripts { get; } =
        [.. typeof(RedshiftMigrator).Assembly.GetManifestResourceNames()
            .Where(name => name.StartsWith(Folder, StringComparison.Ordinal))
            .Order(StringComparer.Ordinal)
            .Select(name => (name[Folder.Length..], Read(name)))];

    /// <summary>Whoever is first makes it; IF NOT EXISTS, because the tables below must not be looked for without it.</summary>
    internal const string CreateJournal =
        "CREATE TABLE IF NOT EXISTS schema_migrations (script varchar(256) NOT NULL, applied_at timestamptz NOT NULL DEFAULT sysdate) DISTSTYLE EVEN";

    internal const string LockJournal = "LOCK schema_migrations";
    internal const string ReadJournal = "SELECT script FROM schema_migrations";
    internal const string WriteJournal = "INSERT INTO schema_migrations (script) VALUES ($1)";

    public async Task MigrateAsync(CancellationToken cancellationToken)
    {
        try
        {
            await using var connection = await database.OpenConnectionAsync(cancellationToken);
            await using (var create = new NpgsqlCommand(CreateJournal, connection))
            {
                try
                {
                    await create.ExecuteNonQueryAsync(cancellationToken);
                }
                catch (PostgresException e) when (e.SqlState is PostgresErrorCodes.DuplicateTable or PostgresErrorCodes.DuplicateObject or PostgresErrorCodes.UniqueViolation)
                {
                    // IF NOT EXISTS looks first and makes it then; another loader was in between. LOCK finds it.
                }
            }

            // Two loaders that start together migrate in turn.
            await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
            await RunAsync(LockJournal);
            var applied = new HashSet<string>(StringComparer.Ordinal);
            await using (var query = new NpgsqlCommand(ReadJournal, connection, transaction))
            {
                await using var rows = await query.ExecuteReaderAsync(cancellationToken);
                while (await rows.ReadAsync(cancellationToken))
                {
                    applied.Add(rows.GetString(0));
                }
            }

            foreach (var (name, statements) in Scripts.Where(script => !applied.Contains(script.Name)))
            {
                logger.LogInformation("Migration {Script}", name);
                foreach (var statement in statements)
                {
                    await RunAsync(statement);
                }

                await using var write = new NpgsqlCommand(WriteJournal, connection, transaction);
                write.Parameters.Add(new() { Value = name });
                await write.ExecuteNonQueryAsync(cancellationToken);
            }

            await transaction.CommitAsync(cancellationToken);

            async Task RunAsync(string statement)
            {
                await using var command = new NpgsqlCommand(statement, connection, transaction);
                await command.ExecuteNonQueryAsync(cancellationToken);
            }
        }
        catch (NpgsqlException e)
        {
            throw new WarehouseException(WarehouseFault.Unavailable, e.Message, e);
        }
    }

    private static IReadOnlyList<string> Read(string resource)
    {
        using var stream = typeof(RedshiftMigrator).Assembly.GetManifestResourceStream(resource)!;
        using var reader = new StreamReader(stream);
        return Sql.Statements(reader.ReadToEnd());
    }
}
