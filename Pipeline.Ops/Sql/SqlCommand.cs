using System.CommandLine;
using System.Globalization;
using Npgsql;
using Spectre.Console;

namespace Pipeline.Ops.Sql;

/// <summary><c>sql</c>: one query against the warehouse, for a machine without a client of its own.</summary>
internal static class SqlCommand
{
    // A terminal shows no more, and a query without an end must not hold the warehouse for ever.
    private const int RowsMax = 200;
    private const int TimeoutSeconds = 30;

    public static Command Create()
    {
        var query = new Argument<string>("query") { Description = "What to ask, for example \"select * from order_history\"." };
        var warehouse = Options.Warehouse();
        var command = new Command("sql", $"Run one query in a read-only transaction and show its first {RowsMax} rows.") { query, warehouse };
        command.SetAction(async (parsed, cancellationToken) =>
        {
            if ((parsed.GetValue(warehouse) ?? Options.Setting(Options.WarehouseSetting) ?? LocalDefaults.Warehouse()) is not { } connectionString)
            {
                await Console.Error.WriteLineAsync("No AppHost has run here yet: start one, or say where the warehouse is with --warehouse.");
                return 1;
            }

            try
            {
                await RunAsync(connectionString, parsed.GetRequiredValue(query), cancellationToken);
                return 0;
            }
            catch (NpgsqlException e)
            {
                await Console.Error.WriteLineAsync(e.Message);
                return 1;
            }
        });
        return command;
    }

    private static async Task RunAsync(string connectionString, string query, CancellationToken cancellationToken)
    {
        await using var connection = new NpgsqlConnection(connectionString);
        await connection.OpenAsync(cancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
        await using (var readOnly = new NpgsqlCommand("set transaction read only", connection, transaction))
        {
            await readOnly.ExecuteNonQueryAsync(cancellationToken);
        }

        await using var command = new NpgsqlCommand(query, connection, transaction) { CommandTimeout = TimeoutSeconds };
        await using var reader = await command.ExecuteReaderAsync(cancellationToken);
        var table = new Table().Border(TableBorder.Simple);
        for (var column = 0; column < reader.FieldCount; column++)
        {
            table.AddColumn(new TableColumn(new Text(reader.GetName(column))));
        }

        var rows = 0;
        while (rows < RowsMax && await reader.ReadAsync(cancellationToken))
        {
            table.AddRow(Enumerable.Range(0, reader.FieldCount).Select(column => new Text(Show(reader.GetValue(column)))));
            rows++;
        }

        var console = Terminal.Create(forPeopleOnly: false);
        console.Write(table);
        console.WriteLine(rows == RowsMax ? $"The first {RowsMax} rows." : $"{rows} rows.");
    }

    private static string Show(object value) => value switch
    {
        DBNull => "",
        DateTime time => time.ToString("yyyy-MM-dd HH:mm:ss.fff", CultureInfo.InvariantCulture),
        _ => Convert.ToString(value, CultureInfo.InvariantCulture) ?? "",
    };
}
