-- The newest change of each order that this load touches becomes its row in `orders`.
--
-- Which change wins (docs/decisions/0004-which-change-wins.md): a change after the order's last removal beats the
-- removal, which beats everything before it; among equals the greater (version, sequence_number).
--
-- As long as no removal arrives, comparing what is new with the row that is there is enough. A removal that arrives
-- late, between changes that are already there, can bring an older version of the next life to light, which only the
-- history still knows: for the orders that get a removal in this load, all of their history competes again.

INSERT INTO staged_winners (order_id, version, sequence_number, last_removal, row_no)
WITH touched AS (
    SELECT order_id, max(CASE WHEN operation = 'remove' THEN sequence_number END) AS new_removal
    FROM staged_changes
    GROUP BY order_id
),
present AS (
    SELECT
        t.order_id,
        t.new_removal,
        o.version,
        o.sequence_number,
        o.last_removal AS old_removal,
        CASE
            WHEN t.new_removal IS NULL OR o.last_removal > t.new_removal THEN o.last_removal
            ELSE t.new_removal
        END AS last_removal
    FROM touched t
    LEFT JOIN orders o ON o.order_id = t.order_id
),
candidates AS (
    SELECT order_id, version, sequence_number, row_no
    FROM staged_changes
    UNION ALL
    SELECT order_id, version, sequence_number, CAST(NULL AS bigint)
    FROM present
    WHERE version IS NOT NULL
    UNION ALL
    SELECT c.order_id, c.version, c.sequence_number, CAST(NULL AS bigint)
    FROM present p
    JOIN order_changes c ON c.order_id = p.order_id
    WHERE p.new_removal IS NOT NULL
),
ranked AS (
    SELECT
        c.order_id, c.version, c.sequence_number, c.row_no,
        p.last_removal, p.old_removal,
        p.version AS old_version, p.sequence_number AS old_sequence_number,
        row_number() OVER (
            PARTITION BY c.order_id
            ORDER BY
                CASE
                    WHEN p.last_removal IS NULL OR c.sequence_number > p.last_removal THEN 2
                    WHEN c.sequence_number = p.last_removal THEN 1
                    ELSE 0
                END DESC,
                c.version DESC,
                c.sequence_number DESC,
                -- The same change, from the load and from the history into which it has just been put: its row in
                -- the staging table is the nearer one.
                CASE WHEN c.row_no IS NULL THEN 1 ELSE 0 END
        ) AS place
    FROM candidates c
    JOIN present p ON p.order_id = c.order_id
)
SELECT order_id, version, sequence_number, last_removal, row_no
FROM ranked
WHERE place = 1
  AND (
      old_version IS NULL
      OR old_version <> version
      OR old_sequence_number <> sequence_number
      OR coalesce(old_removal, '') <> coalesce(last_removal, '')
  );
