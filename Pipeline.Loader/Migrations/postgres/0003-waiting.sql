-- Changes that wait behind a parked one of their order (docs/decisions/0007-later-changes-wait.md): in neither `orders`
-- nor `order_changes`, and written in the transaction that puts their file into the ledger. The document is json and not
-- jsonb, which would change its text before it is loaded.
CREATE TABLE waiting_changes (
    order_id        text COLLATE "C" NOT NULL,
    version         bigint NOT NULL,
    sequence_number text COLLATE "C" NOT NULL,
    event_id        text NOT NULL,
    operation       text NOT NULL,
    changed_at      timestamptz NOT NULL,
    trace_parent    text,
    merchant_id     text,
    customer_id     text,
    status          text,
    currency        text,
    total_amount    numeric(18, 2),
    created_at      timestamptz,
    updated_at      timestamptz,
    document        json NOT NULL,
    waiting_since   timestamptz NOT NULL,
    CONSTRAINT waiting_changes_key PRIMARY KEY (order_id, version, sequence_number)
);
