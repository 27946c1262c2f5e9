-- tasks: how runs ended; $1 is a list of Ended in JSON, $2 the fence of the lock (leases), or null where none is needed.
-- What failed is to be tried again after a while, as often as the task says. How many were still open. Several may say the
-- same at once: rows are locked in their order.
WITH held AS MATERIALIZED (
    SELECT FROM leases WHERE resource = 'tasks' AND fence = $2 AND ends > clock_timestamp() FOR UPDATE
), said AS (
    SELECT DISTINCT ON (run) *
    FROM json_to_recordset($1::json) AS said (
        run text, status text, output text, error jsonb, knowledge jsonb, at timestamptz, again boolean
    )
    ORDER BY run
), waiting AS MATERIALIZED (
    SELECT id FROM tasks
    WHERE run IN (SELECT run FROM said) AND status = 'running' AND ($2::bigint IS NULL OR EXISTS (SELECT FROM held))
    ORDER BY id FOR UPDATE
), settled AS (
    UPDATE tasks
    SET status = CASE
            WHEN said.status <> 'failed' THEN said.status
            WHEN cancel_asked THEN 'cancelled'
            WHEN said.again AND attempt < attempts THEN 'assigned'
            ELSE 'failed'
        END,
        not_before = clock_timestamp() + least(300, 2 ^ least(attempt, 10)) * interval '1 second',
        finished_at = CASE WHEN said.status <> 'failed' OR cancel_asked OR NOT said.again OR attempt >= attempts
            THEN said.at END,
        output = said.output, error = said.error, knowledge = said.knowledge
    FROM said, waiting
    WHERE tasks.id = waiting.id AND tasks.run = said.run
    RETURNING 1
)
SELECT count(*) FROM settled
