-- Nobody writes read models of schema $1 until the end of this transaction.
SELECT pg_advisory_xact_lock(hashtextextended($1 || ' projecting', 0))
