-- The planner knows nothing of a temporary table before it is analyzed, and would join a large load row by row.
ANALYZE staged_changes (row_no, waits, order_id, version, sequence_number, operation);
