-- steps: when each was ready first. $1 is a list of StartedStep in JSON.
INSERT INTO steps (run, id, started_at)
SELECT run, id, min(at)
FROM json_to_recordset($1::json) AS said (run text, id text, at timestamptz)
GROUP BY run, id
ORDER BY run, id
ON CONFLICT (run, id) DO UPDATE SET started_at = excluded.started_at
WHERE steps.started_at IS NULL OR steps.started_at > excluded.started_at
