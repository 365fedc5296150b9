using System.Data.Common;
using System.Globalization;
using System.Text.Json.Nodes;
using DuckDB.NET.Data;

namespace Pipeline.IntegrationTests;

internal static class ChangeFiles
{
    /// <summary>All columns of a change file but the document, which comes last as text.</summary>
    public const string Columns =
        "order_id, version, sequence_number, event_id, operation, changed_at, trace_parent, merchant_id, customer_id, status, currency, total_amount, created_at, updated_at";

    /// <summary>
    /// Where both sides hold the same: two backfills write the snapshot of an order that has not changed twice, with the times of
    /// their readings, and the history keeps the first.
    /// </summary>
    public const string FromTheStream = "operation <> 'snapshot'";

    /// <summary>Every distinct change of the stream in a folder of change files, one line each, read by somebody else's Parquet reader.</summary>
    public static List<string> ReadWithDuckDb(string folder)
    {
        using var connection = new DuckDBConnection("DataSource=:memory:");
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = $"select distinct {Columns}, document from read_parquet('{folder}/**/*.parquet', hive_partitioning = true) where {FromTheStream}";
        using var reader = command.ExecuteReader();
        var lines = new List<string>();
        while (reader.Read())
        {
            lines.Add(Line(reader));
        }

        lines.Sort(StringComparer.Ordinal);
        return lines;
    }

    /// <summary>Every value of every row of a folder of change files, as text.</summary>
    public static List<string> TextsWithDuckDb(string folder)
    {
        using var connection = new DuckDBConnection("DataSource=:memory:");
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = $"select * from read_parquet('{folder}/**/*.parquet')";
        using var reader = command.ExecuteReader();
        var texts = new List<string>();
        while (reader.Read())
        {
            texts.Add(string.Join('\n', Enumerable.Range(0, reader.FieldCount).Select(column => Text(reader.GetValue(column)))));
        }

        return texts;
    }

    public static string Line(DbDataReader reader)
    {
        var last = reader.FieldCount - 1;
        return string.Join(' ', Enumerable.Range(0, last).Select(column => Text(reader.GetValue(column)))) + " " + Canonical(JsonNode.Parse(reader.GetString(last)));
    }

    private static string Text(object value) => value switch
    {
        DBNull => "-",
        DateTime time => time.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff", CultureInfo.InvariantCulture),
        DateTimeOffset time => time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff", CultureInfo.InvariantCulture),
        decimal number => number.ToString("0.00", CultureInfo.InvariantCulture),
        _ => Convert.ToString(value, CultureInfo.InvariantCulture)!,
    };

    /// <summary>Compared as JSON, not as text: that the text is the same, too, is for the tests of the digest.</summary>
    private static string Canonical(JsonNode? node) => node switch
    {
        JsonObject fields => $"{{{string.Join(',', fields.OrderBy(field => field.Key, StringComparer.Ordinal).Select(field => $"{field.Key}:{Canonical(field.Value)}"))}}}",
        JsonArray elements => $"[{string.Join(',', elements.Select(Canonical))}]",
        _ => node?.ToJsonString() ?? "null",
    };
}
