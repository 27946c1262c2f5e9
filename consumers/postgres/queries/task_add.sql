-- tasks: new ones; $1 is a list of NewTask in JSON. Their ids; without those that are there already.
INSERT INTO tasks (id, project, goal, context, expert, capability, priority, attempts, created_by)
SELECT
    coalesce(nullif(id, ''), replace(gen_random_uuid()::text, '-', '')),
    project, goal, context, expert, capability, priority, attempts, created_by
FROM json_to_recordset($1::json) AS said (
    id text, project text, goal text, context text, expert text, capability text, priority text, attempts int,
    created_by text
)
ON CONFLICT DO NOTHING
RETURNING id
