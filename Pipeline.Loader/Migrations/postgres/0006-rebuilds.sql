-- A rebuild fills an empty warehouse from the change files (docs/reconcile.md). One that was interrupted is told by its
-- row without an end: it may go on, although the warehouse is not empty any more.
CREATE TABLE rebuilds (
    started_at  timestamptz NOT NULL,
    finished_at timestamptz
);
