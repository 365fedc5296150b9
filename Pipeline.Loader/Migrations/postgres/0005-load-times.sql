-- When a row is loaded the database says itself: what both dialects of SQL share in Pipeline.Loader/Sql need not name a
-- function for it, which is now() here and SYSDATE in Redshift.
ALTER TABLE order_changes ALTER COLUMN loaded_at SET DEFAULT now();
ALTER TABLE waiting_changes ALTER COLUMN waiting_since SET DEFAULT now();
