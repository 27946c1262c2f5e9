-- The newest $4 memories of project $1; of all its sessions where $2, else of session $3 and those of no session.
SELECT id, project, session, at, tag, text, trust, source FROM memories
WHERE project = $1 AND ($2 OR session IN ('', $3))
ORDER BY at DESC, id
LIMIT $4
