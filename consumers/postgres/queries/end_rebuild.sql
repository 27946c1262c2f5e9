-- From now on what is projected in schema $1 goes to its own tables only.
SELECT pg_advisory_unlock(hashtextextended($1 || ' rebuilding', 0))
