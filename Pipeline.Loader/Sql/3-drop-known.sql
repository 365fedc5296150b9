-- Files overlap and come twice: what is left in the staging table after this is new, each change once.

-- The planner knows nothing of a temporary table before it is analyzed, and would join a large load row by row.
ANALYZE staged_changes (row_no, waits, order_id, version, sequence_number, operation);

-- What is loaded now, or is known below to be loaded already, waits no longer.
DELETE FROM waiting_changes w
USING staged_changes s
WHERE NOT s.waits
  AND s.order_id = w.order_id
  AND s.version = w.version
  AND s.sequence_number = w.sequence_number;

-- Duplicates within the load. They are rare, so the keys are counted and only what is double is touched, instead of
-- sorting all rows with their documents.
DELETE FROM staged_changes s
USING (
    SELECT order_id, version, sequence_number, min(row_no) AS kept
    FROM staged_changes
    GROUP BY order_id, version, sequence_number
    HAVING count(*) > 1
) d
WHERE s.order_id = d.order_id
  AND s.version = d.version
  AND s.sequence_number = d.sequence_number
  AND s.row_no <> d.kept;

-- What an earlier load brought.
DELETE FROM staged_changes s
USING order_changes c
WHERE s.order_id = c.order_id
  AND s.version = c.version
  AND s.sequence_number = c.sequence_number;
