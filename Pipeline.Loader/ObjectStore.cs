using System.Net;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;

namespace Pipeline.Loader;

/// <summary>An object as a listing shows it.</summary>
public sealed record ObjectInfo(string Key, string ETag, long Bytes);

/// <param name="Objects">At most 1,000, in the order of their keys.</param>
/// <param name="IsTruncated">There are more behind the last one.</param>
public sealed record ObjectPage(IReadOnlyList<ObjectInfo> Objects, bool IsTruncated);

/// <summary>An object as it was read, which may be another one than was listed.</summary>
public sealed record ObjectContent(string ETag, byte[] Bytes);

/// <summary>The bucket with the change files and the quarantine: all that the loader needs of S3.</summary>
public interface IObjectStore
{
    /// <exception cref="ObjectStoreException">No answer, which is never the same as no objects.</exception>
    Task<ObjectPage> ListAsync(string prefix, string? startAfter, CancellationToken cancellationToken);

    /// <summary>Null when there is no such object (any more).</summary>
    /// <exception cref="ObjectUnreadableException">This one cannot be had, whatever the others do.</exception>
    /// <exception cref="ObjectStoreException">No answer.</exception>
    Task<ObjectContent?> GetAsync(string key, CancellationToken cancellationToken);

    /// <summary>Writes the object, over what is there under the same key. Returns only when it is stored.</summary>
    /// <exception cref="ObjectStoreException">It may or may not be stored.</exception>
    Task PutAsync(string key, ReadOnlyMemory<byte> content, string contentType, CancellationToken cancellationToken);

    /// <summary>Removes the object; one that is not there is no error.</summary>
    /// <exception cref="ObjectStoreException">It may or may not be removed.</exception>
    Task DeleteAsync(string key, CancellationToken cancellationToken);
}

/// <summary>The store is away or refuses: nothing is known, and the loader tries again later.</summary>
public sealed class ObjectStoreException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>The store answers, and this object cannot be had: forbidden, archived, damaged or too large. Others can.</summary>
public sealed class ObjectUnreadableException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>The bucket through the AWS SDK, which retries and checksums on its own.</summary>
public sealed class S3ObjectStore(IAmazonS3 s3, string bucket) : IObjectStore
{
    public async Task<ObjectPage> ListAsync(string prefix, string? startAfter, CancellationToken cancellationToken)
    {
        try
        {
            var page = await s3.ListObjectsV2Async(
                new ListObjectsV2Request { BucketName = bucket, Prefix = prefix, StartAfter = startAfter }, cancellationToken);
            var objects = new List<ObjectInfo>(page.S3Objects?.Count ?? 0);
            foreach (var found in page.S3Objects ?? [])
            {
                objects.Add(new ObjectInfo(found.Key, Unquoted(found.ETag), found.Size ?? 0));
            }

            // Nobody could go on behind it, and it must not be taken for the end.
            return page.IsTruncated == true && objects.Count == 0
                ? throw new ObjectStoreException($"The listing of {prefix} has a page without objects that is not the last one.")
                : new ObjectPage(objects, page.IsTruncated ?? false);
        }
        catch (Exception e) when (IsStoreError(e, cancellationToken))
        {
            throw new ObjectStoreException($"Listing {prefix} in bucket {bucket} failed: {e.Message}", e);
        }
    }

    public async Task<ObjectContent?> GetAsync(string key, CancellationToken cancellationToken)
    {
        try
        {
            using var response = await s3.GetObjectAsync(bucket, key, cancellationToken);
            if (response.ContentLength > Core.ChangeFile.BytesMax)
            {
                // The listing's size may be unknown, or that of an object that is overwritten since.
                throw new ObjectUnreadableException($"the file has {response.ContentLength} bytes; at most {Core.ChangeFile.BytesMax} are read");
            }

            using var content = new MemoryStream((int)Math.Clamp(response.ContentLength, 0, Core.ChangeFile.BytesMax));
            await CopyAsync(response.ResponseStream, content, cancellationToken);
            return new ObjectContent(Unquoted(response.ETag), content.ToArray());
        }
        catch (AmazonS3Exception e) when (e.StatusCode == HttpStatusCode.NotFound && e.ErrorCode == "NoSuchKey")
        {
            return null;
        }
        catch (AmazonS3Exception e) when (IsAboutTheObject(e))
        {
            throw new ObjectUnreadableException($"the store refuses the file: {(int)e.StatusCode} {e.ErrorCode}: {e.Message}", e);
        }
        catch (Exception e) when (IsStoreError(e, cancellationToken))
        {
            throw new ObjectStoreException($"Reading {key} in bucket {bucket} failed: {e.Message}", e);
        }
    }

    public async Task PutAsync(string key, ReadOnlyMemory<byte> content, string contentType, CancellationToken cancellationToken)
    {
        using var body = new MemoryStream(content.ToArray(), writable: false);
        try
        {
            await s3.PutObjectAsync(
                new PutObjectRequest { BucketName = bucket, Key = key, InputStream = body, AutoCloseStream = false, ContentType = contentType },
                cancellationToken);
        }
        catch (Exception e) when (IsStoreError(e, cancellationToken))
        {
            throw new ObjectStoreException($"Writing {key} in bucket {bucket} failed: {e.Message}", e);
        }
    }

    public async Task DeleteAsync(string key, CancellationToken cancellationToken)
    {
        try
        {
            await s3.DeleteObjectAsync(bucket, key, cancellationToken);
        }
        catch (Exception e) when (IsStoreError(e, cancellationToken))
        {
            throw new ObjectStoreException($"Removing {key} from bucket {bucket} failed: {e.Message}", e);
        }
    }

    private static async Task CopyAsync(Stream from, MemoryStream to, CancellationToken cancellationToken)
    {
        try
        {
            await from.CopyToAsync(to, cancellationToken);
        }
        catch (AmazonClientException e)
        {
            // In the middle of a body the SDK itself only complains about a checksum; the network's errors are IOExceptions.
            throw new ObjectUnreadableException($"the file is damaged: {e.Message}", e);
        }
    }

    /// <summary>
    /// A 4xx is about the one object, except for those about the moment, the caller or the bucket: with them nothing
    /// can be read, and to count a failure for every file there is would help nobody. The codes are those of
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
    /// </summary>
    private static bool IsAboutTheObject(AmazonS3Exception e) =>
        (int)e.StatusCode is >= 400 and < 500 and not (408 or 429)
        && e.ErrorCode is not ("NoSuchBucket" or "RequestTimeout" or "RequestTimeTooSkewed" or "ExpiredToken" or "InvalidToken"
            or "TokenRefreshRequired" or "InvalidAccessKeyId" or "SignatureDoesNotMatch" or "AccountProblem")
        && e.ErrorCode?.Contains("Throttl", StringComparison.Ordinal) != true;

    private static string Unquoted(string etag) => etag.Trim('"');

    /// <summary>The SDK's own timeouts are cancellations that nobody here asked for.</summary>
    private static bool IsStoreError(Exception e, CancellationToken cancellationToken) =>
        e is AmazonServiceException or AmazonClientException or HttpRequestException or IOException or TimeoutException
        || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested);
}
