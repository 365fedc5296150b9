-- Of the parked changes, those that are loaded. A record that could not be decoded has no version (-1) and is told by
-- order and sequence number; snapshots share their sequence number and are told by the version, too.
SELECT DISTINCT p.place
FROM unnest(@orders, @sequences, @versions) WITH ORDINALITY AS p (order_id, sequence_number, version, place)
JOIN order_changes c ON c.order_id = p.order_id AND c.sequence_number = p.sequence_number AND p.version IN (c.version, -1)
ORDER BY p.place
