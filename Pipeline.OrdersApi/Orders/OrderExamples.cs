using System.Text.Json.Nodes;

namespace Pipeline.OrdersApi.Orders;

/// <summary>The examples of the OpenAPI document; a test sends the requests among them.</summary>
internal static class OrderExamples
{
    public static JsonNode NewOrder => JsonNode.Parse("""
        {
          "order_id": "order-1",
          "customer": { "customer_id": "customer-1", "name": "Ana Souza", "email": "ana@example.com", "document": "123.456.789-09", "city": "Recife", "state": "PE" },
          "currency": "BRL",
          "items": [{ "product_id": "p-1", "seller_id": "s-1", "quantity": 2, "unit_price": 19.99, "freight": 7.1 }],
          "payments": [{ "method": "pix", "installments": 1, "amount": 47.08 }]
        }
        """)!;

    public static JsonNode Order => JsonNode.Parse("""
        {
          "order_id": "order-1",
          "merchant_id": "m-1",
          "customer_id": "customer-1",
          "customer": { "customer_id": "customer-1", "name": "Ana Souza", "email": "ana@example.com", "document": "123.456.789-09", "city": "Recife", "state": "PE" },
          "status": "created",
          "currency": "BRL",
          "items": [{ "line": 1, "product_id": "p-1", "seller_id": "s-1", "quantity": 2, "unit_price": 19.99, "freight": 7.1 }],
          "payments": [{ "sequence": 1, "method": "pix", "installments": 1, "amount": 47.08 }],
          "total_amount": 47.08,
          "created_at": "2026-05-04T12:30:15.123Z",
          "updated_at": "2026-05-04T12:30:15.123Z",
          "version": 1,
          "trace_parent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        }
        """)!;

    public static JsonNode Visibility => JsonNode.Parse(
        """{ "order_id": "order-1", "min_version": 2, "visible": true, "version": 2, "removed": false, "took_ms": 640, "waited_ms": 410 }""")!;

    public static JsonNode BatchResults => JsonNode.Parse("""
        {
          "created": 1,
          "refused": 1,
          "results": [
            { "index": 0, "status": 201, "order_id": "order-1", "version": 1 },
            { "index": 1, "status": 409, "order_id": "order-2", "problem": {
              "type": "urn:order-pipeline:problem:order-exists", "title": "An order with this order_id exists.", "status": 409,
              "detail": "Nothing was written. GET the order to see whether it is yours.", "order_id": "order-2" } }
          ]
        }
        """)!;

    public static JsonNode CustomerPatch => JsonNode.Parse("""{ "customer": { "email": "ana.souza@example.com", "document": null } }""")!;

    public static JsonNode StatusChange => JsonNode.Parse("""{ "status": "approved" }""")!;

    public static JsonNode InvalidRequest => JsonNode.Parse("""
        {
          "type": "urn:order-pipeline:problem:invalid-request", "title": "The request is not valid.", "status": 400,
          "detail": "Nothing was written. Each entry of errors names one fault.",
          "errors": [{ "detail": "must be an amount of money from 0 to 9999999.99 with at most 2 decimals", "pointer": "#/items/0/unit_price" }]
        }
        """)!;
}
