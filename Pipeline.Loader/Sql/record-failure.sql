-- Counts the tries of a file that fails; an overwritten file (another ETag) begins anew. Nothing here relies on the key
-- of the table: one session at a time counts.
LOCK TABLE load_failures IN SHARE ROW EXCLUSIVE MODE;

UPDATE load_failures
SET attempts = attempts + 1, reason = @reason, last_at = @at
WHERE object_key = @key AND etag = @etag;

DELETE FROM load_failures WHERE object_key = @key AND etag <> @etag;

INSERT INTO load_failures (object_key, etag, reason, attempts, first_at, last_at)
SELECT @key, @etag, @reason, 1, @at, @at
WHERE NOT EXISTS (SELECT 1 FROM load_failures WHERE object_key = @key);

SELECT attempts FROM load_failures WHERE object_key = @key;
