using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Npgsql;
using Parquet;
using Parquet.Schema;

namespace Pipeline.Loader.Tests.Redshift;

/// <summary>
/// Speaks the protocol of Redshift before a PostgreSQL: the product connects to it as it does to a cluster. What the two
/// have in common is executed as it is written. The rest is translated here, and only here:
/// distribution and sort keys are left out, SUPER is jsonb, SYSDATE is now(), COPY reads the manifest and the files that it
/// names, and views with PartiQL are not made. A transaction has one snapshot, as with Redshift's SNAPSHOT isolation; in
/// PostgreSQL, too, LOCK takes none. It is as strict as Redshift where Npgsql relies on it: TLS only, a
/// password, one statement at a time.
/// </summary>
/// <remarks>
/// The messages are those of "Message Formats" in PostgreSQL's documentation, chapter "Frontend/Backend Protocol".
/// </remarks>
internal sealed partial class RedshiftStandIn : IAsyncDisposable
{
    public const string CopyRole = "arn:aws:iam::123456789012:role/warehouse-copy";

    private const int SslRequest = 80877103;

    private const string FirstOfALoad = "SET LOCAL statement_timeout TO 60000";

    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly NpgsqlConnectionStringBuilder _postgres;
    private readonly string _user;
    private readonly string _bucket;
    private readonly Func<string, CancellationToken, Task<byte[]?>> _read;
    private readonly X509Certificate2 _certificate = Certificate();
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentQueue<string> _statements = new();
    private readonly ConcurrentQueue<string> _troubles = new();
    private readonly Task _accepting;

    private RedshiftStandIn(string postgres, string user, string bucket, Func<string, CancellationToken, Task<byte[]?>> read)
    {
        _postgres = new NpgsqlConnectionStringBuilder(postgres);
        _user = user;
        _bucket = bucket;
        _read = read;
        _listener.Start();
        _accepting = Task.Run(AcceptAsync);
    }

    /// <param name="database">Empty.</param>
    /// <param name="user">Is created.</param>
    /// <param name="bucket">The one bucket that COPY reads.</param>
    /// <param name="read">Gives an object of the bucket by its key, or null.</param>
    public static async Task<RedshiftStandIn> StartAsync(
        NpgsqlDataSource database, string user, string bucket, Func<string, CancellationToken, Task<byte[]?>> read)
    {
        var standIn = new RedshiftStandIn(database.ConnectionString, user, bucket, read);
        await using var prepare = database.CreateCommand($"""
            CREATE ROLE {user} SUPERUSER LOGIN PASSWORD '{standIn.Password}';
            CREATE FUNCTION json_parse(document text) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN document::jsonb;
            CREATE FUNCTION can_json_parse(document text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
            BEGIN
                PERFORM document::jsonb;
                RETURN true;
            EXCEPTION WHEN OTHERS THEN
                RETURN false;
            END $$;
            CREATE FUNCTION serializable_isolation_violation() RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION '1023' USING ERRCODE = 'XX000', DETAIL = 'Serializable isolation violation on table in Redshift';
            END $$;
            CREATE FUNCTION internal_error(message text, detail text) RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION '%', message USING ERRCODE = 'XX000', DETAIL = detail;
            END $$;
            """);
        await prepare.ExecuteNonQueryAsync();
        return standIn;
    }

    public string Password { get; } = RandomNumberGenerator.GetHexString(32, lowercase: true);

    /// <summary>What signed the server's certificate: itself.</summary>
    public string CertificatePem => _certificate.ExportCertificatePem();

    /// <summary>Every statement that came, as it came.</summary>
    public IReadOnlyCollection<string> Statements => _statements;

    /// <summary>What Redshift would not have put up with.</summary>
    public IReadOnlyCollection<string> Troubles => _troubles;

    /// <summary>The next statements that begin so fail with Redshift's error 1023, as often as the number says.</summary>
    public (string Beginning, int Times) Conflicts { get; set; } = ("", 0);

    /// <summary>A COPY of a row with this text in it fails with an internal error of this message and detail.</summary>
    public (string Text, string Message, string Detail)? Failure { get; set; }

    /// <summary>
    /// As if Redshift took a transaction's snapshot when it begins: before it waits for the other loader, and not behind it.
    /// </summary>
    public bool HasEarlySnapshots { get; set; }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>As the stack sets it (Pipeline.Cdk/WarehouseLoader.cs), and where to find the certificate of this server.</summary>
    public string ConnectionString(string rootCertificate) =>
        $"Host=localhost;Port={Port};Database={_postgres.Database};Username={_user};" +
        $"SSL Mode=VerifyFull;Server Compatibility Mode=Redshift;Root Certificate={rootCertificate}";

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Stop();
        await _accepting;
        _listener.Dispose();
        _certificate.Dispose();
        _stop.Dispose();
    }

    private async Task AcceptAsync()
    {
        while (true)
        {
            try
            {
                var client = await _listener.AcceptTcpClientAsync(_stop.Token);
                _ = Task.Run(() => ServeAsync(client));
            }
            catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                return;
            }
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        try
        {
            using (client)
            {
                client.NoDelay = true;
                await using var stream = await SecureAsync(client.GetStream());
                if (stream is not null)
                {
                    await TalkAsync(stream);
                }
            }
        }
        catch (Exception e) when (e is IOException or SocketException or OperationCanceledException or ObjectDisposedException or System.Security.Authentication.AuthenticationException)
        {
            // One of the ends hung up, which the other one sees as well.
        }
        catch (Exception e)
        {
            _troubles.Enqueue(e.ToString());
        }
    }

    /// <summary>The parameter require_ssl is true: who does not ask for TLS is refused.</summary>
    private async Task<SslStream?> SecureAsync(NetworkStream plain)
    {
        var first = await ReadExactlyAsync(plain, 8);
        if (BinaryPrimitives.ReadInt32BigEndian(first.AsSpan(4)) != SslRequest)
        {
            await plain.WriteAsync(Error("28000", "SSL is required for this cluster"), _stop.Token);
            return null;
        }

        await plain.WriteAsync("S"u8.ToArray(), _stop.Token);
        var secure = new SslStream(plain);
        await secure.AuthenticateAsServerAsync(_certificate);
        return secure;
    }

    private async Task TalkAsync(SslStream client)
    {
        // Who it is and with which password is PostgreSQL's to ask.
        var length = await ReadExactlyAsync(client, 4);
        var startup = await ReadExactlyAsync(client, BinaryPrimitives.ReadInt32BigEndian(length) - 4);
        using var server = new TcpClient();
        await server.ConnectAsync(_postgres.Host!, _postgres.Port, _stop.Token);
        server.NoDelay = true;
        var postgres = server.GetStream();
        await postgres.WriteAsync((byte[])[.. length, .. startup], _stop.Token);

        using var end = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
        var answers = AnswerAsync(postgres, client, end.Token);
        var questions = AskAsync(client, postgres, end.Token);
        await Task.WhenAny(answers, questions);
        await end.CancelAsync();
        server.Close();
        await Task.WhenAll(answers, questions);
    }

    /// <summary>Passes on what PostgreSQL says, but for its version: Redshift calls itself 8.0.2.</summary>
    private static async Task AnswerAsync(NetworkStream postgres, SslStream client, CancellationToken cancellationToken)
    {
        while (true)
        {
            var (type, body) = await ReadMessageAsync(postgres, cancellationToken);
            if (type == 'S' && Encoding.UTF8.GetString(body).StartsWith("server_version\0", StringComparison.Ordinal))
            {
                body = Encoding.UTF8.GetBytes("server_version\08.0.2\0");
            }

            await client.WriteAsync(Message(type, body), cancellationToken);
        }
    }

    private async Task AskAsync(SslStream client, NetworkStream postgres, CancellationToken cancellationToken)
    {
        var unsynced = 0;
        while (true)
        {
            var (type, body) = await ReadMessageAsync(client, cancellationToken);
            switch (type)
            {
                case 'P':
                    // More than one before a Sync ends in "portal does not exist" (github.com/npgsql/npgsql/issues/1067).
                    if (++unsynced > 1)
                    {
                        _troubles.Enqueue("A second statement before the first one was done.");
                    }

                    body = await TranslateAsync(body);
                    break;
                case 'S':
                    unsynced = 0;
                    break;
                case 'Q':
                    var simple = Encoding.UTF8.GetString(body).TrimEnd('\0');
                    _statements.Enqueue(simple);
                    if (simple.StartsWith("BEGIN", StringComparison.Ordinal))
                    {
                        body = Encoding.UTF8.GetBytes("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ\0");
                    }

                    break;
            }

            await postgres.WriteAsync(Message(type, body), cancellationToken);
        }
    }

    /// <summary>A Parse message: name, text, and the types of the parameters.</summary>
    private async Task<byte[]> TranslateAsync(byte[] body)
    {
        var name = Array.IndexOf(body, (byte)0) + 1;
        var end = Array.IndexOf(body, (byte)0, name);
        var statement = Encoding.UTF8.GetString(body, name, end - name);
        _statements.Enqueue(statement);
        return [.. body[..name], .. Encoding.UTF8.GetBytes(await TranslateAsync(statement)), .. body[end..]];
    }

    private async Task<string> TranslateAsync(string statement)
    {
        if (Conflicts is { Times: > 0 } conflicts && statement.StartsWith(conflicts.Beginning, StringComparison.Ordinal))
        {
            Conflicts = conflicts with { Times = conflicts.Times - 1 };
            return "SELECT serializable_isolation_violation()";
        }

        if (HasEarlySnapshots && statement == FirstOfALoad)
        {
            return "SELECT count(*) FROM load_ledger";
        }

        if (Copy().Match(statement) is { Success: true } copy)
        {
            return await CopyAsync(copy.Groups["table"].Value, copy.Groups["manifest"].Value, copy.Groups["role"].Value);
        }

        if (PartiQl().IsMatch(statement))
        {
            return "SELECT 1";
        }

        statement = DistributionAndSort().Replace(statement, "");
        statement = Regex.Replace(statement, @"\bsysdate\b", "now()");
        return Regex.Replace(statement, @"\bsuper\b", "jsonb");
    }

    /// <summary>An INSERT of what COPY would load.</summary>
    private async Task<string> CopyAsync(string table, string manifest, string role)
    {
        Assert.Equal(CopyRole, role);
        var insert = new StringBuilder($"INSERT INTO {table} VALUES ");
        var separator = "";
        foreach (var entry in JsonDocument.Parse(await ObjectAsync(manifest)).RootElement.GetProperty("entries").EnumerateArray())
        {
            Assert.True(entry.GetProperty("mandatory").GetBoolean());
            var file = await ObjectAsync(entry.GetProperty("url").GetString()!);
            Assert.Equal(file.Length, entry.GetProperty("meta").GetProperty("content_length").GetInt64());
            await foreach (var row in RowsAsync(file))
            {
                if (Failure is { } failure && row.Any(value => value.Contains(failure.Text, StringComparison.Ordinal)))
                {
                    return $"SELECT internal_error($failure${failure.Message}$failure$, $failure${failure.Detail}$failure$)";
                }

                insert.Append(separator).Append('(').AppendJoin(", ", row).Append(')');
                separator = ", ";
            }
        }

        return insert.ToString();
    }

    private async Task<byte[]> ObjectAsync(string url)
    {
        var prefix = $"s3://{_bucket}/";
        Assert.StartsWith(prefix, url, StringComparison.Ordinal);
        return await _read(url[prefix.Length..], _stop.Token) ?? throw new InvalidOperationException($"COPY finds no {url}.");
    }

    /// <summary>Column by column in the file's order, as literals. Only types that COPY is known to read may be in it.</summary>
    private static async IAsyncEnumerable<string[]> RowsAsync(byte[] file)
    {
        await using var reader = await ParquetReader.CreateAsync(new MemoryStream(file));
        foreach (var group in reader.RowGroups)
        {
            var columns = new List<string[]>();
            foreach (var field in reader.Schema.GetDataFields())
            {
                columns.Add(await LiteralsAsync(group, field, (int)group.RowCount));
            }

            for (var row = 0; row < group.RowCount; row++)
            {
                yield return [.. columns.Select(column => column[row])];
            }
        }
    }

    private static async Task<string[]> LiteralsAsync(ParquetRowGroupReader group, DataField field, int rows)
    {
        if (field.ClrType == typeof(ReadOnlyMemory<char>))
        {
            var text = new string?[rows];
            await group.ReadAsync(field, text.AsMemory());
            return [.. text.Select(value => value is null ? "NULL" : $"'{value.Replace("'", "''", StringComparison.Ordinal)}'")];
        }

        if (field.ClrType == typeof(long))
        {
            var numbers = new long[rows];
            await group.ReadAsync<long>(field, numbers.AsMemory());
            return [.. numbers.Select(value => $"{value}")];
        }

        Assert.Equal(typeof(bool), field.ClrType);
        var truths = new bool[rows];
        await group.ReadAsync<bool>(field, truths.AsMemory());
        return [.. truths.Select(value => value ? "true" : "false")];
    }

    private static byte[] Error(string code, string message) =>
        Message('E', Encoding.UTF8.GetBytes($"SFATAL\0VFATAL\0C{code}\0M{message}\0\0"));

    private static byte[] Message(char type, byte[] body)
    {
        var message = new byte[body.Length + 5];
        message[0] = (byte)type;
        BinaryPrimitives.WriteInt32BigEndian(message.AsSpan(1), body.Length + 4);
        body.CopyTo(message, 5);
        return message;
    }

    private static async Task<(char Type, byte[] Body)> ReadMessageAsync(Stream stream, CancellationToken cancellationToken)
    {
        var head = new byte[5];
        await stream.ReadExactlyAsync(head, cancellationToken);
        var body = new byte[BinaryPrimitives.ReadInt32BigEndian(head.AsSpan(1)) - 4];
        await stream.ReadExactlyAsync(body, cancellationToken);
        return ((char)head[0], body);
    }

    private async Task<byte[]> ReadExactlyAsync(Stream stream, int count)
    {
        var bytes = new byte[count];
        await stream.ReadExactlyAsync(bytes, _stop.Token);
        return bytes;
    }

    private static X509Certificate2 Certificate()
    {
        using var key = RSA.Create(2048);
        var request = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("localhost");
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(certificateAuthority: true, false, 0, critical: true));
        using var certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        return X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pkcs12), null);
    }

    [GeneratedRegex(@"^COPY (?<table>\w+)\nFROM '(?<manifest>[^']+)'\nIAM_ROLE '(?<role>[^']+)'\nFORMAT AS PARQUET\nMANIFEST$")]
    private static partial Regex Copy();

    [GeneratedRegex(@"^CREATE VIEW [\s\S]+ AT place\b")]
    private static partial Regex PartiQl();

    [GeneratedRegex(@" (DISTSTYLE EVEN|DISTKEY \(\w+\))( SORTKEY \(\w+\))?$")]
    private static partial Regex DistributionAndSort();
}
