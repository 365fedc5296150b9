-- How many there are, so that the join below hashes these and not the changes with their documents.
ANALYZE staged_winners;

-- Every row of the source is better than what it replaces, so the merge itself needs no condition.
MERGE INTO orders o
USING (
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
) n
ON o.order_id = n.order_id
WHEN MATCHED THEN UPDATE SET
    version = n.version,
    sequence_number = n.sequence_number,
    is_deleted = n.operation = 'remove',
    merchant_id = n.merchant_id,
    customer_id = n.customer_id,
    status = n.status,
    currency = n.currency,
    total_amount = n.total_amount,
    created_at = n.created_at,
    updated_at = n.updated_at,
    changed_at = n.changed_at,
    trace_parent = n.trace_parent,
    document = n.document,
    last_removal = n.last_removal,
    loaded_at = now()
WHEN NOT MATCHED THEN INSERT (
    order_id, version, sequence_number, is_deleted, merchant_id, customer_id, status, currency, total_amount,
    created_at, updated_at, changed_at, trace_parent, document, last_removal, loaded_at
) VALUES (
    n.order_id, n.version, n.sequence_number, n.operation = 'remove', n.merchant_id, n.customer_id, n.status, n.currency, n.total_amount,
    n.created_at, n.updated_at, n.changed_at, n.trace_parent, n.document, n.last_removal, now()
);
