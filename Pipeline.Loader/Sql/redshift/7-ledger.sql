-- The files of this load, but for those that another loader was quicker with: their changes were all known above.
INSERT INTO load_ledger (object_key, etag, rows, bytes)
SELECT f.object_key, f.etag, f.rows, f.bytes
FROM staged_ledger f
WHERE NOT EXISTS (SELECT 1 FROM load_ledger l WHERE l.object_key = f.object_key AND l.etag = f.etag);

-- What was noted as failing no longer is.
DELETE FROM load_failures
USING staged_ledger f
WHERE load_failures.object_key = f.object_key;
