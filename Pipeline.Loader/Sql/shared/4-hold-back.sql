-- What has to wait for a parked change of its order: new, or it would have been dropped before, but it may wait already.
INSERT INTO waiting_changes (
    order_id, version, sequence_number, event_id, operation, changed_at, trace_parent,
    merchant_id, customer_id, status, currency, total_amount, created_at, updated_at, document
)
SELECT
    s.order_id, s.version, s.sequence_number, s.event_id, s.operation, s.changed_at, s.trace_parent,
    s.merchant_id, s.customer_id, s.status, s.currency, s.total_amount, s.created_at, s.updated_at, s.document
FROM staged_changes s
WHERE s.waits
  AND NOT EXISTS (
      SELECT 1 FROM waiting_changes w
      WHERE w.order_id = s.order_id AND w.version = s.version AND w.sequence_number = s.sequence_number
  );

DELETE FROM staged_changes WHERE waits;
