using System.Globalization;
using DuckDB.NET.Data;

namespace Pipeline.IntegrationTests;

internal static class ChangeFiles
{
    /// <summary>Every distinct change in a folder of change files, one line each, read by somebody else's Parquet reader.</summary>
    public static List<string> ReadWithDuckDb(string folder)
    {
        using var connection = new DuckDBConnection("DataSource=:memory:");
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = $"""
            select distinct order_id, version, sequence_number, operation, coalesce(status, ''), coalesce(total_amount, 0)
            from read_parquet('{folder}/**/*.parquet', hive_partitioning = true)
            """;
        using var reader = command.ExecuteReader();
        var lines = new List<string>();
        while (reader.Read())
        {
            lines.Add(Line(reader.GetString(0), reader.GetInt64(1), reader.GetString(2), reader.GetString(3), reader.GetString(4), reader.GetDecimal(5)));
        }

        lines.Sort(StringComparer.Ordinal);
        return lines;
    }

    public static string Line(string orderId, long version, string sequenceNumber, string operation, string status, decimal total) =>
        string.Create(CultureInfo.InvariantCulture, $"{orderId} {version} {sequenceNumber} {operation} {status} {total:0.00}");
}
