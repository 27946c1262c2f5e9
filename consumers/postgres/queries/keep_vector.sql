-- Keep the vector ($2) of a memory ($1) in {vectors}, if that is still there.
INSERT INTO {vectors} (memory, project, session, embedding)
SELECT id, project, session, $2::text::halfvec FROM memories WHERE id = $1 FOR KEY SHARE
ON CONFLICT (memory) DO NOTHING
