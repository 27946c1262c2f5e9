-- runs: what PlanProposed says, its last revision. $1 is a list of Planned in JSON.
INSERT INTO runs (id, strategy, revision)
SELECT DISTINCT ON (id) id, strategy, revision
FROM json_to_recordset($1::json) AS said (id text, strategy text, revision int)
ORDER BY id, revision DESC
ON CONFLICT (id) DO UPDATE SET (strategy, revision) = (excluded.strategy, excluded.revision)
WHERE runs.revision IS NULL OR runs.revision < excluded.revision
