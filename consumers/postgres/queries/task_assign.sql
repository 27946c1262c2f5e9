-- tasks: ids $2 to assignees $3, a list each, by the holder of fence $1 of the lock (leases).
WITH held AS MATERIALIZED (
    SELECT FROM leases WHERE resource = 'tasks' AND fence = $1 AND ends > clock_timestamp() FOR UPDATE
), assigned AS (
    UPDATE tasks SET status = 'assigned', assignee = it.assignee
    FROM unnest($2::text[], $3::text[]) AS it (id, assignee)
    WHERE tasks.id = it.id AND tasks.status = 'pending' AND EXISTS (SELECT FROM held)
    RETURNING 1
)
SELECT count(*) FROM assigned
