-- tasks: those that somebody took more than $2 seconds ago and did not publish, by the holder of fence $1 of the lock
-- (leases). They are taken again as the same attempt, that is as the same run; what others call running, anew. What was
-- taken more than $3 seconds ago may have been published, done and forgotten since: it counts as published.
WITH held AS MATERIALIZED (
    SELECT FROM leases WHERE resource = 'tasks' AND fence = $1 AND ends > clock_timestamp() FOR UPDATE
), stuck AS MATERIALIZED (
    SELECT id, coalesce(claimed_at < clock_timestamp() - $3::float8 * interval '1 second', false) AS forgotten
    FROM tasks
    WHERE status = 'running' AND published_at IS NULL
        AND (claimed_at IS NULL OR claimed_at < clock_timestamp() - $2::float8 * interval '1 second')
    ORDER BY id FOR UPDATE
), repaired AS (
    UPDATE tasks
    SET status = CASE WHEN forgotten THEN status WHEN assignee = '' THEN 'pending' ELSE 'assigned' END,
        attempt = CASE WHEN forgotten OR claimed_at IS NULL THEN attempt ELSE attempt - 1 END,
        published_at = CASE WHEN forgotten THEN claimed_at END
    FROM stuck
    WHERE tasks.id = stuck.id AND EXISTS (SELECT FROM held)
    RETURNING 1
)
SELECT count(*) FROM repaired
