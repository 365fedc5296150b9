-- The planner knows nothing of a temporary table before it is analyzed.
ANALYZE staged_changes (order_id, version, sequence_number, operation);
