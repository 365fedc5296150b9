-- For a question outside of a load; goes with its transaction.
CREATE TEMP TABLE staged_parked (
    place           bigint NOT NULL,
    order_id        varchar(2048) NOT NULL,
    sequence_number varchar(64) NOT NULL,
    version         bigint NOT NULL
) DISTKEY (order_id);
