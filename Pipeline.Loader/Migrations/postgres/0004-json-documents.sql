-- The document as the table has it, character for character, so that a digest over it can be computed here and over
-- the table alike (Pipeline.Core/OrderDigest.cs): jsonb writes keys, numbers and white space in a form of its own.
-- Rows that are here already keep jsonb's form; `Pipeline.Ops reconcile` names them as different documents, and
-- --repair or a rebuild mends them (docs/reconcile.md).

DROP VIEW order_history;
DROP VIEW order_lines;
DROP VIEW order_payments;

ALTER TABLE order_changes ALTER COLUMN document TYPE json;
ALTER TABLE orders ALTER COLUMN document TYPE json;
ALTER TABLE IF EXISTS waiting_changes ALTER COLUMN document TYPE json;

-- order_history: every version of an order with the time in which it held (SCD2).
--
-- Versions are put in the order in which they held, not in that of their times: by life (a removal ends one), then
-- by version, then by sequence number, the removal last in its life. The times are then made to follow that order:
-- a version begins when it was written, but never before the one that it replaced. So intervals neither overlap nor
-- leave a hole although the clocks of writers differ and ApproximateCreationDateTime is cut to seconds (on AWS) or
-- minutes (DynamoDB Local). A removal's image still has the updated_at of what it removed, so a removal begins at
-- its changed_at.
--
-- A snapshot (an image read from the table by a backfill or a repair) is the same write as the change of the stream
-- that has the same version and document, in whatever life that one is: it is shown only where the stream's is
-- missing, or ranks below it because the snapshot mended the warehouse.
CREATE VIEW order_history AS
WITH shown AS (
    SELECT c.*
    FROM order_changes c
    WHERE c.operation <> 'snapshot'
       OR NOT EXISTS (
            SELECT 1
            FROM order_changes d
            WHERE d.order_id = c.order_id
              AND d.version = c.version
              AND d.sequence_number > c.sequence_number
              AND d.operation <> 'remove'
              AND d.document::text = c.document::text)
),
lives AS (
    SELECT
        c.*,
        c.operation = 'remove' AS is_deleted,
        coalesce(sum(CASE WHEN c.operation = 'remove' THEN 1 ELSE 0 END) OVER (
            PARTITION BY c.order_id ORDER BY c.sequence_number
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS life
    FROM shown c
),
held AS (
    SELECT
        l.*,
        row_number() OVER held AS ordinal,
        max(CASE WHEN l.is_deleted THEN l.changed_at ELSE coalesce(l.updated_at, l.changed_at) END) OVER (
            PARTITION BY l.order_id ORDER BY l.life, l.is_deleted, l.version, l.sequence_number
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS valid_from
    FROM lives l
    WINDOW held AS (PARTITION BY l.order_id ORDER BY l.life, l.is_deleted, l.version, l.sequence_number)
)
SELECT
    h.order_id, h.life, h.version, h.sequence_number, h.operation,
    h.valid_from,
    lead(h.valid_from) OVER (PARTITION BY h.order_id ORDER BY h.ordinal) AS valid_to,
    lead(h.ordinal) OVER (PARTITION BY h.order_id ORDER BY h.ordinal) IS NULL AS is_current,
    h.is_deleted,
    h.merchant_id, h.customer_id, h.status, h.currency, h.total_amount,
    h.created_at, h.updated_at, h.changed_at, h.event_id, h.trace_parent, h.document, h.loaded_at
FROM held h;

-- order_lines, order_payments: one row a line, a payment, of the orders that are not removed. Items written by
-- something other than the Orders API may have any shape: an attribute that is no list gives no rows, an element
-- that is no map is left out, a member of another type is null. So the views never fail.
CREATE VIEW order_lines AS
SELECT
    o.order_id,
    coalesce(CASE WHEN json_typeof(i.item -> 'line') = 'number' THEN (i.item ->> 'line')::numeric END, i.position) AS line,
    CASE WHEN json_typeof(i.item -> 'product_id') = 'string' THEN i.item ->> 'product_id' END AS product_id,
    CASE WHEN json_typeof(i.item -> 'seller_id') = 'string' THEN i.item ->> 'seller_id' END AS seller_id,
    CASE WHEN json_typeof(i.item -> 'quantity') = 'number' THEN (i.item ->> 'quantity')::numeric END AS quantity,
    CASE WHEN json_typeof(i.item -> 'unit_price') = 'number' THEN (i.item ->> 'unit_price')::numeric END AS unit_price,
    CASE WHEN json_typeof(i.item -> 'freight') = 'number' THEN (i.item ->> 'freight')::numeric END AS freight
FROM orders o
CROSS JOIN LATERAL json_array_elements(
    CASE WHEN json_typeof(o.document -> 'items') = 'array' THEN o.document -> 'items' ELSE '[]'::json END
) WITH ORDINALITY AS i (item, position)
WHERE NOT o.is_deleted AND json_typeof(i.item) = 'object';

CREATE VIEW order_payments AS
SELECT
    o.order_id,
    coalesce(CASE WHEN json_typeof(p.payment -> 'sequence') = 'number' THEN (p.payment ->> 'sequence')::numeric END, p.position) AS sequence,
    CASE WHEN json_typeof(p.payment -> 'method') = 'string' THEN p.payment ->> 'method' END AS method,
    CASE WHEN json_typeof(p.payment -> 'installments') = 'number' THEN (p.payment ->> 'installments')::numeric END AS installments,
    CASE WHEN json_typeof(p.payment -> 'amount') = 'number' THEN (p.payment ->> 'amount')::numeric END AS amount
FROM orders o
CROSS JOIN LATERAL json_array_elements(
    CASE WHEN json_typeof(o.document -> 'payments') = 'array' THEN o.document -> 'payments' ELSE '[]'::json END
) WITH ORDINALITY AS p (payment, position)
WHERE NOT o.is_deleted AND json_typeof(p.payment) = 'object';
