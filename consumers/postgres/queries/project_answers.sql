-- answers: the output of RunFinished, of several the first. $1 is a list of Finished in JSON.
INSERT INTO answers (run, at, status, method, output, trust, metadata)
SELECT DISTINCT ON (id) id, at, status, method, output, trust, metadata
FROM json_to_recordset($1::json) AS said (
    id text, at timestamptz, status text, method text, output text, trust text, metadata jsonb
)
ORDER BY id, at
ON CONFLICT (run) DO UPDATE SET
    (at, status, method, output, trust, metadata)
    = (excluded.at, excluded.status, excluded.method, excluded.output, excluded.trust, excluded.metadata)
WHERE answers.at > excluded.at
