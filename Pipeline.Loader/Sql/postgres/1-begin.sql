-- One load at a time. A second loader waits here; one that was stopped in the middle of a load and wakes up late
-- either still holds this lock, or has lost it together with its transaction. Readers of the ledger do not wait.

-- Longer than any load takes, so waiting this long means that the other loader hangs.
SET LOCAL lock_timeout = '60s';

-- A loader that hangs between two statements would hold the lock for ever.
SET LOCAL idle_in_transaction_session_timeout = '60s';

-- That timeout does not count inside a statement, and COPY FROM STDIN is one that waits for its client: when the
-- loader's host vanishes without closing the connection, TCP has to notice, by default after two hours. So it asks
-- after 30 s of silence and gives up 30 s later; the last one is for what was sent and is never acknowledged, which
-- keepalives do not look at. (Without effect on a Unix socket, where the kernel closes for a dead process.)
SET LOCAL tcp_keepalives_idle = 30;
SET LOCAL tcp_keepalives_interval = 10;
SET LOCAL tcp_keepalives_count = 3;
SET LOCAL tcp_user_timeout = '60s';

-- One loader with at most some hundred thousand rows in hand: sorts and hashes that stay in memory, and no compiling
-- of queries, which takes longer than running them.
SET LOCAL work_mem = '64MB';
SET LOCAL jit = off;

LOCK TABLE load_ledger IN SHARE ROW EXCLUSIVE MODE;

-- Keys, and only of what waits all of it (Pipeline.Loader/StagedKeys.cs). Lives as long as the session and is empty after
-- every transaction: a table of its own for each load would leave dead rows in the catalogue several times a second.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_changes (
    row_no          bigint NOT NULL,
    waits           boolean NOT NULL,
    order_id        text COLLATE "C" NOT NULL,
    version         bigint NOT NULL,
    sequence_number text COLLATE "C" NOT NULL,
    event_id        text,
    operation       text NOT NULL,
    changed_at      timestamptz,
    trace_parent    text,
    merchant_id     text,
    customer_id     text,
    status          text,
    currency        text,
    total_amount    numeric(18, 2),
    created_at      timestamptz,
    updated_at      timestamptz,
    document        json
) ON COMMIT DELETE ROWS;

CREATE TEMPORARY TABLE IF NOT EXISTS staged_winners (
    order_id        text COLLATE "C" NOT NULL,
    version         bigint NOT NULL,
    sequence_number text COLLATE "C" NOT NULL,
    last_removal    text COLLATE "C",
    row_no          bigint
) ON COMMIT DELETE ROWS;
