using Amazon.Runtime;
using Npgsql;
using Pipeline.Loader;

namespace Pipeline.Ops;

/// <summary>What keeps a command from its work; the message says what it was and how to mend it.</summary>
internal sealed class OperatorException(string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>
    /// Whether the message alone tells the operator what is wrong: a server that is away or refuses. Everything else is
    /// a defect, and is shown with its stack.
    /// </summary>
    public static bool IsExpected(Exception error) => error is OperatorException
        or AmazonServiceException or AmazonClientException or HttpRequestException or IOException or TimeoutException or NpgsqlException
        or WarehouseException or Loader.ObjectStoreException or Loader.ObjectUnreadableException or Processor.ObjectStoreException
        or UnauthorizedAccessException;
}
