-- Ids and distances of the $4 memories of project $1 and session $2 that are nearest to a vector ($3): all are compared.
-- {vectors} is an embedder's table. The vector is read in a query of its own: once, not for each row. What is added keeps
-- the index out, which would find only most of them.
SELECT memory, (embedding <=> (SELECT $3::text::halfvec)) + 0 AS distance FROM {vectors}
WHERE project = $1 AND session = $2
ORDER BY distance, memory
LIMIT $4
