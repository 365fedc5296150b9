using DbUp;
using DbUp.Postgresql;
using Npgsql;

namespace Pipeline.Loader;

/// <summary>Brings the schema of the warehouse up to date.</summary>
public interface IMigrator
{
    /// <exception cref="WarehouseException">The warehouse is not there yet, or a script fails.</exception>
    Task MigrateAsync(CancellationToken cancellationToken);
}

/// <summary>PostgreSQL's schema: Migrations/postgres/*.sql, each once and in a transaction.</summary>
public sealed class Migrator(NpgsqlDataSource database, ILogger<Migrator> logger) : IMigrator
{
    /// <summary>Of an advisory lock, any number that nobody else uses: two loaders that start together migrate in turn.</summary>
    private const long LockId = 0x6F72_6465_7273;

    public async Task MigrateAsync(CancellationToken cancellationToken)
    {
        try
        {
            await using var connection = await database.OpenConnectionAsync(cancellationToken);
            await using var command = new NpgsqlCommand("SELECT pg_advisory_lock($1)", connection);
            command.Parameters.Add(new() { Value = LockId });
            await command.ExecuteNonQueryAsync(cancellationToken);
            try
            {
                // DbUp opens connections of its own and works without async.
                await Task.Run(Upgrade, cancellationToken);
            }
            finally
            {
                command.CommandText = "SELECT pg_advisory_unlock($1)";
                await command.ExecuteNonQueryAsync(CancellationToken.None);
            }
        }
        catch (NpgsqlException e)
        {
            throw new WarehouseException(WarehouseFault.Unavailable, e.Message, e);
        }
    }

    private void Upgrade()
    {
        var result = DeployChanges.To
            .PostgresqlDatabase(new PostgresqlConnectionManager(database))
            .WithScriptsEmbeddedInAssembly(typeof(Migrator).Assembly, name => name.StartsWith("Migrations/", StringComparison.Ordinal))
            .JournalToPostgresqlTable("public", "schema_migrations")
            .WithTransactionPerScript()
            .WithVariablesDisabled()
            .LogTo(logger)
            .Build()
            .PerformUpgrade();
        if (!result.Successful)
        {
            throw new WarehouseException(WarehouseFault.Unavailable, $"Migration {result.ErrorScript?.Name} failed: {result.Error.Message}", result.Error);
        }
    }
}
