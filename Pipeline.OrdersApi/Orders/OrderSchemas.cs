using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.OpenApi;
using Pipeline.Core;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// What a request may say, in one place: these schemas are the OpenAPI document's, and <see cref="SchemaCheck"/>
/// holds every body against them, so the two cannot differ. Each description completes the sentence "must be …".
/// </summary>
internal static class OrderSchemas
{
    // An item of DynamoDB holds 400 KB. With every list full and every string at its limit an order takes about
    // a tenth of that (a test builds that order).
    public const int MaxItems = 200;
    public const int MaxPayments = 50;

    public const int MoneyDecimals = 2;

    /// <summary>As many results as a client wants to look through when some are refused.</summary>
    public const int MaxBatch = 100;

    public const int DefaultPageSize = 20;
    public const int MaxPageSize = 100;
    public const int VersionMax = 1_000_000_000;

    // U+0000 cannot be kept by the warehouse, and no other control character means anything in these fields.
    private const string NoControlCharacters = @"^[^\u0000-\u001f\u007f-\u009f]+$";

    public static readonly OpenApiSchema Id = Text(64, "^[A-Za-z0-9_-]+$", "1 to 64 characters of A–Z a–z 0–9 _ -");

    private static readonly OpenApiSchema Money = new()
    {
        Type = JsonSchemaType.Number,
        Minimum = "0",
        Maximum = "9999999.99",
        MultipleOf = 0.01m,
        Description = "an amount of money from 0 to 9999999.99 with at most 2 decimals",
    };

    private static readonly OpenApiSchema Currency = Choice(Currencies.Iso4217, "the code of a currency in ISO 4217, three upper-case letters");

    private static readonly OpenApiSchema Status = Choice(Enum.GetValues<OrderStatus>().Select(status => status.Name()), "the status of an order");

    /// <summary>Personal data and where the customer is; all of it may be missing.</summary>
    private static readonly Dictionary<string, IOpenApiSchema> CustomerDetails = new()
    {
        ["name"] = Optional(Text(200, NoControlCharacters, "1 to 200 characters without control characters")),
        ["email"] = Optional(Text(254, @"^[^@\u0000-\u0020\u007f-\u009f]+@[^@\u0000-\u0020\u007f-\u009f]+$", "an e-mail address of at most 254 characters")),
        ["document"] = Optional(Text(32, "^[0-9A-Za-z./-]+$", "a tax document (CPF, CNPJ): 1 to 32 characters of A–Z a–z 0–9 . / -")),
        ["city"] = Optional(Text(100, NoControlCharacters, "1 to 100 characters without control characters")),
        ["state"] = Optional(Text(100, NoControlCharacters, "1 to 100 characters without control characters")),
    };

    private static readonly OpenApiSchema Customer = Record("who bought: identifiers and personal data", new(CustomerDetails) { ["customer_id"] = Id });

    private static readonly Dictionary<string, IOpenApiSchema> ItemFields = new()
    {
        ["product_id"] = Id,
        ["seller_id"] = Id,
        ["quantity"] = Integer(1, 10_000),
        ["unit_price"] = Money,
        ["freight"] = Money,
    };

    private static readonly Dictionary<string, IOpenApiSchema> PaymentFields = new()
    {
        ["method"] = Choice(["credit_card", "debit_card", "boleto", "voucher", "pix", "not_defined"], "a payment method"),
        ["installments"] = Integer(0, 99),
        ["amount"] = Money,
    };

    /// <summary>The body of POST /orders. Items and payments are numbered by their place in the list.</summary>
    public static readonly OpenApiSchema NewOrder = Record("a new order", new()
    {
        ["order_id"] = Optional(Id),
        ["merchant_id"] = Optional(Id),
        ["customer"] = Customer,
        ["currency"] = Currency,
        ["items"] = List(MaxItems, Record("one line of the order", ItemFields)),
        ["payments"] = List(MaxPayments, Record("one payment", PaymentFields)),
    });

    /// <summary>
    /// The body of POST /orders/batch without what its orders must be: each of them is held against
    /// <see cref="NewOrder"/> on its own, and one that breaks a rule does not keep the others out.
    /// </summary>
    public static readonly OpenApiSchema Batch = BatchOf(null);

    /// <summary>The body of PATCH /orders/{order_id}: a merge patch (RFC 7396), so null takes a detail away.</summary>
    public static readonly OpenApiSchema CustomerPatch = Record("a change of the customer's details", new()
    {
        ["customer"] = AtLeastOne(Record("the details to change, at least one; null takes one away", new(CustomerDetails))),
    });

    /// <summary>The body of PUT /orders/{order_id}/status.</summary>
    public static readonly OpenApiSchema StatusChange = Record("a change of the order's status", new() { ["status"] = Status });

    /// <summary>What the API answers; described, never checked.</summary>
    public static readonly OpenApiSchema Order = Record("an order", new()
    {
        ["order_id"] = Id,
        ["merchant_id"] = Id,
        ["customer_id"] = Id,
        ["customer"] = Customer,
        ["status"] = Status,
        ["currency"] = Currency,
        ["items"] = List(MaxItems, Record("one line of the order", new(ItemFields) { ["line"] = Integer(1, MaxItems) })),
        ["payments"] = List(MaxPayments, Record("one payment", new(PaymentFields) { ["sequence"] = Integer(1, MaxPayments) })),
        ["total_amount"] = new OpenApiSchema
        {
            Type = JsonSchemaType.Number,
            Minimum = "0",
            MultipleOf = 0.01m,
            Description = "the sum over the items of quantity × unit_price + freight",
        },
        ["created_at"] = Instant("when the order was created, UTC with milliseconds"),
        ["updated_at"] = Instant("when this version was written, UTC with milliseconds"),
        ["version"] = new OpenApiSchema
        {
            Type = JsonSchemaType.Integer,
            Format = "int64",
            Minimum = "1",
            Description = "1 for a new order, raised by exactly one in every change; the ETag",
        },
        ["trace_parent"] = Text(55, "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$", "the W3C traceparent of the request that wrote this version"),
    });

    /// <summary>The query parameter status of GET /orders.</summary>
    public static readonly OpenApiSchema StatusFilter = Status;

    /// <summary>The query parameter limit of GET /orders.</summary>
    public static readonly OpenApiSchema PageSize = Integer(1, MaxPageSize, DefaultPageSize);

    /// <summary>The query parameters of GET /orders/{order_id}/warehouse. Versions count single changes of one order.</summary>
    public static readonly OpenApiSchema MinVersion = Integer(1, VersionMax);
    public static readonly OpenApiSchema Wait = Integer(0, WarehouseEndpoint.WaitMax, 0);

    /// <summary>The header If-Match: any version, or up to 20 entity tags (RFC 9110, section 8.8.3).</summary>
    public static readonly OpenApiSchema IfMatch = EntityTags("*, or 1 to 20 entity tags in double quotes", 20);

    /// <summary>The header If-None-Match.</summary>
    public static readonly OpenApiSchema IfNoneMatch = EntityTags("*, or 1 to 100 entity tags in double quotes", 100);

    /// <summary>The header Idempotency-Key.</summary>
    public static readonly OpenApiSchema IdempotencyKey = Text(255, "^[ -~]+$", "1 to 255 printable characters of ASCII");

    private static readonly Regex IdPattern = PatternOf(Id);

    public static bool IsId(string text) => text.Length <= Id.MaxLength && IdPattern.IsMatch(text);

    /// <summary>
    /// A schema's pattern (ECMA 262) as .NET reads it: there, unlike here, $ is the very end and not also the place
    /// before a last line feed.
    /// </summary>
    public static Regex PatternOf(IOpenApiSchema schema) =>
        new(schema.Pattern!.Replace("$", @"\z", StringComparison.Ordinal), RegexOptions.ECMAScript | RegexOptions.CultureInvariant);

    private static OpenApiSchema Record(string description, Dictionary<string, IOpenApiSchema> fields) => new()
    {
        Type = JsonSchemaType.Object,
        Description = description,
        Properties = fields,
        Required = fields.Where(field => !field.Value.Type!.Value.HasFlag(JsonSchemaType.Null)).Select(field => field.Key).ToHashSet(),
        AdditionalPropertiesAllowed = false,
    };

    public static OpenApiSchema BatchOf(IOpenApiSchema? order) => Record("a batch of new orders", new()
    {
        ["orders"] = new OpenApiSchema
        {
            Type = JsonSchemaType.Array,
            Items = order,
            MinItems = 1,
            MaxItems = MaxBatch,
            Description = $"a list of 1 to {MaxBatch} orders",
        },
    });

    private static OpenApiSchema EntityTags(string description, int maxTags)
    {
        const string Tag = "(W/)?\"[!#-~]*\"";
        return new OpenApiSchema
        {
            Type = JsonSchemaType.String,
            Pattern = string.Create(CultureInfo.InvariantCulture, $@"^(\*|{Tag}([ \t]*,[ \t]*{Tag}){{0,{maxTags - 1}}})$"),
            Description = description,
        };
    }

    private static OpenApiSchema AtLeastOne(OpenApiSchema record)
    {
        record.MinProperties = 1;
        return record;
    }

    private static OpenApiSchema List(int maxItems, OpenApiSchema of) => new()
    {
        Type = JsonSchemaType.Array,
        Items = of,
        MinItems = 0,
        MaxItems = maxItems,
        Description = $"a list of at most {maxItems} entries",
    };

    private static OpenApiSchema Text(int maxLength, string pattern, string description) => new()
    {
        Type = JsonSchemaType.String,
        MinLength = 1,
        MaxLength = maxLength,
        Pattern = pattern,
        Description = description,
    };

    private static OpenApiSchema Integer(int minimum, int maximum, int? byDefault = null) => new()
    {
        Type = JsonSchemaType.Integer,
        Minimum = minimum.ToString(CultureInfo.InvariantCulture),
        Maximum = maximum.ToString(CultureInfo.InvariantCulture),
        Description = string.Create(CultureInfo.InvariantCulture, $"a whole number from {minimum} to {maximum}"),
        Default = byDefault,
    };

    private static OpenApiSchema Choice(IEnumerable<string> values, string description) => new()
    {
        Type = JsonSchemaType.String,
        Enum = [.. values.Select(value => (JsonNode)value)],
        Description = description,
    };

    private static OpenApiSchema Instant(string description) => new()
    {
        Type = JsonSchemaType.String,
        Format = "date-time",
        Description = description,
    };

    /// <summary>May be left out, or null, which is the same.</summary>
    private static OpenApiSchema Optional(OpenApiSchema schema)
    {
        var optional = (OpenApiSchema)schema.CreateShallowCopy();
        optional.Type |= JsonSchemaType.Null;
        return optional;
    }
}
