using System.Globalization;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;

namespace Pipeline.OrdersApi.Orders;

/// <summary>
/// The OpenAPI document at /openapi/v1.json. The framework finds the routes; what they take and answer is told
/// here, with the schemas that the requests are really held against.
/// </summary>
internal static class OrdersOpenApi
{
    public const string DocumentName = "v1";

    private const string ProblemSchema = "Problem";

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
        document.Components.Schemas = new Dictionary<string, IOpenApiSchema>
        {
            ["NewOrder"] = OrderSchemas.NewOrder,
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
            [ProblemSchema] = Problem,
        };
        return Task.CompletedTask;
    });

    public static void Create(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "Create an order";
        operation.Parameters = [IdempotencyKeyHeader()];
        operation.RequestBody = Body("NewOrder", document);
        operation.Responses = Responses(document, 400, 409, 413, 415, 422, 503);
        operation.Responses["201"] = Success("The order, at version 1.", "Order", document, withETag: true, withLocation: true);
    }

    public static void Get(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "Read an order";
        operation.Parameters = [OrderId()];
        operation.Responses = Responses(document, 404, 503);
        operation.Responses["200"] = Success("The order.", "Order", document, withETag: true);
    }

    public static void List(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "List a customer's orders, newest first";
        operation.Description = "Reads an index that follows the table within a moment: an order just created may be missing for an instant.";
        operation.Parameters =
        [
            Query("customer_id", required: true, OrderSchemas.Id),
            Query("limit", required: false, OrderSchemas.PageSize),
            Query("cursor", required: false, Text("the next_cursor of the page before, of the same customer")),
        ];
        operation.Responses = Responses(document, 400, 503);
        operation.Responses["200"] = Success("One page.", "OrderPage", document);
    }

    public static void ChangeStatus(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "Change an order's status";
        operation.Parameters = [OrderId(), IfMatchHeader()];
        operation.RequestBody = Body("StatusChange", document);
        operation.Responses = Responses(document, 400, 404, 409, 412, 413, 415, 428, 503);
        operation.Responses["200"] = Success("The order, one version further.", "Order", document, withETag: true);
    }

    public static void Delete(OpenApiOperation operation, OpenApiDocument document)
    {
        operation.Summary = "Remove an order";
        operation.Parameters = [OrderId(), IfMatchHeader()];
        operation.Responses = Responses(document, 400, 404, 412, 428, 503);
        operation.Responses["204"] = new OpenApiResponse { Description = "The order is removed." };
    }

    public static RouteHandlerBuilder Describe(this RouteHandlerBuilder route, Action<OpenApiOperation, OpenApiDocument> describe) =>
        route.AddOpenApiOperationTransformer((operation, context, _) =>
        {
            describe(operation, context.Document!);
            return Task.CompletedTask;
        });

    private static OpenApiResponses Responses(OpenApiDocument document, params ReadOnlySpan<int> problems)
    {
        var responses = new OpenApiResponses();
        foreach (var status in problems)
        {
            var response = new OpenApiResponse
            {
                Description = status switch
                {
                    400 => "The request breaks a rule; errors names each fault.",
                    404 => "There is no such order.",
                    409 => "The order's present state does not allow this.",
                    412 => "The order was changed since it was read.",
                    413 => string.Create(CultureInfo.InvariantCulture, $"The body is larger than {RequestJson.MaxBodyBytes} bytes."),
                    415 => "The body is not application/json in UTF-8.",
                    422 => "The Idempotency-Key stands for another request.",
                    428 => "If-Match is missing.",
                    503 => "The table throttles or does not answer; a write may or may not have happened.",
                    _ => throw new ArgumentOutOfRangeException(nameof(problems), status, "No description."),
                },
                Content = new Dictionary<string, OpenApiMediaType>
                {
                    ["application/problem+json"] = new() { Schema = new OpenApiSchemaReference(ProblemSchema, document) },
                },
            };
            if (status == 503)
            {
                response.Headers = new Dictionary<string, IOpenApiHeader> { ["Retry-After"] = Header("seconds until it is worth trying again") };
            }

            responses.Add(status.ToString(CultureInfo.InvariantCulture), response);
        }

        return responses;
    }

    private static OpenApiResponse Success(string description, string schema, OpenApiDocument document, bool withETag = false, bool withLocation = false)
    {
        var headers = new Dictionary<string, IOpenApiHeader>();
        if (withETag)
        {
            headers.Add("ETag", Header("the version as strong entity tag, for If-Match"));
        }

        if (withLocation)
        {
            headers.Add("Location", Header("the order's path"));
        }

        return new OpenApiResponse
        {
            Description = description,
            Headers = headers,
            Content = new Dictionary<string, OpenApiMediaType>
            {
                ["application/json"] = new() { Schema = new OpenApiSchemaReference(schema, document) },
            },
        };
    }

    private static OpenApiRequestBody Body(string schema, OpenApiDocument document) => new()
    {
        Required = true,
        Content = new Dictionary<string, OpenApiMediaType>
        {
            ["application/json"] = new() { Schema = new OpenApiSchemaReference(schema, document) },
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
        Schema = new OpenApiSchema { Type = JsonSchemaType.String },
        Example = JsonValue.Create("\"1\""),
    };

    private static OpenApiParameter IdempotencyKeyHeader() => new()
    {
        Name = IdempotencyKey.Header,
        In = ParameterLocation.Header,
        Required = false,
        Description = "Makes the request safe to repeat: the first outcome is replayed for at least 24 hours. A UUID, for example.",
        Schema = new OpenApiSchema { Type = JsonSchemaType.String, MinLength = 1, MaxLength = IdempotencyKey.MaxLength, Pattern = "^[ -~]+$" },
        Example = JsonValue.Create("2f1c6a1e-7d0b-4c53-9d52-0c3a5d0f6a11"),
    };

    private static OpenApiParameter Query(string name, bool required, OpenApiSchema schema) => new()
    {
        Name = name,
        In = ParameterLocation.Query,
        Required = required,
        Schema = schema,
    };

    private static OpenApiHeader Header(string description) => new()
    {
        Description = description,
        Schema = new OpenApiSchema { Type = JsonSchemaType.String },
    };

    private static OpenApiSchema Text(string description) => new() { Type = JsonSchemaType.String, Description = description };
}
