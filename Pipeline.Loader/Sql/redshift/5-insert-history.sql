INSERT INTO order_changes (
    order_id, version, sequence_number, event_id, operation, changed_at, trace_parent,
    merchant_id, customer_id, status, currency, total_amount, created_at, updated_at, document
)
SELECT
    order_id, version, sequence_number, event_id, operation, changed_at, trace_parent,
    merchant_id, customer_id, status, currency, total_amount, created_at, updated_at, document
FROM staged_changes;
