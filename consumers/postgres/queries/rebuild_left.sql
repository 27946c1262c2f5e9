-- Whether schema $2 is what a rebuild of the read models of schema $1 left that is over: then none begins until the end of
-- this transaction.
SELECT CASE
    WHEN EXISTS (SELECT FROM pg_namespace WHERE nspname = $2)
    THEN pg_try_advisory_xact_lock(hashtextextended($1 || ' rebuild', 0))
    ELSE false
END
