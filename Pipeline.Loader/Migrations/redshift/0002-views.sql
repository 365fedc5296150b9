-- The same rows as the views in PostgreSQL (Migrations/postgres), where their rules are explained. Written without what
-- Redshift lacks: named windows, correlated subqueries with an inequality, functions that return sets.

CREATE VIEW order_history AS
WITH matched AS (
    SELECT
        c.*,
        max(CASE WHEN c.operation <> 'remove' THEN c.sequence_number END) OVER (
            PARTITION BY c.order_id, c.version, md5(c.document)) AS last_of_the_same
    FROM order_changes c
),
lives AS (
    SELECT
        m.*,
        m.operation = 'remove' AS is_deleted,
        coalesce(sum(CASE WHEN m.operation = 'remove' THEN 1 ELSE 0 END) OVER (
            PARTITION BY m.order_id ORDER BY m.sequence_number
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS life
    FROM matched m
    WHERE m.operation <> 'snapshot' OR m.last_of_the_same = m.sequence_number
),
held AS (
    SELECT
        l.*,
        row_number() OVER (
            PARTITION BY l.order_id ORDER BY l.life, l.is_deleted, l.version, l.sequence_number) AS ordinal,
        max(CASE WHEN l.is_deleted THEN l.changed_at ELSE coalesce(l.updated_at, l.changed_at) END) OVER (
            PARTITION BY l.order_id ORDER BY l.life, l.is_deleted, l.version, l.sequence_number
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS valid_from
    FROM lives l
)
SELECT
    h.order_id, h.life, h.version, h.sequence_number, h.operation,
    h.valid_from,
    lead(h.valid_from) OVER (PARTITION BY h.order_id ORDER BY h.ordinal) AS valid_to,
    lead(h.ordinal) OVER (PARTITION BY h.order_id ORDER BY h.ordinal) IS NULL AS is_current,
    h.is_deleted,
    h.merchant_id, h.customer_id, h.status, h.currency, h.total_amount,
    h.created_at, h.updated_at, h.changed_at, h.event_id, h.trace_parent, h.document, h.loaded_at
FROM held h;

-- PartiQL ("Querying semi-structured data" in the developer guide): a list is a table, and its positions count from 0.
CREATE VIEW order_lines AS
SELECT
    o.order_id,
    coalesce(CASE WHEN json_typeof(i.line) = 'number' THEN CAST(i.line AS numeric(38, 0)) END, place + 1) AS line,
    CASE WHEN json_typeof(i.product_id) = 'string' THEN CAST(i.product_id AS varchar(65535)) END AS product_id,
    CASE WHEN json_typeof(i.seller_id) = 'string' THEN CAST(i.seller_id AS varchar(65535)) END AS seller_id,
    CASE WHEN json_typeof(i.quantity) = 'number' THEN CAST(i.quantity AS numeric(38, 6)) END AS quantity,
    CASE WHEN json_typeof(i.unit_price) = 'number' THEN CAST(i.unit_price AS numeric(38, 6)) END AS unit_price,
    CASE WHEN json_typeof(i.freight) = 'number' THEN CAST(i.freight AS numeric(38, 6)) END AS freight
FROM orders o, o.item.items AS i AT place
WHERE NOT o.is_deleted AND json_typeof(o.item.items) = 'array' AND json_typeof(i) = 'object';

CREATE VIEW order_payments AS
SELECT
    o.order_id,
    coalesce(CASE WHEN json_typeof(p.sequence) = 'number' THEN CAST(p.sequence AS numeric(38, 0)) END, place + 1) AS sequence,
    CASE WHEN json_typeof(p.method) = 'string' THEN CAST(p.method AS varchar(65535)) END AS method,
    CASE WHEN json_typeof(p.installments) = 'number' THEN CAST(p.installments AS numeric(38, 6)) END AS installments,
    CASE WHEN json_typeof(p.amount) = 'number' THEN CAST(p.amount AS numeric(38, 6)) END AS amount
FROM orders o, o.item.payments AS p AT place
WHERE NOT o.is_deleted AND json_typeof(o.item.payments) = 'array' AND json_typeof(p) = 'object';
