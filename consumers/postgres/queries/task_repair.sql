-- tasks: those that somebody took more than $2 seconds ago and did not publish, by the holder of fence $1 of the lock
-- (leases). They are taken again as the same attempt, that is as the same run; what others call running, anew.
WITH held AS MATERIALIZED (
    SELECT FROM leases WHERE resource = 'tasks' AND fence = $1 AND ends > clock_timestamp() FOR UPDATE
), repaired AS (
    UPDATE tasks
    SET status = CASE WHEN assignee = '' THEN 'pending' ELSE 'assigned' END,
        attempt = CASE WHEN claimed_at IS NULL THEN attempt ELSE attempt - 1 END
    WHERE status = 'running' AND published_at IS NULL
        AND (claimed_at IS NULL OR claimed_at < clock_timestamp() - $2::float8 * interval '1 second')
        AND EXISTS (SELECT FROM held)
    RETURNING 1
)
SELECT count(*) FROM repaired
