-- tasks: runs $1 are on their stream. Those of them that nobody wants any more. Rows are locked in their order.
WITH taken AS MATERIALIZED (
    SELECT id FROM tasks
    WHERE run = ANY($1::text[]) AND status = 'running' AND published_at IS NULL
    ORDER BY id FOR UPDATE
), published AS (
    UPDATE tasks SET published_at = clock_timestamp() FROM taken WHERE tasks.id = taken.id
)
SELECT run FROM unnest($1::text[]) AS said (run)
WHERE NOT EXISTS (
    SELECT FROM tasks WHERE tasks.run = said.run AND tasks.status IN ('running', 'completed', 'failed')
)
