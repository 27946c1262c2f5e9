-- From now on what is projected in schema $1 goes to the tables of its rebuild too (see begin_write).
SELECT pg_advisory_lock(hashtextextended($1 || ' rebuilding', 0))
