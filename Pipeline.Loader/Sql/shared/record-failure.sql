-- Counts the tries of a file that fails; an overwritten file (another ETag) begins anew. Nothing here relies on the key
-- of the table: it is locked before, so one session at a time counts.
UPDATE load_failures
SET attempts = attempts + 1, reason = @reason, last_at = CAST(@at AS timestamptz)
WHERE object_key = @key AND etag = @etag;

DELETE FROM load_failures WHERE object_key = @key AND etag <> @etag;

INSERT INTO load_failures (object_key, etag, reason, attempts, first_at, last_at)
SELECT @key, @etag, @reason, 1, CAST(@at AS timestamptz), CAST(@at AS timestamptz)
WHERE NOT EXISTS (SELECT 1 FROM load_failures WHERE object_key = @key);
