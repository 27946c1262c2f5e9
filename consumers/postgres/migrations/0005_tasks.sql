-- Work for the background: tasks, and the locks under which they are looked after.

-- Who holds a resource until when, by the database's clock. Each new holder has a higher fence, and writes only while the
-- row still has its own.
CREATE TABLE leases (
    resource text PRIMARY KEY,
    holder text NOT NULL,
    fence bigint NOT NULL,
    ends timestamptz NOT NULL
);

-- Any program may insert a goal: all else has a default. A task is `pending` until it has an assignee, `assigned` until a
-- worker takes it, `running` while its run is under way, and then `completed`, `failed` or `cancelled`. Other statuses and
-- priorities than these are translated (task_migrate.sql).
--
-- `expert` and `capability` are what is wanted, '' for whatever fits; `rank` says by when its turn comes, null to be
-- reckoned again. Attempt n is the run `<id>-<n>`, which is published once, however often that is tried.
CREATE TABLE tasks (
    id text PRIMARY KEY DEFAULT replace(gen_random_uuid()::text, '-', '') CHECK (id ~ '^[0-9A-Za-z_.-]{1,60}$'),
    project text NOT NULL DEFAULT '',
    goal text NOT NULL,
    context text NOT NULL DEFAULT '',
    expert text NOT NULL DEFAULT '',
    capability text NOT NULL DEFAULT '',
    priority text NOT NULL DEFAULT 'normal',
    status text NOT NULL DEFAULT 'pending',
    rank timestamptz,
    assignee text NOT NULL DEFAULT '',
    attempt int NOT NULL DEFAULT 0,
    attempts int NOT NULL DEFAULT 3,
    not_before timestamptz NOT NULL DEFAULT now(),
    run text NOT NULL DEFAULT '',
    worker text NOT NULL DEFAULT '',
    claimed_at timestamptz,
    published_at timestamptz,
    cancel_asked boolean NOT NULL DEFAULT false,
    output text NOT NULL DEFAULT '',
    error jsonb,
    knowledge jsonb,
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX tasks_by_time ON tasks (created_at, id);
CREATE INDEX tasks_by_status ON tasks (status, created_at, id);
CREATE INDEX tasks_unranked ON tasks (id) WHERE rank IS NULL;
CREATE INDEX tasks_pending ON tasks (rank, id) WHERE status = 'pending';
CREATE INDEX tasks_due ON tasks (rank, id) WHERE status = 'assigned';
CREATE INDEX tasks_running ON tasks (id) WHERE status = 'running';
CREATE INDEX tasks_by_run ON tasks (run) WHERE run <> '';
CREATE INDEX tasks_foreign ON tasks (id)
WHERE status NOT IN ('pending', 'assigned', 'running', 'completed', 'failed', 'cancelled')
    OR priority NOT IN ('critical', 'high', 'normal', 'low');

-- Gives the first `batch` tasks whose turn it is to a worker, as long as no more than `under_way` are running; how many.
-- A function, so that no worker that stops in between holds what others wait for: counting and taking is for one at a
-- time, and within one, each statement sees what those before it have done.
CREATE FUNCTION claim_tasks(claimer text, under_way int, batch int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    claimed int;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema || ' claims of tasks', 0));
    WITH due AS MATERIALIZED (
        SELECT id FROM tasks
        WHERE status = 'assigned' AND not_before <= clock_timestamp()
        ORDER BY rank, id
        LIMIT greatest(0, least(batch, under_way - (SELECT count(*) FROM tasks WHERE status = 'running')))
        FOR UPDATE SKIP LOCKED
    )
    UPDATE tasks
    SET status = 'running', attempt = attempt + 1, run = tasks.id || '-' || attempt + 1, worker = claimer,
        claimed_at = clock_timestamp(), published_at = NULL
    FROM due WHERE tasks.id = due.id;
    GET DIAGNOSTICS claimed = ROW_COUNT;
    RETURN claimed;
END
$$;

-- Tells those who listen in which status a task is now that waits for something, or that one has ended: `ended <id>`.
CREATE FUNCTION tell_of_task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(
        'tasks ' || md5(TG_TABLE_SCHEMA),
        CASE WHEN NEW.finished_at IS NULL THEN left(NEW.status, 20) ELSE 'ended ' || NEW.id END
    );
    RETURN NULL;
END
$$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE OF status ON tasks
FOR EACH ROW WHEN (NEW.status <> 'running') EXECUTE FUNCTION tell_of_task();
