-- Files overlap and come twice: what is left in the staging table after this is new, each change once.

-- What is loaded now, or is known below to be loaded already, waits no longer.
DELETE FROM waiting_changes
USING staged_changes s
WHERE NOT s.waits
  AND waiting_changes.order_id = s.order_id
  AND waiting_changes.version = s.version
  AND waiting_changes.sequence_number = s.sequence_number;

-- Duplicates within the load. They are rare, so the keys are counted and only what is double is touched, instead of
-- sorting all rows with their documents.
DELETE FROM staged_changes
WHERE row_no IN (
    SELECT s.row_no
    FROM staged_changes s
    JOIN (
        SELECT order_id, version, sequence_number, min(row_no) AS kept
        FROM staged_changes
        GROUP BY order_id, version, sequence_number
        HAVING count(*) > 1
    ) d ON s.order_id = d.order_id AND s.version = d.version AND s.sequence_number = d.sequence_number
    WHERE s.row_no <> d.kept
);

-- What an earlier load brought.
DELETE FROM staged_changes
USING order_changes c
WHERE staged_changes.order_id = c.order_id
  AND staged_changes.version = c.version
  AND staged_changes.sequence_number = c.sequence_number;
