using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;

namespace Pipeline.OrdersApi.Tests;

public sealed class BadInputTests(OrdersApi api) : IClassFixture<OrdersApi>, IAsyncDisposable
{
    // What every test of this class is about, besides its own answer: nothing is written.
    public async ValueTask DisposeAsync() => Assert.Empty(await api.AllItemsAsync());

    public static TheoryData<string, string, string> OneFault => new()
    {
        { "negative money", """{"items":[{"product_id":"p","seller_id":"s","quantity":1,"unit_price":-0.01,"freight":0}]}""", "#/items/0/unit_price" },
        { "three decimals", """{"payments":[{"method":"pix","installments":1,"amount":1.101}]}""", "#/payments/0/amount" },
        { "three decimals in an exponent", """{"payments":[{"method":"pix","installments":1,"amount":1101e-3}]}""", "#/payments/0/amount" },
        { "more digits than a decimal holds", """{"payments":[{"method":"pix","installments":1,"amount":1.0000000000000000000000000000000000001}]}""", "#/payments/0/amount" },
        { "an amount too large", """{"payments":[{"method":"pix","installments":1,"amount":10000000}]}""", "#/payments/0/amount" },
        { "an amount beyond every number type", """{"payments":[{"method":"pix","installments":1,"amount":1e999999999999}]}""", "#/payments/0/amount" },
        { "money as text", """{"payments":[{"method":"pix","installments":1,"amount":"1.10"}]}""", "#/payments/0/amount" },
        { "a quantity of zero", """{"items":[{"product_id":"p","seller_id":"s","quantity":0,"unit_price":1,"freight":0}]}""", "#/items/0/quantity" },
        { "a quantity too large", """{"items":[{"product_id":"p","seller_id":"s","quantity":10001,"unit_price":1,"freight":0}]}""", "#/items/0/quantity" },
        { "half a piece", """{"items":[{"product_id":"p","seller_id":"s","quantity":1.5,"unit_price":1,"freight":0}]}""", "#/items/0/quantity" },
        { "an unknown payment method", """{"payments":[{"method":"cheque","installments":1,"amount":1}]}""", "#/payments/0/method" },
        { "too many installments", """{"payments":[{"method":"pix","installments":100,"amount":1}]}""", "#/payments/0/installments" },
        { "an unknown currency", """{"currency":"ZZZ"}""", "#/currency" },
        { "a currency in lower case", """{"currency":"brl"}""", "#/currency" },
        { "an id with a blank", """{"order_id":"a b"}""", "#/order_id" },
        { "an id with a line feed at its end", """{"order_id":"ab\n"}""", "#/order_id" },
        { "an empty id", """{"order_id":""}""", "#/order_id" },
        { "an id too long", $$"""{"order_id":"{{new string('x', 65)}}"}""", "#/order_id" },
        { "a merchant that is no id", """{"merchant_id":"a b"}""", "#/merchant_id" },
        { "a list instead of an object", """{"customer":[]}""", "#/customer" },
        { "an object instead of a list", """{"items":{}}""", "#/items" },
        { "a boolean instead of an object", """{"items":[true]}""", "#/items/0" },
        { "a zero byte", """{"customer":{"customer_id":"c","name":"a\u0000b"}}""", "#/customer/name" },
        { "a control character", """{"customer":{"customer_id":"c","city":"a\u0085b"}}""", "#/customer/city" },
        { "a line feed", """{"customer":{"customer_id":"c","name":"a\n"}}""", "#/customer/name" },
        { "half of a surrogate pair", """{"customer":{"customer_id":"c","name":"\ud83d"}}""", "#/customer/name" },
        { "a name too long", $$$"""{"customer":{"customer_id":"c","name":"{{{new string('x', 201)}}}"}}""", "#/customer/name" },
        { "no e-mail address", """{"customer":{"customer_id":"c","email":"nobody"}}""", "#/customer/email" },
        { "a document with letters of no alphabet", """{"customer":{"customer_id":"c","document":"12_3"}}""", "#/customer/document" },
        { "a field that is the server's", """{"status":"delivered"}""", "#/status" },
        { "a field that is unknown", """{"a/b~c d":1}""", "#/a~1b~0c%20d" },
        { "an unknown field of an item", """{"items":[{"line":1,"product_id":"p","seller_id":"s","quantity":1,"unit_price":1,"freight":0}]}""", "#/items/0/line" },
    };

    [Theory]
    [MemberData(nameof(OneFault))]
    public async Task A_fault_is_a_400_that_names_its_place_and_nothing_is_written(string what, string overlay, string place)
    {
        // A double of the field in the text is another fault, so the overlay replaces.
        var body = OrdersApi.SampleOrder().ToDictionary(field => field.Key, field => field.Value!.ToJsonString());
        using var replaced = System.Text.Json.JsonDocument.Parse(overlay);
        foreach (var field in replaced.RootElement.EnumerateObject())
        {
            body[field.Name] = field.Value.GetRawText();
        }

        var text = $"{{{string.Join(',', body.Select(field => $"{JsonValue.Create(field.Key).ToJsonString()}:{field.Value}"))}}}";

        var answer = await api.SendAsync(HttpMethod.Post, "/orders", text);

        Assert.True(answer.Status == HttpStatusCode.BadRequest, $"{what}: {answer.Status}");
        answer.Invalid(place);
    }

    [Fact]
    public async Task All_faults_are_told_at_once()
    {
        const string Body = """
            {"order_id":"?","customer":{"name":7},"currency":"BRL",
             "items":[{"product_id":"p","seller_id":"s","quantity":1,"unit_price":1,"freight":0},{"product_id":"p","quantity":"1","unit_price":0.001,"freight":-1,"more":1}],
             "payments":[]}
            """;

        (await api.SendAsync(HttpMethod.Post, "/orders", Body)).Invalid(
            "#/order_id",
            "#/customer/name", "#/customer/customer_id",
            "#/items/1/quantity", "#/items/1/unit_price", "#/items/1/freight", "#/items/1/more", "#/items/1/seller_id");
    }

    [Fact]
    public async Task Faults_of_the_body_and_of_a_header_are_told_together()
    {
        await Holds(HttpMethod.Post, "/orders", """{"currency":"BRL","items":[],"payments":[]}""", "Idempotency-Key", "", "#/customer", "Idempotency-Key");
        await Holds(HttpMethod.Post, "/orders/batch", """{"orders":[]}""", "Idempotency-Key", "", "#/orders", "Idempotency-Key");
        await Holds(HttpMethod.Put, "/orders/any/status", """{"status":"lost"}""", "If-Match", "1", "#/status", "If-Match");
        await Holds(HttpMethod.Patch, "/orders/any", """{}""", "If-Match", "1", "#/customer", "If-Match");

        async Task Holds(HttpMethod method, string path, string body, string header, string value, params string[] places) =>
            (await api.SendAsAsync(OrdersApi.Merchant, method, path, JsonNode.Parse(body), (header, value))).Invalid(places);
    }

    [Fact]
    public async Task A_thousand_items_are_one_fault()
    {
        var body = OrdersApi.SampleOrder();
        body["items"] = new JsonArray([.. Enumerable.Range(0, 1000).Select(_ => new JsonObject
        {
            ["product_id"] = "p",
            ["seller_id"] = "s",
            ["quantity"] = 1,
            ["unit_price"] = 1,
            ["freight"] = 0,
        })]);

        (await api.CreateAsync(body)).Invalid("#/items");
    }

    [Fact]
    public async Task However_many_faults_there_are_the_answer_stays_small()
    {
        var body = $"{{{string.Join(',', Enumerable.Range(0, 20_000).Select(n => $"\"x{n}\":1"))}}}";

        var answer = await api.SendAsync(HttpMethod.Post, "/orders", body);

        Assert.InRange(answer.Problem(HttpStatusCode.BadRequest, "invalid-request")["errors"]!.AsArray().Count, 100, 110);
    }

    [Theory]
    [InlineData(500 * 1024, false)]
    [InlineData(500 * 1024, true)]
    [InlineData((256 * 1024) + 1, false)]
    [InlineData((256 * 1024) + 1, true)]
    public async Task A_body_over_256_KB_is_refused_with_413(int bytes, bool chunked)
    {
        // Blanks before the end: JSON that would be read, were it shorter.
        var text = OrdersApi.SampleOrder().ToJsonString();
        text = text.Insert(text.Length - 1, new string(' ', bytes - Encoding.UTF8.GetByteCount(text)));
        using var request = new HttpRequestMessage(HttpMethod.Post, "/orders")
        {
            Content = new StringContent(text, Encoding.UTF8, "application/json"),
            Headers = { TransferEncodingChunked = chunked, ExpectContinue = true },
        };

        (await api.SendAsync(request)).Problem(HttpStatusCode.RequestEntityTooLarge, "body-too-large");
    }

    [Theory]
    [InlineData("")]
    [InlineData("nul")]
    [InlineData("{\"order_id\":\"a\"")]
    [InlineData("{\"order_id\":\"a\",\"order_id\":\"b\"}")]
    [InlineData("{} {}")]
    [InlineData("{\"order_id\":NaN}")]
    [InlineData("{\"order_id\":01}")]
    [InlineData("[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]")]
    [InlineData("{\"\\ud800\":1}")]
    [InlineData("null")]
    [InlineData("\"text\"")]
    public async Task What_is_no_JSON_object_is_refused_with_400(string body)
    {
        (await api.SendAsync(HttpMethod.Post, "/orders", body)).Invalid("#");
        (await api.SendAsync(HttpMethod.Put, "/orders/any/status", body, ifMatch: "*")).Invalid("#");
    }

    [Fact]
    public async Task What_is_no_UTF_8_is_refused_with_400()
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/orders") { Content = new ByteArrayContent([(byte)'"', 0xff, (byte)'"']) };
        request.Content.Headers.ContentType = new("application/json");

        (await api.SendAsync(request)).Invalid("#");
    }

    [Fact]
    public async Task A_body_that_is_malformed_on_the_way_is_the_callers_fault_and_not_the_tables()
    {
        // Chunks have their length in hexadecimal before them; no client of .NET would send this one.
        using var client = new TcpClient();
        await client.ConnectAsync(api.Http.BaseAddress!.Host, api.Http.BaseAddress.Port, TestContext.Current.CancellationToken);
        await client.GetStream().WriteAsync(
            Encoding.ASCII.GetBytes(
                $"POST /orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: {OrdersApi.TokenOf(OrdersApi.Merchant)}\r\n"
                + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
            TestContext.Current.CancellationToken);
        using var reader = new StreamReader(client.GetStream());
        var answer = await reader.ReadToEndAsync(TestContext.Current.CancellationToken);

        Assert.StartsWith("HTTP/1.1 400 ", answer, StringComparison.Ordinal);
        Assert.Contains("Content-Type: application/problem+json", answer, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("text/plain")]
    [InlineData("application/xml")]
    [InlineData("application/json; charset=iso-8859-1")]
    public async Task Another_media_type_is_refused_with_415(string mediaType)
    {
        var body = OrdersApi.SampleOrder().ToJsonString();
        (await api.SendAsync(HttpMethod.Post, "/orders", body, mediaType: mediaType)).Problem(HttpStatusCode.UnsupportedMediaType, "not-json");
        (await api.SendAsync(HttpMethod.Put, "/orders/any/status", """{"status":"approved"}""", "*", mediaType)).Problem(HttpStatusCode.UnsupportedMediaType, "not-json");
    }

    [Theory]
    [InlineData("""{"status":"lost"}""", "#/status")]
    [InlineData("""{"status":"Approved"}""", "#/status")]
    [InlineData("""{"status":2}""", "#/status")]
    [InlineData("""{"status":null}""", "#/status")]
    [InlineData("""{}""", "#/status")]
    [InlineData("""{"status":"approved","note":""}""", "#/note")]
    public async Task An_unknown_status_is_refused_with_400(string body, string place) =>
        (await api.SendAsync(HttpMethod.Put, "/orders/any/status", body, ifMatch: "*")).Invalid(place);

    [Theory]
    [InlineData("GET", "/", HttpStatusCode.NotFound)]
    [InlineData("GET", "/orders/a/b/c", HttpStatusCode.NotFound)]
    [InlineData("PATCH", "/orders", HttpStatusCode.MethodNotAllowed)]
    [InlineData("DELETE", "/orders", HttpStatusCode.MethodNotAllowed)]
    public async Task Unknown_paths_and_methods_are_problems_too(string method, string path, HttpStatusCode status)
    {
        var answer = await api.SendAsync(HttpMethod.Parse(method), path);
        Assert.Equal((status, "application/problem+json"), (answer.Status, answer.ContentType));
    }
}
