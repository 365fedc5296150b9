COPY orders (
    order_id, version, sequence_number, is_deleted, merchant_id, customer_id, status, currency, total_amount,
    created_at, updated_at, changed_at, trace_parent, document, last_removal
) FROM STDIN (FORMAT BINARY)
