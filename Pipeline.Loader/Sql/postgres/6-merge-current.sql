-- Every winner is better than what it replaces: the old row goes, and the new one comes. To PostgreSQL an update is the
-- same, a new row and the old one marked; and so new rows need not be staged with their documents. Readers see
-- the state before or after the transaction.
DELETE FROM orders
USING staged_winners w
WHERE orders.order_id = w.order_id;

-- Those that win out of the history; the others are copied (6-copy-current.sql).
INSERT INTO orders (
    order_id, version, sequence_number, is_deleted, merchant_id, customer_id, status, currency, total_amount,
    created_at, updated_at, changed_at, trace_parent, document, last_removal
)
SELECT
    c.order_id, c.version, c.sequence_number, c.operation = 'remove', c.merchant_id, c.customer_id, c.status, c.currency, c.total_amount,
    c.created_at, c.updated_at, c.changed_at, c.trace_parent, c.document, w.last_removal
FROM staged_winners w
JOIN order_changes c ON c.order_id = w.order_id AND c.version = w.version AND c.sequence_number = w.sequence_number
WHERE w.row_no IS NULL;
