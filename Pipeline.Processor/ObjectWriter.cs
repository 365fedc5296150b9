using System.Diagnostics;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;

namespace Pipeline.Processor;

/// <summary>Where change files and quarantined records go: all that the function needs of S3.</summary>
public interface IObjectWriter
{
    /// <summary>Writes the object, over what is there under the same key. Returns only when it is stored.</summary>
    /// <exception cref="ObjectStoreException">It may or may not be stored.</exception>
    Task PutAsync(
        string key, ReadOnlyMemory<byte> content, string contentType, IReadOnlyDictionary<string, string> metadata, CancellationToken cancellationToken);
}

/// <summary>The store did not confirm: the batch must come again.</summary>
public sealed class ObjectStoreException(string message, Exception inner) : Exception(message, inner);

/// <summary>The bucket, through the AWS SDK, which retries and checksums on its own.</summary>
public sealed class S3ObjectWriter(IAmazonS3 s3, string bucket) : IObjectWriter
{
    public async Task PutAsync(
        string key, ReadOnlyMemory<byte> content, string contentType, IReadOnlyDictionary<string, string> metadata, CancellationToken cancellationToken)
    {
        using var body = System.Runtime.InteropServices.MemoryMarshal.TryGetArray(content, out var segment)
            ? new MemoryStream(segment.Array!, segment.Offset, segment.Count, writable: false)
            : new MemoryStream(content.ToArray(), writable: false);
        var request = new PutObjectRequest
        {
            BucketName = bucket,
            Key = key,
            InputStream = body,
            AutoCloseStream = false,
            ContentType = contentType,
        };
        foreach (var (name, value) in metadata)
        {
            request.Metadata[name] = value;
        }

        // Named as OpenTelemetry's semantic conventions for AWS calls and for S3 say.
        using var activity = ProcessOrders.Activities.StartActivity("S3.PutObject", ActivityKind.Client);
        activity?.SetTag("rpc.system", "aws-api").SetTag("rpc.service", "S3").SetTag("rpc.method", "PutObject").SetTag("aws.s3.bucket", bucket).SetTag("aws.s3.key", key);
        try
        {
            await s3.PutObjectAsync(request, cancellationToken);
        }
        catch (Exception e) when (e is AmazonServiceException or AmazonClientException or HttpRequestException or IOException or TimeoutException)
        {
            throw new ObjectStoreException($"PUT of {key} failed: {e.Message}", e);
        }
    }
}
