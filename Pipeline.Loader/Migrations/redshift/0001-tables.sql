-- The warehouse in Redshift: what every column means, and what differs from PostgreSQL, is in docs/warehouse.md.
--
-- No keys are declared: Redshift enforces none, and yet plans its queries as if they held. Text is VARCHAR with its
-- length in bytes (TEXT would be 256 of them); 2,048 is what DynamoDB allows for a key, 65,535 the longest there is.
-- What is longer is refused before it is sent here (Pipeline.Loader/RedshiftWarehouse.cs). Text is ordered by its bytes.

CREATE TABLE order_changes (
    order_id        varchar(2048) NOT NULL,
    version         bigint NOT NULL,
    sequence_number varchar(64) NOT NULL,
    event_id        varchar(2048) NOT NULL,
    operation       varchar(16) NOT NULL,
    changed_at      timestamptz NOT NULL,
    trace_parent    varchar(2048),
    merchant_id     varchar(2048),
    customer_id     varchar(2048),
    status          varchar(16),
    currency        varchar(2048),
    total_amount    numeric(18, 2),
    created_at      timestamptz,
    updated_at      timestamptz,
    document        varchar(65535) NOT NULL,
    loaded_at       timestamptz NOT NULL DEFAULT sysdate
) DISTKEY (order_id) SORTKEY (order_id);

CREATE TABLE orders (
    order_id        varchar(2048) NOT NULL,
    version         bigint NOT NULL,
    sequence_number varchar(64) NOT NULL,
    is_deleted      boolean NOT NULL,
    merchant_id     varchar(2048),
    customer_id     varchar(2048),
    status          varchar(16),
    currency        varchar(2048),
    total_amount    numeric(18, 2),
    created_at      timestamptz,
    updated_at      timestamptz,
    changed_at      timestamptz NOT NULL,
    trace_parent    varchar(2048),
    -- The text of the document, for a digest over it; and the document, for queries.
    document        varchar(65535) NOT NULL,
    item            super,
    last_removal    varchar(64),
    loaded_at       timestamptz NOT NULL DEFAULT sysdate
) DISTKEY (order_id) SORTKEY (order_id);

CREATE TABLE waiting_changes (
    order_id        varchar(2048) NOT NULL,
    version         bigint NOT NULL,
    sequence_number varchar(64) NOT NULL,
    event_id        varchar(2048) NOT NULL,
    operation       varchar(16) NOT NULL,
    changed_at      timestamptz NOT NULL,
    trace_parent    varchar(2048),
    merchant_id     varchar(2048),
    customer_id     varchar(2048),
    status          varchar(16),
    currency        varchar(2048),
    total_amount    numeric(18, 2),
    created_at      timestamptz,
    updated_at      timestamptz,
    document        varchar(65535) NOT NULL,
    waiting_since   timestamptz NOT NULL DEFAULT sysdate
) DISTKEY (order_id) SORTKEY (order_id);

-- Keys of S3 have at most 1,024 bytes.
CREATE TABLE load_ledger (
    object_key varchar(1024) NOT NULL,
    etag       varchar(256) NOT NULL,
    rows       bigint NOT NULL,
    bytes      bigint NOT NULL,
    loaded_at  timestamptz NOT NULL DEFAULT sysdate
) DISTSTYLE EVEN SORTKEY (object_key);

CREATE TABLE load_failures (
    object_key varchar(1024) NOT NULL,
    etag       varchar(256) NOT NULL,
    reason     varchar(4000) NOT NULL,
    attempts   integer NOT NULL,
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL
) DISTSTYLE EVEN;

-- Who has locked it is in a load (Pipeline.Loader/Sql/redshift/1-begin.sql). It has one row (0003-load-lock.sql).
CREATE TABLE load_lock (
    locked boolean
) DISTSTYLE EVEN;
