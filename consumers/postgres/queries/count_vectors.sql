-- How many vectors a project ($1) has in a session ($2), at most $3. {vectors} is an embedder's table.
SELECT count(*) FROM (SELECT FROM {vectors} WHERE project = $1 AND session = $2 LIMIT $3) AS found
