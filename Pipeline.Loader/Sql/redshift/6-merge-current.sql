-- Every winner is better than what it replaces, so the old row goes and the new one comes. MERGE would do the same with
-- one more copy: in Redshift it is an UPDATE and an INSERT through a temporary table, and takes neither a query as its
-- source nor a condition ("MERGE" in the developer guide). Readers see the state before or after the transaction.
DELETE FROM orders
USING staged_winners w
WHERE orders.order_id = w.order_id;

-- A document that JSON_PARSE does not take (a number out of its range) stays readable as text.
INSERT INTO orders (
    order_id, version, sequence_number, is_deleted, merchant_id, customer_id, status, currency, total_amount,
    created_at, updated_at, changed_at, trace_parent, document, item, last_removal
)
SELECT
    n.order_id, n.version, n.sequence_number, n.operation = 'remove', n.merchant_id, n.customer_id, n.status, n.currency, n.total_amount,
    n.created_at, n.updated_at, n.changed_at, n.trace_parent, n.document,
    CASE WHEN can_json_parse(n.document) THEN json_parse(n.document) END,
    n.last_removal
FROM (
    SELECT
        s.order_id, s.version, s.sequence_number, s.operation, s.changed_at, s.trace_parent, s.merchant_id,
        s.customer_id, s.status, s.currency, s.total_amount, s.created_at, s.updated_at, s.document, w.last_removal
    FROM staged_winners w
    JOIN staged_changes s ON s.row_no = w.row_no
    UNION ALL
    SELECT
        c.order_id, c.version, c.sequence_number, c.operation, c.changed_at, c.trace_parent, c.merchant_id,
        c.customer_id, c.status, c.currency, c.total_amount, c.created_at, c.updated_at, c.document, w.last_removal
    FROM staged_winners w
    JOIN order_changes c ON c.order_id = w.order_id AND c.version = w.version AND c.sequence_number = w.sequence_number
    WHERE w.row_no IS NULL
) n;
