using System.CommandLine;
using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Amazon.S3;
using Pipeline.Core;
using Pipeline.NativeServers;

namespace Pipeline.Ops;

/// <summary>
/// The options that say where table, bucket and warehouse are, and the clients for them: by default the local AppHost's,
/// with <c>--aws</c> those of the environment's region and credentials.
/// </summary>
internal sealed class Endpoints
{
    public Option<bool> Aws { get; } = new("--aws")
    {
        Description = "Ask AWS, with the environment's region and credentials, instead of the local AppHost's servers.",
    };

    public Option<Uri?> DynamoDb { get; } = Endpoint("--dynamodb", "DynamoDB", "AWS_ENDPOINT_URL_DYNAMODB", LocalDefaults.DynamoDb);

    public Option<Uri?> S3 { get; } = Endpoint("--s3", "S3", "AWS_ENDPOINT_URL_S3", LocalDefaults.S3);

    public Option<string?> Table { get; } = new("--table")
    {
        Description = $"The orders' table. [default: {Names.Settings.TableName}, else {Names.Table}]",
        HelpName = "NAME",
    };

    public Option<string?> Bucket { get; } = new("--bucket")
    {
        Description = $"The pipeline's bucket. [default: {Names.Settings.BucketName}, else {LocalDefaults.Bucket}; with --aws it must be given]",
        HelpName = "NAME",
    };

    public Option<string?> Warehouse { get; } = Options.Warehouse("; with --aws it must be given");

    public Option<FileInfo?> PersonalDataKey { get; } = new("--personal-data-key")
    {
        Description = $"A file with the key that personal data is protected with: the same that process_orders has (docs/privacy.md). "
            + $"[default: the key itself in {Names.Settings.PersonalDataKey}, else that of the local AppHost; with --aws it must be given]",
        HelpName = "FILE",
    };

    /// <summary>Adds options to the command, and what must be given for those of them without a default.</summary>
    public void AddTo(Command command, params Option[] options)
    {
        foreach (var option in options)
        {
            command.Options.Add(option);
        }

        if (options.Contains(Bucket))
        {
            command.Validators.Add(result =>
            {
                if ((result.GetValue(Bucket) ?? Options.Setting(Names.Settings.BucketName)) is null && result.GetValue(Aws))
                {
                    result.AddError($"With --aws the bucket must be given: --bucket NAME, or {Names.Settings.BucketName}.");
                }
            });
        }
    }

    public string TableOf(ParseResult parsed) => parsed.GetValue(Table) ?? Options.Setting(Names.Settings.TableName) ?? Names.Table;

    public string BucketOf(ParseResult parsed) => parsed.GetValue(Bucket) ?? Options.Setting(Names.Settings.BucketName) ?? LocalDefaults.Bucket;

    /// <summary>The connection string; null when nobody gave one and no local AppHost has run.</summary>
    public string? WarehouseOf(ParseResult parsed) =>
        parsed.GetValue(Warehouse) ?? Options.Setting(Options.WarehouseSetting) ?? (parsed.GetValue(Aws) ? null : LocalDefaults.Warehouse());

    /// <summary>What makes the same of personal data as the function does.</summary>
    /// <exception cref="OperatorException">There is no key; the message says how to give it.</exception>
    public PersonalDataProtector PersonalDataOf(ParseResult parsed) => FindPersonalData(parsed) ?? throw new OperatorException(
        "There is no key for personal data, and without it the table's orders cannot become what the warehouse has of them. "
        + (parsed.GetValue(Aws)
            ? $"Give it with {Names.Settings.PersonalDataKey}=\"$(aws secretsmanager get-secret-value --secret-id {Names.PersonalDataSecret} --query SecretString --output text)\"."
            : $"The local AppHost makes one at its first run; otherwise give --personal-data-key FILE or {Names.Settings.PersonalDataKey}."));

    /// <summary>Null when nobody gave a key.</summary>
    /// <exception cref="OperatorException">What was given is none.</exception>
    public PersonalDataProtector? FindPersonalData(ParseResult parsed)
    {
        try
        {
            var key = parsed.GetValue(PersonalDataKey) is { } file ? File.ReadAllText(file.FullName)
                : Options.Setting(Names.Settings.PersonalDataKey) ?? (parsed.GetValue(Aws) ? null : LocalDefaults.PersonalDataKey());
            return key is null ? null : new PersonalDataProtector(key);
        }
        catch (Exception e) when (e is ArgumentException or IOException or UnauthorizedAccessException)
        {
            throw new OperatorException(e.Message, e);
        }
    }

    /// <param name="parsed">The command line.</param>
    /// <param name="timeout">Of one attempt of a request.</param>
    /// <param name="retries">After the first attempt, with the SDK's own growing pauses.</param>
    /// <param name="received">Counts the bytes of the answers.</param>
    public AmazonDynamoDBClient DynamoDbOf(ParseResult parsed, TimeSpan timeout, int retries, ReceivedBytes? received = null)
    {
        var config = new AmazonDynamoDBConfig { HttpClientFactory = received };
        return Credentials(config, parsed.GetValue(DynamoDb), parsed.GetValue(Aws), LocalDefaults.DynamoDb, timeout, retries) is { } credentials
            ? new AmazonDynamoDBClient(credentials, config)
            : new AmazonDynamoDBClient(config);
    }

    /// <param name="parsed">The command line.</param>
    /// <param name="timeout">Of one attempt of a request.</param>
    /// <param name="retries">After the first attempt, with the SDK's own growing pauses.</param>
    public AmazonS3Client S3Of(ParseResult parsed, TimeSpan timeout, int retries)
    {
        var config = new AmazonS3Config { ForcePathStyle = !parsed.GetValue(Aws) };
        return Credentials(config, parsed.GetValue(S3), parsed.GetValue(Aws), LocalDefaults.S3, timeout, retries) is { } credentials
            ? new AmazonS3Client(credentials, config)
            : new AmazonS3Client(config);
    }

    private static Option<Uri?> Endpoint(string name, string service, string setting, string local) =>
        Options.Address(name, $"{service}'s endpoint. [default: {setting}, else {local}; with --aws that of the region]", Options.Setting(setting));

    /// <summary>Completes the configuration. Null when the SDK finds the credentials itself.</summary>
    private static BasicAWSCredentials? Credentials(ClientConfig config, Uri? endpoint, bool onAws, string local, TimeSpan timeout, int retries)
    {
        config.Timeout = timeout;
        config.MaxErrorRetry = retries;
        if (onAws && endpoint is null)
        {
            return null;
        }

        config.ServiceURL = (endpoint?.ToString() ?? local).TrimEnd('/');
        config.AuthenticationRegion = Options.Setting("AWS_REGION") ?? LocalSettings.Region;
        var hasCredentials = onAws || Options.Setting("AWS_ACCESS_KEY_ID") is not null;
        return hasCredentials ? null : new BasicAWSCredentials(LocalSettings.AccessKey, LocalSettings.AccessKey);
    }
}
