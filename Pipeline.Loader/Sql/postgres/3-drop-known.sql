-- What is loaded now, or is known below to be loaded already, waits no longer.
DELETE FROM waiting_changes
USING staged_changes s
WHERE NOT s.waits
  AND waiting_changes.order_id = s.order_id
  AND waiting_changes.version = s.version
  AND waiting_changes.sequence_number = s.sequence_number;

-- What an earlier load brought. (Nothing is staged twice, see Pipeline.Loader/StagedKeys.cs.)
DELETE FROM staged_changes
USING order_changes c
WHERE staged_changes.sequence_number <= (SELECT max(sequence_number) FROM order_changes)
  AND staged_changes.order_id = c.order_id
  AND staged_changes.version = c.version
  AND staged_changes.sequence_number = c.sequence_number
RETURNING row_no;
