-- Of the parked changes, those that are loaded: a record that could not be decoded has no version, so they are told by
-- order and sequence number.
SELECT DISTINCT p.place
FROM unnest(@orders, @sequences) WITH ORDINALITY AS p (order_id, sequence_number, place)
JOIN order_changes c ON c.order_id = p.order_id AND c.sequence_number = p.sequence_number
ORDER BY p.place
