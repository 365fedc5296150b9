-- Of the parked changes, those that are loaded: a record that could not be decoded has no version, so they are told by
-- order and sequence number.
SELECT DISTINCT p.place
FROM staged_parked p
JOIN order_changes c ON c.order_id = p.order_id AND c.sequence_number = p.sequence_number
ORDER BY p.place;
