-- tasks: what other programs and older versions call things, as it is called here; $2 at most, by the holder of fence $1
-- of the lock (leases). What was under way elsewhere is to be done anew; what nobody can tell ends as failed.
WITH held AS MATERIALIZED (
    SELECT FROM leases WHERE resource = 'tasks' AND fence = $1 AND ends > clock_timestamp() FOR UPDATE
), statuses (said, meant) AS (
    VALUES ('', 'pending'), ('new', 'pending'), ('open', 'pending'), ('todo', 'pending'), ('to_do', 'pending'),
        ('created', 'pending'), ('queued', 'pending'), ('waiting', 'pending'), ('ready', 'pending'),
        ('scheduled', 'pending'), ('backlog', 'pending'), ('retry', 'pending'), ('blocked', 'pending'),
        ('in_progress', 'pending'), ('started', 'pending'), ('processing', 'pending'), ('working', 'pending'),
        ('active', 'pending'), ('review', 'pending'), ('assigned', 'pending'), ('pending', 'pending'),
        ('running', 'pending'),
        ('done', 'completed'), ('complete', 'completed'), ('completed', 'completed'), ('finished', 'completed'),
        ('success', 'completed'), ('succeeded', 'completed'), ('ok', 'completed'), ('closed', 'completed'),
        ('resolved', 'completed'),
        ('failed', 'failed'), ('failure', 'failed'), ('error', 'failed'), ('errored', 'failed'), ('dead', 'failed'),
        ('timeout', 'failed'), ('timed_out', 'failed'),
        ('cancelled', 'cancelled'), ('canceled', 'cancelled'), ('aborted', 'cancelled'), ('rejected', 'cancelled'),
        ('skipped', 'cancelled'), ('deleted', 'cancelled')
), priorities (said, meant) AS (
    VALUES ('critical', 'critical'), ('urgent', 'critical'), ('blocker', 'critical'), ('highest', 'critical'),
        ('p0', 'critical'), ('high', 'high'), ('major', 'high'), ('important', 'high'), ('p1', 'high'), ('low', 'low'),
        ('minor', 'low'), ('lowest', 'low'), ('trivial', 'low'), ('background', 'low'), ('p3', 'low'), ('p4', 'low')
), foreign_ones AS (
    SELECT
        tasks.id,
        CASE
            WHEN tasks.status IN ('pending', 'assigned', 'running', 'completed', 'failed', 'cancelled') THEN tasks.status
            ELSE coalesce(statuses.meant, 'failed')
        END AS status,
        coalesce(priorities.meant, 'normal') AS priority,
        CASE WHEN statuses.meant IS NULL THEN jsonb_build_object(
            'code', 'task.status', 'message', format('Nobody knows the status %L.', left(tasks.status, 80)),
            'hint', 'victoria tasks retry ' || tasks.id
        ) END AS error
    FROM tasks
    LEFT JOIN statuses ON statuses.said = translate(lower(btrim(tasks.status)), '- ', '__')
    LEFT JOIN priorities ON priorities.said = lower(btrim(tasks.priority))
    WHERE tasks.status NOT IN ('pending', 'assigned', 'running', 'completed', 'failed', 'cancelled')
        OR tasks.priority NOT IN ('critical', 'high', 'normal', 'low')
    LIMIT $2
), migrated AS (
    UPDATE tasks
    SET status = it.status, priority = it.priority, rank = NULL, error = coalesce(tasks.error, it.error),
        finished_at = CASE
            WHEN it.status IN ('completed', 'failed', 'cancelled') THEN coalesce(tasks.finished_at, now())
        END
    FROM foreign_ones AS it
    WHERE tasks.id = it.id AND EXISTS (SELECT FROM held)
    RETURNING 1
)
SELECT count(*) FROM migrated
