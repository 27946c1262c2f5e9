-- runs, answers, steps: the newest $6 runs of statuses $1 and projects $2, [] for any, that were submitted since $3 and come
-- after the one with id $5 that was submitted at $4.
SELECT
    runs.id, runs.status, runs.submitted_at, runs.goal, runs.project, coalesce(runs.strategy, '') AS strategy,
    coalesce(nullif(runs.wanted_expert, ''), first.expert, '') AS expert,
    (answers.metadata ->> 'seconds')::float8 AS seconds
FROM runs
LEFT JOIN answers ON answers.run = runs.id
LEFT JOIN LATERAL (
    SELECT coalesce(nullif(steps.expert, ''), steps.wanted_expert) AS expert FROM steps
    WHERE steps.run = runs.id ORDER BY steps.id LIMIT 1
) AS first ON true
WHERE runs.submitted_at >= $3 AND (runs.submitted_at, runs.id) < ($4, $5)
    AND (cardinality($1::text[]) = 0 OR runs.status = ANY($1))
    AND (cardinality($2::text[]) = 0 OR runs.project = ANY($2))
ORDER BY runs.submitted_at DESC, runs.id DESC
LIMIT $6
