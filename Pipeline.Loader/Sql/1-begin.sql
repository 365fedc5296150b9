-- One load at a time. A second loader waits here; one that was stopped in the middle of a load and wakes up late
-- either still holds this lock, or has lost it together with its transaction. Readers of the ledger do not wait.
-- (Redshift: LOCK load_ledger, as the first statement, so that the snapshot is taken behind it.)

-- Longer than any load takes, so waiting this long means that the other loader hangs.
SET LOCAL lock_timeout = '60s';

-- A loader that dies without closing its connection would hold the lock until TCP notices.
SET LOCAL idle_in_transaction_session_timeout = '60s';

-- One loader with at most some hundred thousand rows in hand: sorts and hashes that stay in memory, and no compiling
-- of queries, which takes longer than running them.
SET LOCAL work_mem = '64MB';
SET LOCAL jit = off;

LOCK TABLE load_ledger IN SHARE ROW EXCLUSIVE MODE;

-- Lives as long as the session and is empty after every transaction: a table of its own for each load would leave
-- dead rows in the catalogue several times a second.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_changes (
    row_no          bigint NOT NULL,
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
    document        jsonb NOT NULL
) ON COMMIT DELETE ROWS;

CREATE TEMPORARY TABLE IF NOT EXISTS staged_winners (
    order_id        text COLLATE "C" NOT NULL,
    version         bigint NOT NULL,
    sequence_number text COLLATE "C" NOT NULL,
    last_removal    text COLLATE "C",
    row_no          bigint
) ON COMMIT DELETE ROWS;
