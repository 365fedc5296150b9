using System.Text.Json;

namespace Pipeline.LambdaEmulator.EventSource;

/// <summary>How .NET says that JSON which somebody else wrote cannot be read.</summary>
internal static class UnreadableJson
{
    /// <summary>
    /// JsonException where the grammar is broken; InvalidOperationException where a text is none (half of a surrogate pair,
    /// bytes that are not UTF-8), which is found only when that text is taken, not when the document is parsed.
    /// </summary>
    public static bool IsMeantBy(Exception e) => e is JsonException or InvalidOperationException;
}
