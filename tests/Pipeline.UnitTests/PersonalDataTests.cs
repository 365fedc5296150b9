using System.Net;
using System.Text;
using System.Text.Json;
using Amazon.Lambda.DynamoDBEvents;
using Pipeline.Core;
using Pipeline.Processor;
using AttributeValue = Amazon.Lambda.DynamoDBEvents.DynamoDBEvent.AttributeValue;

namespace Pipeline.UnitTests;

public class PersonalDataTests
{
    private const string Name = "Ana Souza";
    private const string Email = "Ana.Souza@example.com";
    private const string Document = "111.444.777-35";

    private static readonly PersonalPlace Customer = PersonalData.Item.Member("customer")!;

    private readonly MemoryObjects _objects = new();
    private readonly FakeInvocation _context = new();

    /// <summary>Computed with Python's hmac module: whoever changes the rules must change <see cref="PersonalDataProtector"/>'s version of them, too.</summary>
    [Theory]
    [InlineData("email", "ana@example.com", "hmac:eae6d4e0:zQEXpgUDX-wuCXoTrm4PSQ")]
    [InlineData("document", "11144477735", "hmac:eae6d4e0:ot3vo-XWN2bxTOcyGiOmZA")]
    [InlineData("name", "Ana Souza", "hmac:eae6d4e0:HQZOcNRC0L7QkAKoWA59mQ")]
    public void The_protected_text_is_fixed_by_key_place_and_value(string attribute, string value, string expected) =>
        Assert.Equal(expected, Protect(attribute, value));

    [Theory]
    [InlineData("email", " ANA@Example.COM\t", "ana@example.com")]
    [InlineData("document", "111.444.777-35", "11144477735")]
    [InlineData("document", "12abc34501de35", "12.ABC.345/01DE-35")]
    [InlineData("document", " ./- ", "./-")]
    [InlineData("name", "  JOSÉ  da\tSilva ", "José da Silva")]
    public void What_is_the_same_persons_gets_the_same_text(string attribute, string one, string other) =>
        Assert.Equal(Protect(attribute, one), Protect(attribute, other));

    [Fact]
    public void Another_value_another_place_and_another_key_give_another_text()
    {
        using var otherKey = new PersonalDataProtector("a key of the tests, which nobody has at all");
        string[] texts =
        [
            Protect("email", "a@b"), Protect("email", "a@c"), Protect("name", "a@b"), Protect("document", "a@b"),
            Protect("name", "ana souza"), Protect("name", "anasouza"), otherKey.Protect(Customer.Member("email")!, "a@b"),
        ];

        Assert.Equal(texts.Length, texts.Distinct().Count());
        Assert.All(texts, text => Assert.Matches("^hmac:[0-9a-f]{8}:[A-Za-z0-9_-]{22}$", text));
    }

    [Fact]
    public void A_client_that_sends_a_protected_text_has_it_protected_like_any_other()
    {
        var victim = Protect("email", Email);

        Assert.NotEqual(victim, Protect("email", victim));
    }

    [Theory]
    [InlineData("")]
    [InlineData(" \t\u00A0 ")]
    public void What_is_nobodys_stays_empty(string value) => Assert.Equal("", Protect("email", value));

    [Fact]
    public void A_value_of_any_length_is_protected_whole()
    {
        List<string> texts = [];
        foreach (var length in (int[])[255, 256, 257, 258, 400_000])
        {
            texts.AddRange(Protect("name", new string('é', length)), Protect("name", new string('é', length - 1) + "a"), Protect("email", new string('漢', length)));
        }

        Assert.Equal(texts.Count, texts.Distinct().Count());
    }

    [Fact]
    public void Many_threads_get_the_same_texts_as_one()
    {
        var expected = Enumerable.Range(0, 1_000).Select(n => Protect("email", $"{n}@example.com")).ToList();

        Parallel.For(0, 8_000, n => Assert.Equal(expected[n % 1_000], Protect("email", $"{n % 1_000}@example.com")));
    }

    [Fact]
    public void A_key_that_is_too_short_is_refused_and_not_shown()
    {
        var error = Assert.Throws<ArgumentException>(() => new PersonalDataProtector("hunter2"));

        Assert.Contains("32", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("hunter2", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task No_clear_value_reaches_a_change_file_or_the_quarantine_whatever_form_it_has()
    {
        var forms = new AttributeValue[]
        {
            Map(("name", Text(Name)), ("email", Text(Email)), ("document", Text(Document)), ("city", Text("Recife"))),
            Map(("name", Map(("first", Text(Name)))), ("email", List(Text(Email), Text(Email.ToUpperInvariant()))), ("document", new() { N = "11144477735" })),
            Map(("name", new() { SS = [Name, "Ana"] }), ("email", new() { B = new MemoryStream(Encoding.UTF8.GetBytes(Email)) }), ("document", new() { NS = ["11144477735"] })),
            List(Map(("name", Text(Name))), Map(("email", Text(Email)))),
            Text($"{Name} <{Email}>, {Document}"),
            new() { SS = [Name, Email, "11144477735"] },
        };
        var records = forms.SelectMany((form, n) => new[]
        {
            Record($"good-{n}", "MODIFY", form, new() { N = "1" }),
            Record($"poison-{n}", "MODIFY", form, Text("one")),
            Record($"removed-{n}", "REMOVE", form, new() { N = "1" }),
        }).ToList();

        Assert.Empty((await HandleAsync(records)).BatchItemFailures);

        Assert.Equal(1 + forms.Length, _objects.Stored.Count);
        var changes = await ChangesAsync();
        Assert.Equal(2 * forms.Length, changes.Count);
        var parked = _objects.Stored.Where(o => o.Key.StartsWith(Names.QuarantinePrefix, StringComparison.Ordinal)).Select(o => Encoding.UTF8.GetString(o.Value));
        Assert.All(changes.Select(change => change.Document).Concat(parked).Append(_context.Log), text =>
        {
            Assert.DoesNotContain("Ana", text, StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain("@", text, StringComparison.Ordinal);
            Assert.DoesNotContain("777", text, StringComparison.Ordinal);
            Assert.DoesNotContain(Convert.ToBase64String(Encoding.UTF8.GetBytes(Email)), text, StringComparison.Ordinal);
        });
        Assert.Equal(
            $$"""{"customer":{"city":"Recife","document":"{{Protect("document", Document)}}","email":"{{Protect("email", Email)}}","name":"{{Protect("name", Name)}}"},"order_id":"good-0","version":1}""",
            changes.Single(change => change.OrderId == "good-0").Document);
    }

    [Fact]
    public async Task Who_has_no_email_is_not_made_a_person()
    {
        await HandleAsync([Record("o-1", "INSERT", Map(("email", new() { NULL = true }), ("name", Text(" ")), ("state", Text("PE"))), new() { N = "1" })]);

        Assert.Equal("""{"customer":{"email":null,"name":"","state":"PE"},"order_id":"o-1","version":1}""", Assert.Single(await ChangesAsync()).Document);
    }

    [Theory]
    [InlineData("MODIFY")]
    [InlineData("REMOVE")]
    public async Task A_parked_record_decodes_to_what_it_would_have_become_at_once(string eventName)
    {
        var customer = Map(
            ("name", Text(Name)), ("email", List(Text(Email), new() { NULL = true })), ("document", new() { N = "11144477735" }), ("nick", Text("Aninha")),
            ("more", Map(("email", Text("not marked")))));
        var record = Record("o-1", eventName, customer, new() { N = "1" });
        var parked = QuarantinedRecord.Of("a mistake of ours", record, Protection.Protector);
        using var stored = new MemoryStream(parked.ToJson().ToArray());

        var again = EntryPoint.Serializer.Deserialize<QuarantinedRecord>(stored);

        Assert.Equal(Protection.Protector.KeyId, again.ProtectedWith);
        Assert.Equal(
            ChangeDecoder.Decode(EventRecord.ToStreamRecord(record, Protection.Protector)), ChangeDecoder.Decode(EventRecord.ToStreamRecord(again)));
        // The record itself is as it was: it may be delivered again.
        Assert.Equal(Name, customer.M["name"].S);
    }

    [Fact]
    public void A_record_that_was_parked_with_clear_values_is_never_taken_for_a_protected_one() =>
        Assert.Throws<ArgumentException>(() => EventRecord.ToStreamRecord(new QuarantinedRecord("reason", Record("o-1", "INSERT", Text("x"), new() { N = "1" }))));

    [Fact]
    public async Task Without_a_key_nothing_is_written_and_the_batch_comes_again()
    {
        var function = new ProcessOrders(_objects, _ => throw new IOException("no secret"), TimeProvider.System);

        var response = await function.HandleAsync(new DynamoDBEvent { Records = [Record("o-1", "INSERT", Text(Name), new() { N = "1" })] }, _context);

        Assert.Equal("100000000000000000001", Assert.Single(response.BatchItemFailures).ItemIdentifier);
        Assert.Empty(_objects.Stored);
        Assert.Contains("no secret", _context.Log, StringComparison.Ordinal);
    }

    [Fact]
    public void The_ids_of_the_keys_in_a_document_are_those_of_its_personal_data_alone()
    {
        var elsewhere = "hmac:00000000:0000000000000000000000";
        var document = $$"""
            {"customer":[{"email":"{{Protect("email", "a@b")}}","name":"x","document":7,"city":"{{elsewhere}}"}],"note":"{{elsewhere}}","customer_id":"{{elsewhere}}"}
            """;

        Assert.Equal([Protection.Protector.KeyId], PersonalData.KeyIdsIn(document));
    }

    [Fact]
    public async Task The_key_comes_from_the_extension_and_a_new_one_is_taken_when_it_is_there()
    {
        using var extension = new Extension { Body = Secret(Protection.Key) };
        using var http = new HttpClient(extension);
        var key = new PersonalDataKey(new SecretsExtension(http, new Uri("http://localhost:2773"), "token-1"), "arn:a/b");

        var first = await key.GetAsync(Cancelled);
        Assert.Equal("http://localhost:2773/secretsmanager/get?secretId=arn%3Aa%2Fb token-1", extension.Asked);
        Assert.Same(first, await key.GetAsync(Cancelled));
        extension.Body = Secret("another key of the tests, 32 characters and more");
        Assert.NotEqual(first.KeyId, (await key.GetAsync(Cancelled)).KeyId);
    }

    [Theory]
    [InlineData(HttpStatusCode.BadRequest, "s-1")]
    [InlineData(HttpStatusCode.OK, "s-1")]
    [InlineData(HttpStatusCode.OK, """{"SecretString":"s-1"}""")]
    [InlineData(HttpStatusCode.OK, """{"SecretBinary":"s-1"}""")]
    public async Task A_key_that_is_not_there_is_an_error_that_shows_nothing_of_what_is(HttpStatusCode status, string body)
    {
        using var extension = new Extension { Status = status, Body = body };
        using var http = new HttpClient(extension);

        var error = await Assert.ThrowsAsync<IOException>(
            async () => await new PersonalDataKey(new SecretsExtension(http, new Uri("http://localhost:2773"), "token-1"), "arn:a/b").GetAsync(Cancelled));

        Assert.DoesNotContain("s-1", error.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "", Names.Settings.PersonalDataKey)]
    [InlineData("short", "", "32")]
    [InlineData("", "arn:a/b", "AWS_SESSION_TOKEN")]
    public void A_function_without_a_key_says_which_setting_is_missing(string key, string secretArn, string named)
    {
        var settings = new Dictionary<string, string> { [Names.Settings.PersonalDataKey] = key, [Names.Settings.PersonalDataSecretArn] = secretArn };

        var error = Assert.ThrowsAny<Exception>(() => PersonalDataKey.From(settings.GetValueOrDefault));

        Assert.Contains(named, error.Message, StringComparison.Ordinal);
    }

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    private static string Protect(string attribute, string value) => Protection.Protector.Protect(Customer.Member(attribute)!, value);

    private static AttributeValue Text(string text) => new() { S = text };

    private static AttributeValue List(params AttributeValue[] elements) => new() { L = [.. elements] };

    private static AttributeValue Map(params (string Name, AttributeValue Value)[] members) => new() { M = members.ToDictionary(m => m.Name, m => m.Value) };

    private static string Secret(string key) => JsonSerializer.Serialize(new { ARN = "arn:a/b", SecretString = key });

    private Task<StreamsEventResponse> HandleAsync(IList<DynamoDBEvent.DynamodbStreamRecord> records) =>
        new ProcessOrders(_objects, Protection.GetAsync, TimeProvider.System).HandleAsync(new DynamoDBEvent { Records = records }, _context);

    private async Task<IReadOnlyList<Change>> ChangesAsync()
    {
        using var stream = new MemoryStream(Assert.Single(_objects.Stored, o => o.Key.StartsWith(Names.ChangesPrefix, StringComparison.Ordinal)).Value);
        return await ChangeFile.ReadAsync(stream, Cancelled);
    }

    private static DynamoDBEvent.DynamodbStreamRecord Record(string orderId, string eventName, AttributeValue customer, AttributeValue version)
    {
        Dictionary<string, AttributeValue> image = new() { ["order_id"] = Text(orderId), ["version"] = version, ["customer"] = customer };
        return new()
        {
            EventID = $"event-{orderId}",
            EventName = eventName,
            Dynamodb = new()
            {
                ApproximateCreationDateTime = new DateTime(2026, 11, 24, 8, 0, 0, DateTimeKind.Utc),
                Keys = new() { ["order_id"] = Text(orderId) },
                NewImage = eventName == "REMOVE" ? null : image,
                OldImage = new(image) { ["version"] = new() { N = "1" } },
                SequenceNumber = "100000000000000000001",
            },
        };
    }

    private sealed class Extension : HttpMessageHandler
    {
        public HttpStatusCode Status { get; set; } = HttpStatusCode.OK;
        public string Body { get; set; } = "";
        public string Asked { get; private set; } = "";

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            Asked = $"{request.RequestUri} {request.Headers.GetValues("X-Aws-Parameters-Secrets-Token").Single()}";
            return Task.FromResult(new HttpResponseMessage(Status) { Content = new StringContent(Body) });
        }
    }
}
