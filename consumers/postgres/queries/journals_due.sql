-- journals: at most $1 that are due.
SELECT run FROM journals WHERE due <= now() ORDER BY due LIMIT $1
