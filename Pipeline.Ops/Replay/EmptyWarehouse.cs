using Npgsql;

namespace Pipeline.Ops.Replay;

/// <summary>A rebuild's claim on a warehouse: it is empty, or an earlier rebuild of it was interrupted.</summary>
internal static class EmptyWarehouse
{
    /// <summary>Notes that the rebuild begins, or goes on.</summary>
    /// <returns>Whether it goes on.</returns>
    /// <exception cref="OperatorException">There are rows that no unfinished rebuild has brought.</exception>
    public static async Task<bool> ClaimAsync(NpgsqlDataSource database, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenConnectionAsync(cancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(cancellationToken);

        // No loader is in a load between the look and the note.
        await ExecuteAsync("LOCK TABLE load_ledger IN SHARE ROW EXCLUSIVE MODE");
        if ((bool)(await ScalarAsync("SELECT EXISTS (SELECT 1 FROM rebuilds WHERE finished_at IS NULL)"))!)
        {
            return true;
        }

        foreach (var table in (string[])["orders", "order_changes", "waiting_changes", "load_ledger"])
        {
            var rows = (long)(await ScalarAsync($"SELECT count(*) FROM {table}"))!;
            if (rows > 0)
            {
                throw new OperatorException(
                    $"The warehouse is not empty: {table} has {rows} rows. A rebuild fills an empty one: create a new database and name it with "
                    + "--warehouse, rebuild it, and point the loader to it. (To load files again into this one, use replay.)");
            }
        }

        await ExecuteAsync("INSERT INTO rebuilds (started_at) VALUES (now())");
        await transaction.CommitAsync(cancellationToken);
        return false;

        async Task ExecuteAsync(string sql)
        {
            await using var command = new NpgsqlCommand(sql, connection, transaction);
            await command.ExecuteNonQueryAsync(cancellationToken);
        }

        async Task<object?> ScalarAsync(string sql)
        {
            await using var command = new NpgsqlCommand(sql, connection, transaction);
            return await command.ExecuteScalarAsync(cancellationToken);
        }
    }

    public static async Task FinishAsync(NpgsqlDataSource database, CancellationToken cancellationToken)
    {
        await using var command = database.CreateCommand("UPDATE rebuilds SET finished_at = now() WHERE finished_at IS NULL");
        await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
