using System.Text.Json.Nodes;

namespace Pipeline.Cdk.Tests.Rules;

internal static class BucketRules
{
    private const string Bucket = "ChangesBucket";
    private const string AccessLogs = "ChangesAccessLogs";

    public static IEnumerable<Rule> All { get; } =
    [
        new("The bucket is closed, encrypted and logged, keeps versions for a month and change files for ever, and outlives its stack",
            template => template.Is(
                Bucket,
                "BucketEncryption={ServerSideEncryptionConfiguration=[{ServerSideEncryptionByDefault={SSEAlgorithm=AES256}}]}",
                "BucketName=order-pipeline-${AWS::AccountId}-${AWS::Region}",
                "LifecycleConfiguration={Rules=[{Id=old-versions, NoncurrentVersionExpiration={NoncurrentDays=30}, Status=Enabled}, {ExpirationInDays=7, Id=old-manifests, NoncurrentVersionExpiration={NoncurrentDays=1}, Prefix=orders/manifests/, Status=Enabled}, {AbortIncompleteMultipartUpload={DaysAfterInitiation=1}, Id=aborted-uploads, Status=Enabled}]}",
                "LoggingConfiguration={DestinationBucketName=${ChangesAccessLogs}}",
                "NotificationConfiguration={EventBridgeConfiguration={EventBridgeEnabled=true}}",
                "OwnershipControls={Rules=[{ObjectOwnership=BucketOwnerEnforced}]}",
                "PublicAccessBlockConfiguration={BlockPublicAcls=true, BlockPublicPolicy=true, IgnorePublicAcls=true, RestrictPublicBuckets=true}",
                "VersioningConfiguration={Status=Enabled}",
                "UpdateReplacePolicy=Retain",
                "DeletionPolicy=RetainExceptOnCreate"),
            new Mutant("another name", Bucket, bucket => bucket["BucketName"] = "order-pipeline"),
            new Mutant("no public-access block", Bucket, bucket => bucket.Remove("PublicAccessBlockConfiguration")),
            new Mutant("an ACL for everybody", Bucket, bucket => bucket["AccessControl"] = "PublicRead"),
            new Mutant("a website", Bucket, bucket => bucket["WebsiteConfiguration"] = new JsonObject { ["IndexDocument"] = "index.html" }),
            new Mutant("scripts of every page", Bucket, bucket => bucket["CorsConfiguration"] = new JsonObject
            {
                ["CorsRules"] = new JsonArray(new JsonObject { ["AllowedMethods"] = new JsonArray("GET"), ["AllowedOrigins"] = new JsonArray("*") }),
            }),
            new Mutant("a copy elsewhere", Bucket, bucket => bucket["ReplicationConfiguration"] = new JsonObject { ["Role"] = "arn:aws:iam::111111111111:role/copy" }),
            new Mutant("no encryption", Bucket, bucket => bucket.Remove("BucketEncryption")),
            new Mutant("no versions", Bucket, bucket => bucket["VersioningConfiguration"]!["Status"] = "Suspended"),
            new Mutant("manifests for ever", Bucket, bucket => Lifecycle(bucket).RemoveAt(1)),
            new Mutant("change files that expire with the manifests", Bucket, bucket => Lifecycle(bucket)[1]!["Prefix"] = "orders/"),
            new Mutant("change files that expire", Bucket, bucket => Lifecycle(bucket)[0]!["ExpirationInDays"] = 365),
            new Mutant("change files that end on a day", Bucket, bucket => Lifecycle(bucket)[0]!["ExpirationDate"] = "2030-01-01T00:00:00Z"),
            new Mutant("change files that cannot be read at once", Bucket, bucket => Lifecycle(bucket)[0]!["Transitions"] =
                new JsonArray(new JsonObject { ["StorageClass"] = "GLACIER", ["TransitionInDays"] = 30 })),
            new Mutant("no access logs", Bucket, bucket => bucket.Remove("LoggingConfiguration")),
            new Mutant("no events", Bucket, bucket => bucket.Remove("NotificationConfiguration")),
            new Mutant("the bucket of a first deployment that failed is in the way of the next one", Bucket, bucket => bucket.Parent!["DeletionPolicy"] = "Retain"),
            new Mutant("the bucket goes with its stack", Bucket, bucket => bucket.Parent!["DeletionPolicy"] = "Delete")),

        new("The access logs are closed and encrypted, too, and kept for 90 days",
            template => template.Is(
                AccessLogs,
                "BucketEncryption={ServerSideEncryptionConfiguration=[{ServerSideEncryptionByDefault={SSEAlgorithm=AES256}}]}",
                "BucketName=order-pipeline-${AWS::AccountId}-${AWS::Region}-access-logs",
                "LifecycleConfiguration={Rules=[{ExpirationInDays=90, Id=old-logs, Status=Enabled}, {AbortIncompleteMultipartUpload={DaysAfterInitiation=1}, Id=aborted-uploads, Status=Enabled}]}",
                "OwnershipControls={Rules=[{ObjectOwnership=BucketOwnerEnforced}]}",
                "PublicAccessBlockConfiguration={BlockPublicAcls=true, BlockPublicPolicy=true, IgnorePublicAcls=true, RestrictPublicBuckets=true}",
                "UpdateReplacePolicy=Retain",
                "DeletionPolicy=RetainExceptOnCreate"),
            new Mutant("public policies allowed", AccessLogs, bucket => bucket["PublicAccessBlockConfiguration"]!["BlockPublicPolicy"] = false),
            new Mutant("logs for ever", AccessLogs, bucket => Lifecycle(bucket).RemoveAt(0))),

        new("Nobody gets into the bucket by its policy, and without TLS 1.2 nobody at all",
            template => template.Is(
                "ChangesBucketPolicy",
                "Bucket=${ChangesBucket}",
                "PolicyDocument: not s3:* on ${ChangesBucket.Arn} by {AWS=*} if {Bool={aws:SecureTransport=false}}",
                "PolicyDocument: not s3:* on ${ChangesBucket.Arn}/* by {AWS=*} if {Bool={aws:SecureTransport=false}}",
                "PolicyDocument: not s3:* on ${ChangesBucket.Arn} by {AWS=*} if {NumericLessThan={s3:TlsVersion=1.2}}",
                "PolicyDocument: not s3:* on ${ChangesBucket.Arn}/* by {AWS=*} if {NumericLessThan={s3:TlsVersion=1.2}}"),
            new Mutant("plain HTTP", "ChangesBucketPolicy", policy => policy["PolicyDocument"]!["Statement"]!.AsArray().RemoveAt(0)),
            new Mutant("plain HTTP for all but one caller", "ChangesBucketPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!["Principal"]!["AWS"] = "arn:aws:iam::111111111111:root"),
            new Mutant("open to the world", "ChangesBucketPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!["Effect"] = "Allow")),

        new("S3 writes the access logs, and nobody else",
            template => template.Is(
                "ChangesAccessLogsPolicy",
                "Bucket=${ChangesAccessLogs}",
                "PolicyDocument: not s3:* on ${ChangesAccessLogs.Arn} by {AWS=*} if {Bool={aws:SecureTransport=false}}",
                "PolicyDocument: not s3:* on ${ChangesAccessLogs.Arn}/* by {AWS=*} if {Bool={aws:SecureTransport=false}}",
                "PolicyDocument: not s3:* on ${ChangesAccessLogs.Arn} by {AWS=*} if {NumericLessThan={s3:TlsVersion=1.2}}",
                "PolicyDocument: not s3:* on ${ChangesAccessLogs.Arn}/* by {AWS=*} if {NumericLessThan={s3:TlsVersion=1.2}}",
                "PolicyDocument: s3:PutObject on ${ChangesAccessLogs.Arn}/* by {Service=logging.s3.amazonaws.com} if {ArnLike={aws:SourceArn=${ChangesBucket.Arn}}, StringEquals={aws:SourceAccount=${AWS::AccountId}}}"),
            new Mutant("logs for another service to write", "ChangesAccessLogsPolicy", policy => policy["PolicyDocument"]!["Statement"]![2]!["Principal"] = "*"),
            new Mutant("logs for anybody to write", "ChangesAccessLogsPolicy", policy => policy["PolicyDocument"]!["Statement"]![2]!.AsObject().Remove("Condition"))),
    ];

    private static JsonArray Lifecycle(JsonObject bucket) => bucket["LifecycleConfiguration"]!["Rules"]!.AsArray();
}
