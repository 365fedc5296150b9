using System.Globalization;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;
using Scalar.AspNetCore;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// The OpenAPI document at /openapi/v1.json. The framework finds the routes; what they take and answer is told
/// here, with the schemas that the requests are really held against.
/// </summary>
internal static class OrdersOpenApi
{
    public const string DocumentName = "v1";

    private const string ProblemSchema = "Problem";
    private const string TokenScheme = "token";

    private static readonly OpenApiSchema Problem = new()
    {
        Type = JsonSchemaType.Object,
        Description = "problem details (RFC 9457)",
        Required = new HashSet<string> { "type", "title", "status" },
        Properties = new Dictionary<string, IOpenApiSchema>
        {
            ["type"] = Text("what went wrong, for programs; about:blank or a tools.ietf.org address where the status says it all"),
            ["title"] = Text("what went wrong, for people"),
            ["status"] = new OpenApiSchema { Type = JsonSchemaType.Integer },
            ["detail"] = Text("what to do about it"),
            ["errors"] = new OpenApiSchema
            {
                Type = JsonSchemaType.Array,
                Description = "every fault of an invalid request, at most about a hundred",
                Items = new OpenApiSchema
                {
                    Type = JsonSchemaType.Object,
                    Required = new HashSet<string> { "detail" },
                    Properties = new Dictionary<string, IOpenApiSchema>
                    {
                        ["detail"] = Text("the rule that is broken"),
                        ["pointer"] = Text("a JSON pointer into the body, as URI fragment"),
                        ["parameter"] = Text("the name of a query parameter"),
                        ["header"] = Text("the name of a header"),
                    },
                },
            },
            ["order_id"] = Text("the order in question"),
            ["version"] = new OpenApiSchema { Type = JsonSchemaType.Integer, Description = "the order's present version (412)" },
            ["order_status"] = Text("the order's present status (409)"),
            ["allowed"] = new OpenApiSchema { Type = JsonSchemaType.Array, Items = Text("a status"), Description = "the statuses that may follow (409)" },
        },
    };

    public static void Describe(OpenApiOptions options) => options.AddDocumentTransformer((document, _, _) =>
    {
        document.Info = new OpenApiInfo
        {
            Title = "Orders API",
            Version = DocumentName,
            Description = "Orders of an online shop, each with a version that every change raises by one. Errors are problem details (RFC 9457).",
        };
        document.Components ??= new OpenApiComponents();
        document.Components.SecuritySchemes = new Dictionary<string, IOpenApiSecurityScheme>
        {
            [TokenScheme] = new OpenApiSecurityScheme
            {
                Type = SecuritySchemeType.Http,
                Scheme = "bearer",
                BearerFormat = "JWT",
                Description = "Names the scopes orders:read, orders:write and the merchant_id whose orders they are about.",
            },
        };
        document.Components.Schemas = new Dictionary<string, IOpenApiSchema>
        {
            ["NewOrder"] = OrderSchemas.NewOrder,
            ["NewOrders"] = OrderSchemas.BatchOf(new OpenApiSchemaReference("NewOrder", document)),
            ["BatchResults"] = BatchResults(document),
            ["CustomerPatch"] = OrderSchemas.CustomerPatch,
            ["StatusChange"] = OrderSchemas.StatusChange,
            ["Order"] = OrderSchemas.Order,
            ["OrderPage"] = new OpenApiSchema
            {
                Type = JsonSchemaType.Object,
                Required = new HashSet<string> { "orders" },
                Properties = new Dictionary<string, IOpenApiSchema>
                {
                    ["orders"] = new OpenApiSchema { Type = JsonSchemaType.Array, Items = new OpenApiSchemaReference("Order", document) },
                    ["next_cursor"] = Text("where the next page begins; absent on the last page"),
                },
            },
            ["Visibility"] = new OpenApiSchema
            {
                Type = JsonSchemaType.Object,
                Description = "whether the warehouse shows an order at a version",
                Required = new HashSet<string> { "order_id", "min_version", "visible", "removed", "waited_ms" },
                Properties = new Dictionary<string, IOpenApiSchema>
                {
                    ["order_id"] = Text("the order in question"),
                    ["min_version"] = Whole("the version that was asked for"),
                    ["visible"] = new OpenApiSchema { Type = JsonSchemaType.Boolean, Description = "it shows this version, or a later one" },
                    ["version"] = Whole("the version that it shows; absent while it shows nothing of the order"),
                    ["removed"] = new OpenApiSchema { Type = JsonSchemaType.Boolean, Description = "it shows that the order is removed" },
                    ["took_ms"] = Whole("milliseconds from the write of the version to its load; absent while it is not visible"),
                    ["waited_ms"] = Whole("milliseconds that this request has waited"),
                },
            },
            [ProblemSchema] = Problem,
        };
        return Task.CompletedTask;
    });

    /// <summary>The page that shows the document; it comes whole from this program, and asks nobody else for anything.</summary>
    public static void ShowPage(ScalarOptions page)
    {
        page.Title = "Orders API";
        page.OpenApiRoutePattern = "/openapi/{documentName}.json";
        page.DefaultFonts = false;
        page.AddPreferredSecuritySchemes(TokenScheme);
    }

    public static void Create(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "Create an order";
        operation.Parameters = [IdempotencyKeyHeader()];
        operation.RequestBody = Body("NewOrder", document, OrderExamples.NewOrder);
        operation.Responses = Responses(operation, Access.Write, document, 400, 409, 413, 415, 422);
        operation.Responses["201"] = Success("The order, at version 1.", "Order", document, OrderExamples.Order, withETag: true, withLocation: true, withReplayed: true);
    }

    public static void CreateBatch(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "Create up to 100 orders";
        operation.Description = "Each order is created or refused by itself, as if it had been sent alone; results say which. "
            + "A result with status 503, or 409 request-in-progress, is no outcome yet: send the batch again with its Idempotency-Key.";
        operation.Parameters = [IdempotencyKeyHeader()];
        operation.RequestBody = Body("NewOrders", document, new JsonObject { ["orders"] = new JsonArray(OrderExamples.NewOrder) });
        operation.Responses = Responses(operation, Access.Write, document, 400, 409, 413, 415, 422);
        operation.Responses["200"] = Success("What came of each order.", "BatchResults", document, OrderExamples.BatchResults, withReplayed: true);
    }

    public static void Get(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "Read an order";
        operation.Parameters = [OrderId(), IfNoneMatchHeader()];
        operation.Responses = Responses(operation, Access.Read, document, 400, 404);
        operation.Responses["200"] = Success("The order.", "Order", document, OrderExamples.Order, withETag: true);
        operation.Responses["304"] = new OpenApiResponse { Description = "The order is still at the version that the caller has." };
    }

    public static void Warehouse(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "Is a version to be seen in the warehouse yet?";
        operation.Description = "Waits up to wait_ms milliseconds until it is. After a removal the versions of an order begin anew; what counts is its present life.";
        operation.Parameters = [OrderId(), Query("min_version", OrderSchemas.MinVersion, required: true), Query("wait_ms", OrderSchemas.Wait)];
        operation.Responses = Responses(operation, Access.Read, document, 400, 404, 501);
        operation.Responses["200"] = Success("What the warehouse shows.", "Visibility", document, OrderExamples.Visibility);
    }

    public static void List(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "List a customer's orders, or those with a status, newest first";
        operation.Description = "Exactly one of customer_id and status. Which orders there are comes from an index that follows the table within a moment: "
            + "an order just created may be missing for an instant. What they are is as fresh as a single read; orders that left the list "
            + "meanwhile are left out, so a page may be shorter than limit and not be the last.";
        operation.Parameters =
        [
            Query("customer_id", OrderSchemas.Id),
            Query("status", OrderSchemas.StatusFilter),
            Query("limit", OrderSchemas.PageSize),
            Query("cursor", Text("the next_cursor of the page before, of the same list")),
        ];
        operation.Responses = Responses(operation, Access.Read, document, 400);
        operation.Responses["200"] = Success("One page.", "OrderPage", document, new JsonObject { ["orders"] = new JsonArray(OrderExamples.Order) });
    }

    public static void ChangeCustomer(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "Correct the customer's details";
        operation.Description = "A merge patch (RFC 7396): what is left out stays, null takes a detail away.";
        operation.Parameters = [OrderId(), IfMatchHeader()];
        operation.RequestBody = Body("CustomerPatch", document, OrderExamples.CustomerPatch, "application/json", RequestJson.MergePatch);
        operation.Responses = Responses(operation, Access.Write, document, 400, 404, 412, 413, 415, 428);
        operation.Responses["200"] = Success("The order, one version further.", "Order", document, OrderExamples.Order, withETag: true);
    }

    public static void ChangeStatus(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "Change an order's status";
        operation.Parameters = [OrderId(), IfMatchHeader()];
        operation.RequestBody = Body("StatusChange", document, OrderExamples.StatusChange);
        operation.Responses = Responses(operation, Access.Write, document, 400, 404, 409, 412, 413, 415, 428);
        operation.Responses["200"] = Success("The order, one version further.", "Order", document, OrderExamples.Order, withETag: true);
    }

    public static void Delete(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "Remove an order";
        operation.Parameters = [OrderId(), IfMatchHeader()];
        operation.Responses = Responses(operation, Access.Write, document, 400, 404, 412, 428);
        operation.Responses["204"] = new OpenApiResponse { Description = "The order is removed." };
    }

    public static RouteHandlerBuilder Describe(this RouteHandlerBuilder route, Action<OpenApiOperation, OpenApiDocument> describe) =>
        route.AddOpenApiOperationTransformer((operation, context, _) =>
        {
            describe(operation, context.Document!);
            return Task.CompletedTask;
        });

    /// <summary>Asks for the scope, and adds the problems of every operation to its own.</summary>
    private static OpenApiResponses Responses(OpenApiOperation operation, string scope, OpenApiDocument document, params ReadOnlySpan<int> problems)
    {
        operation.Security = [new OpenApiSecurityRequirement { [new OpenApiSecuritySchemeReference(TokenScheme, document)] = [scope] }];
        var takesKey = operation.Parameters?.Any(parameter => parameter.Name == IdempotencyKey.Header) == true;
        var responses = new OpenApiResponses();
        foreach (var status in (int[])[.. problems, 401, 403, 429, 503])
        {
            var response = new OpenApiResponse
            {
                Description = status switch
                {
                    400 => "The request breaks a rule; errors names each fault.",
                    401 => "There is no token, or none that is valid.",
                    403 => string.Create(CultureInfo.InvariantCulture, $"The token lacks the scope {scope}, or the order is said to be another merchant's."),
                    404 => "The merchant has no such order.",
                    409 => "The order's present state does not allow this, or the same request is being executed.",
                    412 => "The order was changed since it was read.",
                    413 => string.Create(CultureInfo.InvariantCulture, $"The body is larger than {RequestJson.MaxBodyBytes} bytes ({RequestJson.MaxBatchBytes} for a batch)."),
                    415 => "The body is not JSON in UTF-8.",
                    422 => "The Idempotency-Key stands for another request.",
                    428 => "If-Match is missing.",
                    429 => "The merchant sends too many requests.",
                    501 => "This API has no connection to the warehouse.",
                    503 => "The table throttles or does not answer (or the warehouse, where it is asked); a write may or may not have happened.",
                    _ => throw new ArgumentOutOfRangeException(nameof(problems), status, "No description."),
                },
                Content = new Dictionary<string, OpenApiMediaType>
                {
                    ["application/problem+json"] = new()
                    {
                        Schema = new OpenApiSchemaReference(ProblemSchema, document),
                        Example = status == 400 ? OrderExamples.InvalidRequest : null,
                    },
                },
            };
            response.Headers = status switch
            {
                401 => new Dictionary<string, IOpenApiHeader> { ["WWW-Authenticate"] = Header("what is missing (RFC 6750)") },
                403 => new Dictionary<string, IOpenApiHeader> { ["WWW-Authenticate"] = Header("which scope is missing (RFC 6750); only with the type forbidden") },
                409 when takesKey => new Dictionary<string, IOpenApiHeader>
                {
                    ["Retry-After"] = Header("seconds until it is worth trying again; only with the type request-in-progress"),
                    [Outcome.ReplayedHeader] = Replayed(),
                },
                429 or 503 => new Dictionary<string, IOpenApiHeader> { ["Retry-After"] = Header("seconds until it is worth trying again") },
                _ => null,
            };
            responses.Add(status.ToString(CultureInfo.InvariantCulture), response);
        }

        return responses;
    }

    private static OpenApiResponse Success(
        string description, string schema, OpenApiDocument document, JsonNode example,
        bool withETag = false, bool withLocation = false, bool withReplayed = false)
    {
        var headers = new Dictionary<string, IOpenApiHeader>();
        if (withETag)
        {
            headers.Add("ETag", Header("the version as strong entity tag, for If-Match and If-None-Match"));
        }

        if (withLocation)
        {
            headers.Add("Location", Header("the order's path"));
        }

        if (withReplayed)
        {
            headers.Add(Outcome.ReplayedHeader, Replayed());
        }

        return new OpenApiResponse
        {
            Description = description,
            Headers = headers,
            Content = new Dictionary<string, OpenApiMediaType>
            {
                ["application/json"] = new() { Schema = new OpenApiSchemaReference(schema, document), Example = example },
            },
        };
    }

    private static OpenApiRequestBody Body(string schema, OpenApiDocument document, JsonNode example, params IEnumerable<string> mediaTypes) => new()
    {
        Required = true,
        Content = mediaTypes.DefaultIfEmpty("application/json").ToDictionary(
            type => type,
            _ => new OpenApiMediaType { Schema = new OpenApiSchemaReference(schema, document), Example = example.DeepClone() }),
    };

    private static OpenApiSchema BatchResults(OpenApiDocument document) => new()
    {
        Type = JsonSchemaType.Object,
        Description = "what came of each order of a batch, in the order of the request",
        Required = new HashSet<string> { "created", "refused", "results" },
        Properties = new Dictionary<string, IOpenApiSchema>
        {
            ["created"] = new OpenApiSchema { Type = JsonSchemaType.Integer },
            ["refused"] = new OpenApiSchema { Type = JsonSchemaType.Integer },
            ["results"] = new OpenApiSchema
            {
                Type = JsonSchemaType.Array,
                Items = new OpenApiSchema
                {
                    Type = JsonSchemaType.Object,
                    Required = new HashSet<string> { "index", "status" },
                    Properties = new Dictionary<string, IOpenApiSchema>
                    {
                        ["index"] = new OpenApiSchema { Type = JsonSchemaType.Integer, Description = "the order's place in the request, from 0" },
                        ["status"] = new OpenApiSchema { Type = JsonSchemaType.Integer, Description = "201, or the status of the problem" },
                        ["order_id"] = Text("the order's id"),
                        ["version"] = new OpenApiSchema { Type = JsonSchemaType.Integer, Description = "of an order that was created" },
                        ["problem"] = new OpenApiSchemaReference(ProblemSchema, document),
                    },
                },
            },
        },
    };

    private static OpenApiParameter OrderId() => new()
    {
        Name = "order_id",
        In = ParameterLocation.Path,
        Required = true,
        Schema = OrderSchemas.Id,
    };

    private static OpenApiParameter IfMatchHeader() => new()
    {
        Name = "If-Match",
        In = ParameterLocation.Header,
        Required = true,
        Description = "The ETag of the order as it was read (or several), or * for any version.",
        Schema = OrderSchemas.IfMatch,
        Example = JsonValue.Create("\"1\""),
    };

    private static OpenApiParameter IdempotencyKeyHeader() => new()
    {
        Name = IdempotencyKey.Header,
        In = ParameterLocation.Header,
        Required = false,
        Description = "Makes the request safe to repeat: the first outcome is replayed for at least 24 hours. A UUID, for example.",
        Schema = OrderSchemas.IdempotencyKey,
        Example = JsonValue.Create("2f1c6a1e-7d0b-4c53-9d52-0c3a5d0f6a11"),
    };

    private static OpenApiParameter IfNoneMatchHeader() => new()
    {
        Name = "If-None-Match",
        In = ParameterLocation.Header,
        Required = false,
        Description = "The ETag of the copy that the caller has; the answer is then 304 if there is no newer one.",
        Schema = OrderSchemas.IfNoneMatch,
        Example = JsonValue.Create("\"1\""),
    };

    private static OpenApiParameter Query(string name, OpenApiSchema schema, bool required = false) => new()
    {
        Name = name,
        In = ParameterLocation.Query,
        Required = required,
        Schema = schema,
    };

    private static OpenApiHeader Replayed() => Header("true when this is the answer to an earlier request with the same Idempotency-Key; absent otherwise");

    private static OpenApiHeader Header(string description) => new()
    {
        Description = description,
        Schema = new OpenApiSchema { Type = JsonSchemaType.String },
    };

    private static OpenApiSchema Whole(string description) => new() { Type = JsonSchemaType.Integer, Format = "int64", Description = description };

    private static OpenApiSchema Text(string description) => new() { Type = JsonSchemaType.String, Description = description };
}
