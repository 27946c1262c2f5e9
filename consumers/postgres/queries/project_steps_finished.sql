-- steps: what StepFinished says, of several the last. $1 is a list of FinishedStep in JSON.
INSERT INTO steps (run, id, finished_at, status, expert, agent, source, tools, output, error)
SELECT DISTINCT ON (run, id) run, id, at, status, expert, agent, source, tools, output, error
FROM json_to_recordset($1::json) AS said (
    run text, id text, at timestamptz, status text, expert text, agent text, source text, tools text[], output text,
    error jsonb
)
ORDER BY run, id, at DESC
ON CONFLICT (run, id) DO UPDATE SET
    (finished_at, status, expert, agent, source, tools, output, error)
    = (excluded.finished_at, excluded.status, excluded.expert, excluded.agent, excluded.source, excluded.tools,
       excluded.output, excluded.error)
WHERE steps.finished_at IS NULL OR steps.finished_at < excluded.finished_at
