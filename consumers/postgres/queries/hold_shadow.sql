-- Nobody else writes the read models that are built anew for schema $1 until the end of this transaction.
SELECT pg_advisory_xact_lock(hashtextextended($1 || ' shadow', 0))
