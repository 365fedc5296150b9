using Amazon.CDK;
using Amazon.CDK.AWS.S3;
using Constructs;

namespace Pipeline.Cdk;

/// <summary>
/// The change files and the quarantine. The warehouse can be rebuilt from this bucket alone, so current objects
/// never expire (but for what a load leaves behind), and in production deleting the stack keeps them. Beside it the bucket with its access logs.
/// </summary>
public sealed class ChangeBucket : Construct
{
    public Bucket Bucket { get; }

    public ChangeBucket(Construct scope, string id, bool keep)
        : base(scope, id)
    {
        // Without this the CDK would let the log delivery in by an ACL, and ACLs are off.
        Node.SetContext("@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy", true);
        // A first deployment that fails takes its buckets, which are empty, away again: the next one needs their names.
        var removal = keep ? RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE : RemovalPolicy.DESTROY;
        var abortedUploads = new LifecycleRule
        {
            Id = "aborted-uploads",
            AbortIncompleteMultipartUploadAfter = Duration.Days(1),
        };

        var accessLogs = new Bucket(this, "AccessLogs", Closed(new BucketProps
        {
            BucketName = $"{Names.BucketFor(Aws.ACCOUNT_ID, Aws.REGION)}-access-logs",
            LifecycleRules = [new LifecycleRule { Id = "old-logs", Expiration = Duration.Days(90) }, abortedUploads],
            RemovalPolicy = removal,
        }));

        Bucket = new Bucket(this, "Bucket", Closed(new BucketProps
        {
            BucketName = Names.BucketFor(Aws.ACCOUNT_ID, Aws.REGION),
            ServerAccessLogsBucket = accessLogs,
            Versioned = true,
            LifecycleRules =
            [
                // A retried PUT writes the same bytes again, so an old version is of use only after a mistake: a
                // month to notice it.
                new LifecycleRule { Id = "old-versions", NoncurrentVersionExpiration = Duration.Days(30) },
                // What COPY read, kept for a look into a load that failed.
                new LifecycleRule
                {
                    Id = "old-manifests",
                    Prefix = Names.ManifestsPrefix,
                    Expiration = Duration.Days(7),
                    NoncurrentVersionExpiration = Duration.Days(1),
                },
                abortedUploads,
            ],
            RemovalPolicy = removal,
        }));
    }

    private static BucketProps Closed(BucketProps props)
    {
        props.BlockPublicAccess = BlockPublicAccess.BLOCK_ALL;
        props.ObjectOwnership = ObjectOwnership.BUCKET_OWNER_ENFORCED;
        props.Encryption = BucketEncryption.S3_MANAGED;
        props.EnforceSSL = true;
        props.MinimumTLSVersion = 1.2;
        return props;
    }
}
