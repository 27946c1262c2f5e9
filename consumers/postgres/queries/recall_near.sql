-- The same by the index of {vectors}, which has their first {width} dimensions ({part}): of twice as many as are wanted,
-- which the index gives nearly in their order, the nearest.
SELECT memory, embedding <=> (SELECT $3::text::halfvec) AS distance FROM (
    SELECT memory, embedding FROM {vectors}
    WHERE project = $1 AND session = $2
    ORDER BY {part} <=> (SELECT subvector($3::text::halfvec, 1, {width})::halfvec({width}))
    LIMIT 2 * $4::int
) AS near
ORDER BY distance, memory
LIMIT $4
