-- The warehouse: what every column means is in docs/warehouse.md.
--
-- Keys are a net here, not what the load relies on: Redshift declares keys and enforces none. Text that is
-- compared for order (order ids, sequence numbers) has the collation "C", so that it is ordered by its bytes
-- whatever the database's own collation, as it is in Redshift.

CREATE TABLE order_changes (
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
    document        jsonb NOT NULL,
    loaded_at       timestamptz NOT NULL,
    CONSTRAINT order_changes_key PRIMARY KEY (order_id, version, sequence_number)
);

CREATE TABLE orders (
    order_id        text COLLATE "C" NOT NULL,
    version         bigint NOT NULL,
    sequence_number text COLLATE "C" NOT NULL,
    is_deleted      boolean NOT NULL,
    merchant_id     text,
    customer_id     text,
    status          text,
    currency        text,
    total_amount    numeric(18, 2),
    created_at      timestamptz,
    updated_at      timestamptz,
    changed_at      timestamptz NOT NULL,
    trace_parent    text,
    document        jsonb NOT NULL,
    -- The greatest sequence number of the order's removals: it separates the order's present life from earlier
    -- ones, so that a load need not look into the history to know (docs/decisions/0004-which-change-wins.md).
    last_removal    text COLLATE "C",
    loaded_at       timestamptz NOT NULL,
    CONSTRAINT orders_key PRIMARY KEY (order_id)
);

CREATE TABLE load_ledger (
    object_key text COLLATE "C" NOT NULL,
    etag       text NOT NULL,
    rows       bigint NOT NULL,
    bytes      bigint NOT NULL,
    loaded_at  timestamptz NOT NULL,
    CONSTRAINT load_ledger_key PRIMARY KEY (object_key, etag)
);

-- Files that could not be read or loaded, while they cannot.
CREATE TABLE load_failures (
    object_key text COLLATE "C" NOT NULL,
    etag       text NOT NULL,
    reason     text NOT NULL,
    attempts   integer NOT NULL,
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    CONSTRAINT load_failures_key PRIMARY KEY (object_key)
);
