-- One load at a time, as in PostgreSQL. LOCK always takes the strongest lock, which readers wait for, so it is taken on
-- a table that nobody reads. It comes first: the snapshot that a transaction works on is taken by its first SELECT, DML
-- or DDL statement ("Isolation levels in Amazon Redshift"), and must not be older than what the loader before committed.
--
-- Should it be older all the same, nothing else would tell: databases have SNAPSHOT isolation today, where two
-- transactions that insert do not conflict, and keys are not enforced. But two that update the same row do, whatever the
-- isolation level: with an old snapshot this UPDATE fails, and the load is tried again.

-- Longer than any load takes: waiting this long means that the other loader hangs. (Milliseconds.)
SET LOCAL statement_timeout TO 60000;

LOCK load_lock;

UPDATE load_lock SET locked = true;

-- A statement that takes longer than the function may (Pipeline.Cdk/WarehouseLoader.cs) has nobody waiting for it, and the lock.
SET LOCAL statement_timeout TO 110000;

-- These tables are dropped with the end of the load (8-drop.sql), or vanish with its transaction: Redshift knows no
-- ON COMMIT DELETE ROWS, and TRUNCATE would commit.

-- What COPY reads (Pipeline.Loader/StagingFile.cs): times and amounts as text, because COPY from Parquet reads through
-- Redshift Spectrum, which takes some encodings of timestamps for others (github.com/dask/fastparquet/issues/432).
CREATE TEMP TABLE staged_file (
    row_no          bigint NOT NULL,
    waits           boolean NOT NULL,
    order_id        varchar(2048) NOT NULL,
    version         bigint NOT NULL,
    sequence_number varchar(64) NOT NULL,
    event_id        varchar(2048) NOT NULL,
    operation       varchar(16) NOT NULL,
    changed_at      varchar(32) NOT NULL,
    trace_parent    varchar(2048),
    merchant_id     varchar(2048),
    customer_id     varchar(2048),
    status          varchar(16),
    currency        varchar(2048),
    total_amount    varchar(32),
    created_at      varchar(32),
    updated_at      varchar(32),
    document        varchar(65535) NOT NULL
) DISTSTYLE EVEN;

CREATE TEMP TABLE staged_changes (
    row_no          bigint NOT NULL,
    waits           boolean NOT NULL,
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
    document        varchar(65535) NOT NULL
) DISTKEY (order_id);

CREATE TEMP TABLE staged_winners (
    order_id        varchar(2048) NOT NULL,
    version         bigint NOT NULL,
    sequence_number varchar(64) NOT NULL,
    last_removal    varchar(64),
    row_no          bigint
) DISTKEY (order_id);

CREATE TEMP TABLE staged_parked (
    place           bigint NOT NULL,
    order_id        varchar(2048) NOT NULL,
    sequence_number varchar(64) NOT NULL,
    version         bigint NOT NULL
) DISTKEY (order_id);

CREATE TEMP TABLE staged_ledger (
    object_key varchar(1024) NOT NULL,
    etag       varchar(256) NOT NULL,
    rows       bigint NOT NULL,
    bytes      bigint NOT NULL
) DISTSTYLE EVEN;
