-- runs: what RunFinished says, of several the first. $1 is a list of Finished in JSON.
INSERT INTO runs (id, finished_at, status, method, error)
SELECT DISTINCT ON (id) id, at, status, method, error
FROM json_to_recordset($1::json) AS said (id text, at timestamptz, status text, method text, error jsonb)
ORDER BY id, at
ON CONFLICT (id) DO UPDATE SET
    (finished_at, status, method, error) = (excluded.finished_at, excluded.status, excluded.method, excluded.error)
WHERE runs.finished_at IS NULL OR runs.finished_at > excluded.finished_at
