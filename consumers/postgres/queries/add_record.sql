-- records: keep a new one of project $1, collection $2, with id $3, time $4 and data $5, of at most $6.
-- 1 kept, 0 there is one already, -1 full.
WITH known AS (
    SELECT FROM records WHERE project = $1 AND collection = $2 AND id = $3
), added AS (
    INSERT INTO records (project, collection, id, at, data)
    SELECT $1, $2, $3, $4, $5
    WHERE NOT EXISTS (SELECT FROM known)
        AND (SELECT count(*) FROM records WHERE project = $1 AND collection = $2) < $6::bigint
    RETURNING id
)
SELECT CASE WHEN EXISTS (SELECT FROM known) THEN 0 WHEN EXISTS (SELECT FROM added) THEN 1 ELSE -1 END
