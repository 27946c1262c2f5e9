-- Whether this connection is now the one that projects ($1 names the projection); until it ends, no other one is.
SELECT pg_try_advisory_lock(hashtextextended(current_schema || ' projection ' || $1, 0))
