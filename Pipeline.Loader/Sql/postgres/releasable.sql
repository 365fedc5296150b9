-- The waiting changes that no parked one is before any more, but for those that are loaded. Times are text, because
-- the driver would read one at the edge of its range as infinity.
WITH parked AS (
    SELECT p.order_id, min(p.sequence_number) AS first_parked
    FROM unnest(@orders, @sequences, @versions) AS p (order_id, sequence_number, version)
    WHERE NOT EXISTS (
        SELECT 1 FROM order_changes c
        WHERE c.order_id = p.order_id AND c.sequence_number = p.sequence_number AND p.version IN (c.version, -1)
    )
    GROUP BY p.order_id
)
SELECT
    w.order_id, w.version, w.sequence_number, w.event_id, w.operation,
    to_char(w.changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
    w.trace_parent, w.merchant_id, w.customer_id, w.status, w.currency, w.total_amount::text,
    to_char(w.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
    to_char(w.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
    w.document::text
FROM waiting_changes w
LEFT JOIN parked p ON p.order_id = w.order_id
WHERE p.order_id IS NULL OR p.first_parked >= w.sequence_number
ORDER BY w.order_id, w.sequence_number, w.version
LIMIT @max
