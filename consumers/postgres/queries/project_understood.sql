-- runs: what GoalUnderstood says, of several the first. $1 is a list of Understood in JSON.
INSERT INTO runs (id, understood_at, restated, category, kind)
SELECT DISTINCT ON (id) id, at, restated, category, kind
FROM json_to_recordset($1::json) AS said (id text, at timestamptz, restated text, category text, kind text)
ORDER BY id, at
ON CONFLICT (id) DO UPDATE SET
    (understood_at, restated, category, kind)
    = (excluded.understood_at, excluded.restated, excluded.category, excluded.kind)
WHERE runs.understood_at IS NULL OR runs.understood_at > excluded.understood_at
