-- The history's key begins with the sequence number, which grows: new rows go to the end of the index, into pages that are
-- in memory, however long the history is, and what is above its end is known to be new. By the order id, as before, every
-- row of a load went to a page of its own. Whoever asks for an order has an index without an order, which is a page away.
-- (In Redshift there are no indexes.)
ALTER TABLE order_changes DROP CONSTRAINT IF EXISTS order_changes_key;
ALTER TABLE order_changes ADD CONSTRAINT order_changes_key PRIMARY KEY (sequence_number, order_id, version);
CREATE INDEX order_changes_order ON order_changes USING hash (order_id);

-- As for the history: whoever copies rows need not say when.
ALTER TABLE orders ALTER COLUMN loaded_at SET DEFAULT now();
