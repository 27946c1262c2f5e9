-- tasks: by when the turns of those come that have no rank; $2 at most, by the holder of fence $1 of the lock (leases).
-- The oldest first, the more urgent with a head start: so each one's turn comes, and ranks need not be reckoned again.
WITH held AS MATERIALIZED (
    SELECT FROM leases WHERE resource = 'tasks' AND fence = $1 AND ends > clock_timestamp() FOR UPDATE
), unranked AS (
    SELECT id FROM tasks WHERE rank IS NULL LIMIT $2
), ranked AS (
    UPDATE tasks
    SET rank = created_at - CASE priority
        WHEN 'critical' THEN interval '24 hours'
        WHEN 'high' THEN interval '4 hours'
        WHEN 'normal' THEN interval '1 hour'
        ELSE interval '0'
    END
    FROM unranked
    WHERE tasks.id = unranked.id AND EXISTS (SELECT FROM held)
    RETURNING 1
)
SELECT count(*) FROM ranked
