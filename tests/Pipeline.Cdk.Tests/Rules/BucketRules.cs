namespace Pipeline.Cdk.Tests.Rules;

internal static class BucketRules
{
    private const string Type = "AWS::S3::Bucket";
    private const string Bucket = "ChangesBucket";
    private const string AccessLogs = "ChangesAccessLogs";

    public static IEnumerable<Rule> All { get; } =
    [
        new("The bucket has the name that services expect",
            template => Assert.Equal(
                Names.BucketFor("${AWS::AccountId}", "${AWS::Region}"), TemplateView.Render(template[Bucket]["BucketName"]!)),
            new Mutant("another name", Bucket, bucket => bucket["BucketName"] = "order-pipeline")),

        new("Buckets are closed to the public",
            template => template.AllHave(Type,
                """
                {
                  "PublicAccessBlockConfiguration": {
                    "BlockPublicAcls": true, "BlockPublicPolicy": true, "IgnorePublicAcls": true, "RestrictPublicBuckets": true
                  },
                  "OwnershipControls": { "Rules": [{ "ObjectOwnership": "BucketOwnerEnforced" }] }
                }
                """),
            new Mutant("no public-access block", Bucket, bucket => bucket.Remove("PublicAccessBlockConfiguration")),
            new Mutant("public policies allowed", AccessLogs, bucket => bucket["PublicAccessBlockConfiguration"]!["BlockPublicPolicy"] = false)),

        new("Buckets are encrypted",
            template => template.AllHave(Type,
                """
                {
                  "BucketEncryption": {
                    "ServerSideEncryptionConfiguration": [{ "ServerSideEncryptionByDefault": { "SSEAlgorithm": "AES256" } }]
                  }
                }
                """),
            new Mutant("no encryption", Bucket, bucket => bucket.Remove("BucketEncryption"))),

        new("Nobody gets into the bucket by its policy, and without TLS 1.2 nobody at all",
            template => Assert.Equal(
                [
                    "not s3:* on ${ChangesBucket.Arn} by {AWS=*} if {Bool={aws:SecureTransport=false}}",
                    "not s3:* on ${ChangesBucket.Arn}/* by {AWS=*} if {Bool={aws:SecureTransport=false}}",
                    "not s3:* on ${ChangesBucket.Arn} by {AWS=*} if {NumericLessThan={s3:TlsVersion=1.2}}",
                    "not s3:* on ${ChangesBucket.Arn}/* by {AWS=*} if {NumericLessThan={s3:TlsVersion=1.2}}",
                ],
                TemplateView.Statements(template["ChangesBucketPolicy"]["PolicyDocument"]!)),
            new Mutant("plain HTTP", "ChangesBucketPolicy", policy => policy["PolicyDocument"]!["Statement"]!.AsArray().RemoveAt(0)),
            new Mutant("plain HTTP for all but one caller", "ChangesBucketPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!["Principal"]!["AWS"] = "arn:aws:iam::111111111111:root"),
            new Mutant("open to the world", "ChangesBucketPolicy", policy => policy["PolicyDocument"]!["Statement"]![0]!["Effect"] = "Allow")),

        new("The bucket keeps versions for a month and objects for ever",
            template =>
            {
                template.Has(Type,
                    """
                    {
                      "VersioningConfiguration": { "Status": "Enabled" },
                      "LifecycleConfiguration": {
                        "Rules": [
                          { "Id": "old-versions", "NoncurrentVersionExpiration": { "NoncurrentDays": 30 }, "Status": "Enabled" },
                          { "Id": "old-manifests", "Prefix": "orders/manifests/", "ExpirationInDays": 7, "Status": "Enabled" },
                          { "Id": "aborted-uploads", "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 1 }, "Status": "Enabled" }
                        ]
                      }
                    }
                    """);
                Assert.DoesNotContain(template[Bucket]["LifecycleConfiguration"]!["Rules"]!.AsArray(), rule => rule!["ExpirationInDays"] is not null && (string?)rule["Prefix"] != Names.ManifestsPrefix);
            },
            new Mutant("no versions", Bucket, bucket => bucket["VersioningConfiguration"]!["Status"] = "Suspended"),
            new Mutant("manifests for ever", Bucket, bucket => bucket["LifecycleConfiguration"]!["Rules"]!.AsArray().RemoveAt(1)),
            new Mutant("change files that expire with the manifests", Bucket, bucket => bucket["LifecycleConfiguration"]!["Rules"]![1]!["Prefix"] = "orders/"),
            new Mutant("change files that expire", Bucket, bucket => bucket["LifecycleConfiguration"]!["Rules"]![0]!["ExpirationInDays"] = 365)),

        new("Every access to the bucket is logged, for 90 days",
            template =>
            {
                Assert.Equal("{DestinationBucketName=${ChangesAccessLogs}}", TemplateView.Render(template[Bucket]["LoggingConfiguration"]!));
                template.Has(Type,
                    """
                    {
                      "LifecycleConfiguration": {
                        "Rules": [
                          { "Id": "old-logs", "ExpirationInDays": 90, "Status": "Enabled" },
                          { "Id": "aborted-uploads", "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 1 }, "Status": "Enabled" }
                        ]
                      }
                    }
                    """);
                Assert.Equal(
                    [
                        "not s3:* on ${ChangesAccessLogs.Arn} by {AWS=*} if {Bool={aws:SecureTransport=false}}",
                        "not s3:* on ${ChangesAccessLogs.Arn}/* by {AWS=*} if {Bool={aws:SecureTransport=false}}",
                        "not s3:* on ${ChangesAccessLogs.Arn} by {AWS=*} if {NumericLessThan={s3:TlsVersion=1.2}}",
                        "not s3:* on ${ChangesAccessLogs.Arn}/* by {AWS=*} if {NumericLessThan={s3:TlsVersion=1.2}}",
                        "s3:PutObject on ${ChangesAccessLogs.Arn}/* by {Service=logging.s3.amazonaws.com} if {ArnLike={aws:SourceArn=${ChangesBucket.Arn}}, StringEquals={aws:SourceAccount=${AWS::AccountId}}}",
                    ],
                    TemplateView.Statements(template["ChangesAccessLogsPolicy"]["PolicyDocument"]!));
            },
            new Mutant("no access logs", Bucket, bucket => bucket.Remove("LoggingConfiguration")),
            new Mutant("logs for another service to write", "ChangesAccessLogsPolicy", policy => policy["PolicyDocument"]!["Statement"]![2]!["Principal"] = "*"),
            new Mutant("logs for anybody to write", "ChangesAccessLogsPolicy", policy => policy["PolicyDocument"]!["Statement"]![2]!.AsObject().Remove("Condition"))),

        new("Buckets outlive their stack, once it was created",
            template => template.AllAre("RetainExceptOnCreate", "Retain", Type),
            new Mutant("the bucket of a first deployment that failed is in the way of the next one", Bucket, bucket => bucket.Parent!["DeletionPolicy"] = "Retain"),
            new Mutant("the bucket goes with its stack", Bucket, bucket => bucket.Parent!["DeletionPolicy"] = "Delete"))
        {
            OfProdOnly = true,
        },
    ];
}
