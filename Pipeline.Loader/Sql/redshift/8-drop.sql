DROP TABLE staged_file;

DROP TABLE staged_changes;

DROP TABLE staged_winners;

DROP TABLE staged_parked;

DROP TABLE staged_ledger;
