-- The waiting changes that no parked one is before any more, but for those that are loaded. Times are microseconds since
-- 1970: a time at the edge of its range would be read as infinity.
WITH parked AS (
    SELECT p.order_id, min(p.sequence_number) AS first_parked
    FROM unnest(@orders, @sequences) AS p (order_id, sequence_number)
    WHERE NOT EXISTS (SELECT 1 FROM order_changes c WHERE c.order_id = p.order_id AND c.sequence_number = p.sequence_number)
    GROUP BY p.order_id
)
SELECT
    w.order_id, w.version, w.sequence_number, w.event_id, w.operation,
    (extract(epoch FROM w.changed_at) * 1000000)::bigint,
    w.trace_parent, w.merchant_id, w.customer_id, w.status, w.currency, w.total_amount,
    (extract(epoch FROM w.created_at) * 1000000)::bigint,
    (extract(epoch FROM w.updated_at) * 1000000)::bigint,
    w.document::text
FROM waiting_changes w
LEFT JOIN parked p ON p.order_id = w.order_id
WHERE p.order_id IS NULL OR p.first_parked >= w.sequence_number
ORDER BY w.order_id, w.sequence_number, w.version
LIMIT @max
