-- The files of this load, but for those that another loader was quicker with: their changes were all known above.
INSERT INTO load_ledger (object_key, etag, rows, bytes, loaded_at)
SELECT f.object_key, f.etag, f.rows, f.bytes, now()
FROM unnest(@keys, @etags, @rows, @bytes) AS f (object_key, etag, rows, bytes)
WHERE NOT EXISTS (SELECT 1 FROM load_ledger l WHERE l.object_key = f.object_key AND l.etag = f.etag);

-- What was noted as failing no longer is.
DELETE FROM load_failures WHERE object_key = ANY (@keys);
