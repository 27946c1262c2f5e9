-- Whoever writes read models in schema $1 says so for this transaction. Whether a rebuild is under way, so that its tables
-- are to be written too: its beginning waits for those who did not know yet.
SELECT pg_advisory_xact_lock_shared(hashtextextended($1 || ' projecting', 0)),
    NOT pg_try_advisory_xact_lock_shared(hashtextextended($1 || ' rebuilding', 0)) AS rebuilding
