using Npgsql;
using Pipeline.Loader;

namespace Pipeline.Ops.Replay;

/// <summary>
/// A rebuild's claim on a warehouse: it is empty, or an earlier rebuild of it did not come to its end. One that was given to
/// a loader since then may be claimed as well: a rebuild that goes on loads what the ledger does not have, as that loader does.
/// </summary>
internal static class EmptyWarehouse
{
    private static readonly string[] Filled = ["orders", "order_changes", "waiting_changes", "load_ledger"];

    /// <summary>Makes the schema, and notes that the rebuild begins or goes on. A warehouse that is refused is left as it is.</summary>
    /// <returns>Whether it goes on.</returns>
    /// <exception cref="OperatorException">There are rows that no unfinished rebuild has brought.</exception>
    public static async Task<bool> ClaimAsync(NpgsqlDataSource database, IMigrator migrator, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        NpgsqlTransaction? transaction = null;
        await GoesOnAsync();
        await migrator.MigrateAsync(cancellationToken);

        // No loader is in a load between the second look and the note.
        await using (transaction = await connection.BeginTransactionAsync(cancellationToken))
        {
            await ExecuteAsync("LOCK TABLE load_ledger IN SHARE ROW EXCLUSIVE MODE");
            var goesOn = await GoesOnAsync();
            if (!goesOn)
            {
                await ExecuteAsync("INSERT INTO rebuilds (started_at) VALUES (now())");
            }

            await transaction.CommitAsync(cancellationToken);
            return goesOn;
        }

        async Task<bool> GoesOnAsync()
        {
            if (await AnyAsync("rebuilds", "finished_at IS NULL"))
            {
                return true;
            }

            foreach (var table in Filled)
            {
                if (await AnyAsync(table))
                {
                    throw new OperatorException(
                        $"The warehouse is not empty: {table} has rows. A rebuild fills an empty one: create a new database and name it with "
                        + "--warehouse, rebuild it, and point the loader to it. (To load files again into this one, use replay.)");
                }
            }

            return false;
        }

        async Task<bool> AnyAsync(string table, string which = "true") =>
            await ScalarAsync($"SELECT to_regclass('{table}') IS NOT NULL") && await ScalarAsync($"SELECT EXISTS (SELECT 1 FROM {table} WHERE {which})");

        async Task ExecuteAsync(string sql)
        {
            await using var command = new NpgsqlCommand(sql, connection, transaction);
            await command.ExecuteNonQueryAsync(cancellationToken);
        }

        async Task<bool> ScalarAsync(string sql)
        {
            await using var command = new NpgsqlCommand(sql, connection, transaction);
            return (bool)(await command.ExecuteScalarAsync(cancellationToken))!;
        }
    }

    public static async Task FinishAsync(NpgsqlDataSource database, CancellationToken cancellationToken)
    {
        await using var command = database.CreateCommand("UPDATE rebuilds SET finished_at = now() WHERE finished_at IS NULL");
        await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
