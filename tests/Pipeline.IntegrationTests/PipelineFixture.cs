using System.Net.Http.Json;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;
using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;
using Npgsql;
using Pipeline.Core;
using Pipeline.NativeServers;

namespace Pipeline.IntegrationTests;

[CollectionDefinition(nameof(WholePipeline))]
public sealed class WholePipeline : ICollectionFixture<PipelineFixture>;

/// <summary>
/// The whole pipeline as real processes against real servers, started once for all tests of the collection. They
/// run one after the other, share the table, and leave table and warehouse equal behind.
/// </summary>
public sealed class PipelineFixture : IAsyncLifetime
{
    public const decimal SampleTotal = 51.30m;
    public const decimal SamplePaid = 50.00m;

    /// <summary>For one order on an idle pipeline; a second is usual, a busy build server may need longer.</summary>
    public static readonly TimeSpan FreshnessDeadline = TimeSpan.FromSeconds(20);

    /// <summary>For thousands of changes, with processes killed in between.</summary>
    public static readonly TimeSpan CatchUpDeadline = TimeSpan.FromSeconds(120);

    private const string Region = "us-east-1";
    private const string Credentials = "integrationtests";

    private const string Merchant = "m-1";

    private readonly LocalIssuer _issuer = new(RandomNumberGenerator.GetBytes(32));
    private readonly string _directory = Directory.CreateTempSubdirectory("order-pipeline-tests-").FullName;
    private Servers? _servers;
    private string _apiUrl = "";
    private Dictionary<string, string> _environment = [];

    /// <summary>The folder with the Olist CSV files, or null where it is not at hand.</summary>
    public static string? OlistDirectory
    {
        get
        {
            var directory = Environment.GetEnvironmentVariable("OLIST_DIR") ?? Path.Combine(RepositoryRoot, "..", "shared", "data", "olist");
            return Directory.Exists(directory) ? Path.GetFullPath(directory) : null;
        }
    }

    /// <summary>What the function protects personal data with.</summary>
    public string PersonalDataKey { get; } = Convert.ToBase64String(RandomNumberGenerator.GetBytes(32));

    public string EmulatorUrl { get; private set; } = "";
    public HttpClient Api { get; private set; } = null!;
    public IAmazonDynamoDB DynamoDb { get; private set; } = null!;
    public IAmazonS3 S3 { get; private set; } = null!;
    public NpgsqlDataSource Warehouse { get; private set; } = null!;
    internal Dictionary<string, ServiceProcess> Processes { get; } = [];

    /// <summary>See <see cref="Servers.WarehouseServer"/>.</summary>
    internal NativeServer? WarehouseServer => _servers!.WarehouseServer;

    private static string Bucket => Names.BucketFor(Names.LocalAccount, Region);

    private static string RepositoryRoot
    {
        get
        {
            var directory = new DirectoryInfo(AppContext.BaseDirectory);
            while (!File.Exists(Path.Combine(directory.FullName, "Pipeline.sln")))
            {
                directory = directory.Parent ?? throw new InvalidOperationException("These tests run from below the folder that holds Pipeline.sln.");
            }

            return directory.FullName;
        }
    }

    private string StateDirectory => Path.Combine(_directory, "lambda-emulator");

    public async ValueTask InitializeAsync()
    {
        var cancelled = TestContext.Current.CancellationToken;
        _servers = await Servers.StartAsync(_directory, cancelled);
        var apiPort = LoopbackPorts.Free();
        var emulatorPort = LoopbackPorts.Free();
        var loaderPort = LoopbackPorts.Free();
        _apiUrl = $"http://127.0.0.1:{apiPort}";
        EmulatorUrl = $"http://127.0.0.1:{emulatorPort}";
        _environment = new(_issuer.ApiSettings)
        {
            ["AWS_REGION"] = Region,
            ["AWS_ACCESS_KEY_ID"] = Credentials,
            ["AWS_SECRET_ACCESS_KEY"] = Credentials,
            ["AWS_ENDPOINT_URL_DYNAMODB"] = _servers.DynamoDbUrl,
            ["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"] = _servers.DynamoDbUrl,
            ["AWS_ENDPOINT_URL_S3"] = _servers.S3Url,
            ["AWS_ENDPOINT_URL_SQS"] = _servers.S3Url,
            [Names.Settings.TableName] = Names.Table,
            [Names.Settings.IdempotencyTableName] = Names.IdempotencyTable,
            [Names.Settings.CursorKey] = Convert.ToBase64String(RandomNumberGenerator.GetBytes(32)),
            [Names.Settings.BucketName] = Bucket,
            [Names.Settings.PersonalDataKey] = PersonalDataKey,
            ["ConnectionStrings__warehouse"] = _servers.WarehouseConnectionString,
            // Files of a backfill or a repair are found by the sweep; once a minute would be most of the tests' time.
            ["Pipeline__SweepInterval"] = "00:00:02",
        };
        Warehouse = NpgsqlDataSource.Create(_servers.WarehouseConnectionString);
        DynamoDb = new AmazonDynamoDBClient(
            new BasicAWSCredentials(Credentials, Credentials),
            new AmazonDynamoDBConfig { ServiceURL = _servers.DynamoDbUrl, AuthenticationRegion = Region });
        S3 = new AmazonS3Client(
            new BasicAWSCredentials(Credentials, Credentials),
            new AmazonS3Config { ServiceURL = _servers.S3Url, AuthenticationRegion = Region, ForcePathStyle = true });
        Api = new HttpClient { BaseAddress = new Uri(_apiUrl) };
        Api.DefaultRequestHeaders.Authorization = new("Bearer", _issuer.Token(Merchant, TimeSpan.FromHours(3), LocalIssuer.AllScopes));

        await StartAsync(
            "lambda-emulator",
            "Pipeline.LambdaEmulator",
            EmulatorUrl,
            ["--template", Path.Combine(RepositoryRoot, "artifacts", "cdk.out", $"{Names.Stack}.template.json"), "--state", StateDirectory, "--provision"]);
        Processes.Add("process-orders", new ServiceProcess(
            "Pipeline.Processor",
            [],
            new Dictionary<string, string>(_environment) { ["AWS_LAMBDA_RUNTIME_API"] = $"127.0.0.1:{emulatorPort}/{Names.Function}" },
            health: null));
        await Processes["process-orders"].StartAsync(cancelled);
        await StartAsync("loader", "Pipeline.Loader", $"http://127.0.0.1:{loaderPort}", []);
        await StartAsync("orders-api", "Pipeline.OrdersApi", _apiUrl, []);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var process in Processes.Values)
        {
            await process.DisposeAsync();
        }

        Api?.Dispose();
        DynamoDb?.Dispose();
        S3?.Dispose();
        if (Warehouse is not null)
        {
            await Warehouse.DisposeAsync();
        }

        if (_servers is not null)
        {
            await _servers.DisposeAsync();
        }

        Directory.Delete(_directory, recursive: true);
    }

    public async Task<string> CreateOrderAsync(CancellationToken cancellationToken, string? orderId = null)
    {
        orderId ??= Guid.NewGuid().ToString("N");
        using var answer = await PostSampleAsync(orderId, cancellationToken);
        Assert.True(answer.IsSuccessStatusCode, await answer.Content.ReadAsStringAsync(cancellationToken));
        return orderId;
    }

    public Task<HttpResponseMessage> PostSampleAsync(string orderId, CancellationToken cancellationToken) => Api.PostAsJsonAsync(
        "/orders",
        new
        {
            order_id = orderId,
            merchant_id = Merchant,
            currency = "BRL",
            customer = new { customer_id = "c-1", city = "São Paulo", state = "SP" },
            items = new[]
            {
                new { product_id = "p-1", seller_id = "s-1", quantity = 2, unit_price = 10.90m, freight = 7.50m },
                new { product_id = "p-2", seller_id = "s-2", quantity = 1, unit_price = 22.00m, freight = 0m },
            },
            payments = new[]
            {
                new { method = "credit_card", installments = 3, amount = 30.00m },
                new { method = "voucher", installments = 1, amount = 20.00m },
            },
        },
        cancellationToken);

    public async Task ChangeStatusAsync(string orderId, string status, long version, CancellationToken cancellationToken)
    {
        using var answer = await PutStatusAsync(orderId, status, version, cancellationToken);
        Assert.True(answer.IsSuccessStatusCode, await answer.Content.ReadAsStringAsync(cancellationToken));
    }

    public async Task<HttpResponseMessage> PutStatusAsync(string orderId, string status, long version, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Put, $"/orders/{orderId}/status") { Content = JsonContent.Create(new { status }) };
        request.Headers.TryAddWithoutValidation("If-Match", $"\"{version}\"");
        return await Api.SendAsync(request, cancellationToken);
    }

    public async Task RemoveOrderAsync(string orderId, long version, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Delete, $"/orders/{orderId}");
        request.Headers.TryAddWithoutValidation("If-Match", $"\"{version}\"");
        using var answer = await Api.SendAsync(request, cancellationToken);
        Assert.True(answer.IsSuccessStatusCode, await answer.Content.ReadAsStringAsync(cancellationToken));
    }

    internal async Task<SeedReport> SeedAsync(IReadOnlyList<string> arguments, CancellationToken cancellationToken)
    {
        return JsonSerializer.Deserialize<SeedReport>(await OpsAsync(["seed", "--api", _apiUrl, "--json", .. arguments], cancellationToken))!;
    }

    /// <summary>Runs the operator's command line against this pipeline. Returns what it wrote to standard output, or everything.</summary>
    internal async Task<string> OpsAsync(IReadOnlyList<string> arguments, CancellationToken cancellationToken, int exitCode = 0, bool withErrors = false)
    {
        var start = new System.Diagnostics.ProcessStartInfo("dotnet", [ServiceProcess.OutputOf("Pipeline.Ops"), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (name, value) in _environment)
        {
            start.Environment[name] = value;
        }

        using var process = System.Diagnostics.Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync(cancellationToken);
        var error = process.StandardError.ReadToEndAsync(cancellationToken);
        await process.WaitForExitAsync(cancellationToken);
        Assert.True(
            process.ExitCode == exitCode,
            $"{string.Join(' ', arguments)} ended with code {process.ExitCode} instead of {exitCode}:\n{await error}\n{await output}");
        return withErrors ? await output + await error : await output;
    }

    /// <summary>
    /// Waits until the pipeline has caught up: the table and the warehouse hold the same orders, versions and
    /// documents, and the history has this many changes (an order that came and went is in neither). Then the operator's
    /// own comparison must say so, too: the two share no code.
    /// </summary>
    public async Task AwaitEqualAsync(long changes, CancellationToken cancellationToken)
    {
        IReadOnlyList<string> differences = [];
        long loaded = 0;
        await Eventually.TrueAsync(
            async () =>
            {
                loaded = await ChangesAsync(cancellationToken);
                // More than were written is as wrong as fewer: it is looked at when all should be there.
                if (loaded < changes)
                {
                    return false;
                }

                differences = await TableAndWarehouse.DifferencesAsync(DynamoDb, Names.Table, PersonalDataKey, Warehouse, cancellationToken);
                return differences.Count == 0;
            },
            CatchUpDeadline,
            () => $"table and warehouse are equal; {loaded} changes of {changes} are loaded, {differences.Count} orders differ:\n{string.Join('\n', differences.Take(10))}\n"
                + string.Join('\n', Processes.Select(process => $"--- {process.Key} wrote last:\n{process.Value.Log}")),
            cancellationToken);
        Assert.Equal(changes, loaded);
        await OpsAsync(["reconcile", "--deadline", "10s"], cancellationToken);
    }

    /// <summary>How many changes the warehouse's history has.</summary>
    public Task<long> ChangesAsync(CancellationToken cancellationToken) => ScalarAsync<long>("select count(*) from order_changes", cancellationToken);

    public async Task<T> ScalarAsync<T>(string sql, CancellationToken cancellationToken, params object[] parameters)
    {
        await using var command = Warehouse.CreateCommand(sql);
        foreach (var parameter in parameters)
        {
            command.Parameters.Add(new NpgsqlParameter { Value = parameter });
        }

        return (T)(await command.ExecuteScalarAsync(cancellationToken))!;
    }

    /// <summary>One text over every row that queries can see, to tell whether anything changed.</summary>
    /// <param name="cancellationToken">Ends the query.</param>
    /// <param name="except">A pattern of LIKE: orders that are left out.</param>
    /// <param name="database">Another warehouse.</param>
    public async Task<string> DigestOfWarehouseAsync(CancellationToken cancellationToken, string except = "", NpgsqlDataSource? database = null)
    {
        await using var command = (database ?? Warehouse).CreateCommand("""
            select md5(coalesce((select string_agg(md5(row(order_id, version, sequence_number, is_deleted, document)::text), '' order by order_id) from orders where order_id not like $1), ''))
                || md5(coalesce((select string_agg(md5(row(order_id, version, sequence_number, operation, document)::text), '' order by order_id, version, sequence_number) from order_changes where order_id not like $1), ''))
            """);
        command.Parameters.Add(new NpgsqlParameter { Value = except });
        return (string)(await command.ExecuteScalarAsync(cancellationToken))!;
    }

    public async Task<List<string>> ChangesInWarehouseAsync(CancellationToken cancellationToken)
    {
        await using var command = Warehouse.CreateCommand(
            $"select {ChangeFiles.Columns}, document::text from order_changes where {ChangeFiles.FromTheStream}");
        await using var reader = await command.ExecuteReaderAsync(cancellationToken);
        var lines = new List<string>();
        while (await reader.ReadAsync(cancellationToken))
        {
            lines.Add(ChangeFiles.Line(reader));
        }

        lines.Sort(StringComparer.Ordinal);
        return lines;
    }

    /// <summary>The objects below a prefix as text, by key.</summary>
    public async Task<Dictionary<string, string>> ReadObjectsAsync(string prefix, CancellationToken cancellationToken)
    {
        var texts = new Dictionary<string, string>();
        await foreach (var entry in S3.Paginators.ListObjectsV2(new ListObjectsV2Request { BucketName = Bucket, Prefix = prefix }).S3Objects.WithCancellation(cancellationToken))
        {
            using var response = await S3.GetObjectAsync(Bucket, entry.Key, cancellationToken);
            using var reader = new StreamReader(response.ResponseStream);
            texts.Add(entry.Key, await reader.ReadToEndAsync(cancellationToken));
        }

        return texts;
    }

    /// <summary>Copies the objects below a prefix into a folder, each at the path that its key says.</summary>
    public async Task<string> DownloadAsync(string prefix, CancellationToken cancellationToken)
    {
        var folder = Path.Combine(_directory, "downloads", Guid.NewGuid().ToString("N"));
        await foreach (var entry in S3.Paginators.ListObjectsV2(new ListObjectsV2Request { BucketName = Bucket, Prefix = prefix }).S3Objects.WithCancellation(cancellationToken))
        {
            using var response = await S3.GetObjectAsync(Bucket, entry.Key, cancellationToken);
            await response.WriteResponseStreamToFileAsync(Path.Combine(folder, entry.Key), append: false, cancellationToken);
        }

        return folder;
    }

    /// <summary>A new database on the warehouse's server, without a schema: its connection string.</summary>
    public async Task<string> CreateDatabaseAsync(string name, CancellationToken cancellationToken)
    {
        await using var create = Warehouse.CreateCommand($"create database {name} template template0");
        await create.ExecuteNonQueryAsync(cancellationToken);
        return new NpgsqlConnectionStringBuilder(_servers!.WarehouseConnectionString) { Database = name }.ConnectionString;
    }

    public void ForgetCheckpoints() => Directory.Delete(StateDirectory, recursive: true);

    private async Task StartAsync(string name, string project, string url, IReadOnlyList<string> arguments)
    {
        var process = new ServiceProcess(
            project,
            arguments,
            new Dictionary<string, string>(_environment) { ["ASPNETCORE_URLS"] = url },
            new Uri($"{url}/health"));
        Processes.Add(name, process);
        await process.StartAsync(TestContext.Current.CancellationToken);
    }

    internal sealed record SeedReport([property: JsonPropertyName("accepted_writes")] long AcceptedWrites);
}
