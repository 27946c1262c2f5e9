-- steps: what PlanProposed says of each, its last revision. $1 is a list of PlannedStep in JSON.
INSERT INTO steps (run, id, revision, title, wanted_expert)
SELECT DISTINCT ON (run, id) run, id, revision, title, expert
FROM json_to_recordset($1::json) AS said (run text, id text, revision int, title text, expert text)
ORDER BY run, id, revision DESC
ON CONFLICT (run, id) DO UPDATE SET
    (revision, title, wanted_expert) = (excluded.revision, excluded.title, excluded.wanted_expert)
WHERE steps.revision IS NULL OR steps.revision < excluded.revision
