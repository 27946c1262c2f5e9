-- Whoever adds to the collection ($1) of a project ($2) waits for others who do, so that all count the same.
SELECT pg_advisory_xact_lock(hashtextextended(current_schema || ' records ' || $1, hashtextextended($2, 0)))
