-- runs: what GoalSubmitted says, of several the first. $1 is a list of Submitted in JSON.
INSERT INTO runs (id, submitted_at, goal, project, session, wanted_strategy, wanted_expert)
SELECT DISTINCT ON (id) id, at, goal, project, session, strategy, expert
FROM json_to_recordset($1::json)
    AS said (id text, at timestamptz, goal text, project text, session text, strategy text, expert text)
ORDER BY id, at
ON CONFLICT (id) DO UPDATE SET
    (submitted_at, goal, project, session, wanted_strategy, wanted_expert)
    = (excluded.submitted_at, excluded.goal, excluded.project, excluded.session,
       excluded.wanted_strategy, excluded.wanted_expert)
WHERE runs.submitted_at IS NULL OR runs.submitted_at > excluded.submitted_at
