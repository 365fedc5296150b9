-- The row that every load updates (Pipeline.Loader/Sql/redshift/1-begin.sql).
INSERT INTO load_lock (locked) VALUES (true);
