-- The memories of these ids ($1), in no order.
SELECT id, project, session, at, tag, text, trust, source FROM memories WHERE id = ANY ($1)
