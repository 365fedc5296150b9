using Amazon.CDK;
using Amazon.CDK.AWS.S3;
using Constructs;

namespace Pipeline.Cdk;

/// <summary>
/// The change files and the quarantine. The warehouse can be rebuilt from this bucket alone, so current objects
/// never expire and deleting the stack keeps them.
/// </summary>
public sealed class ChangeBucket : Construct
{
    public Bucket Bucket { get; }

    public ChangeBucket(Construct scope, string id)
        : base(scope, id)
    {
        Bucket = new Bucket(this, "Bucket", new BucketProps
        {
            BucketName = Names.BucketFor(Aws.ACCOUNT_ID, Aws.REGION),
            BlockPublicAccess = BlockPublicAccess.BLOCK_ALL,
            ObjectOwnership = ObjectOwnership.BUCKET_OWNER_ENFORCED,
            EnforceSSL = true,
            MinimumTLSVersion = 1.2,
            Encryption = BucketEncryption.S3_MANAGED,
            Versioned = true,
            LifecycleRules =
            [
                new LifecycleRule
                {
                    Id = "old-versions",
                    // A retried PUT writes the same bytes again, so an old version is of use only after a mistake:
                    // a month to notice it.
                    NoncurrentVersionExpiration = Duration.Days(30),
                },
                new LifecycleRule
                {
                    Id = "aborted-uploads",
                    AbortIncompleteMultipartUploadAfter = Duration.Days(1),
                },
            ],
            RemovalPolicy = RemovalPolicy.RETAIN,
        });
    }
}
