-- The manifest names every file and says that it must be there: COPY with a mere prefix loads what it finds.
COPY staged_file
FROM '{manifest}'
IAM_ROLE '{role}'
FORMAT AS PARQUET
MANIFEST;

INSERT INTO staged_changes
SELECT
    row_no, waits, order_id, version, sequence_number, event_id, operation, CAST(changed_at AS timestamptz), trace_parent,
    merchant_id, customer_id, status, currency, CAST(total_amount AS numeric(18, 2)),
    CAST(created_at AS timestamptz), CAST(updated_at AS timestamptz), document
FROM staged_file;
