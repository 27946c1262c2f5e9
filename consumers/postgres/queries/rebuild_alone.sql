-- Whether this connection is now the one that rebuilds the read models of schema $1; until it ends, no other one is.
SELECT pg_try_advisory_lock(hashtextextended($1 || ' rebuild', 0))
